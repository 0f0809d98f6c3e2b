"""Batched matrix products C[b] = alpha * A[b] @ B[b] (+ bias), float32 or float64.

There are three algorithms:

    blocks         Blocked for the register tile of the convolutions (tile.h). A block of columns of B is packed into
    the
                   thread's buffer, stays in L1, and is multiplied by all rows of the job's block of A. A is read in
                   place, by rows or by columns.
    dot_products   For very few rows of A, as in a fully connected layer with a small batch. Requires stride 1 of B
                   along K. B is read in place, once; each element of C is a dot product (dots.h).
    transposed     For somewhat more rows of A. Requires stride 1 of B along K. Computes the transpose of C: the rows of
                   A are packed, and B is read in place.

The last two exist because, with few rows of A, packing B would cost more than the product. Each element of C is summed
in one job, in the order of the blocks of the inner axis K.
"""

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport FLOPS_PER_LANE, Step
from cconv.kernels.gemm.gemm cimport gemm_arguments

from cconv.kernels.schedule import settings


cdef class Gemm(Step):
    """C[b, m, n] = alpha * sum over k of A[b, m, k] * B[b, k, n] + bias[n].

    Parallel over matrices of the batch, blocks of rows and shares of the columns.

    Args:
        build: the Build whose compiled loops run.
        rows, columns, inner: sizes M, N, K.
        a_strides, b_strides: strides in elements along (m, k) of A and (k, n) of B. One stride of A must be 1.
        a_offsets, b_offsets: for each batch element, where its matrices begin, in elements.
        alpha: factor on the product.
        bias: whether a bias is added.

    Operands: A, B, bias (N,) or none, C (batch, M, N), dense.

    Raises:
        ValueError: neither of A's strides is 1, or the lists of offsets differ in length.
    """

    cdef gemm_arguments sizes

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t inner, a_strides, b_strides,
                 a_offsets=(0,), b_offsets=(0,), double alpha=1, bint bias=False):
        cdef gemm_arguments* s = &self.sizes
        cdef Py_ssize_t lanes = build.lanes, tile_columns = build.tile_columns, batch = len(a_offsets)
        cdef Py_ssize_t block_inner = settings.GEMM_BLOCK_INNER
        self.operands = 4
        self.arguments = s
        self.work = 2.0 * rows * columns * inner * batch / (FLOPS_PER_LANE * lanes)
        s.rows, s.columns, s.inner = rows, columns, inner
        s.a_row, s.a_step = a_strides
        s.b_row, s.b_column = b_strides
        s.across = s.a_step == 1 or inner <= 1
        if not s.across and s.a_row != 1 and rows > 1:
            raise ValueError(f"Gemm: one stride of A is 1; found {tuple(a_strides)}")
        if len(a_offsets) != len(b_offsets):
            raise ValueError(f"Gemm: {len(a_offsets)} matrices A but {len(b_offsets)} matrices B")
        s.a_offset, s.b_offset = self.longs(a_offsets), self.longs(b_offsets)
        s.alpha, s.biased = alpha, bias
        s.inner_blocks = max(1, ceil_div(inner, block_inner))
        s.packed = min(inner, block_inner) * tile_columns
        few = s.across and s.b_row == 1 and inner > 1 and columns > tile_columns
        many_weights = columns * inner >= settings.GEMM_MANY_WEIGHTS
        most = lanes * (settings.GEMM_TRANSPOSED_VECTORS if many_weights else 1)
        if few and rows <= settings.GEMM_DOT_ROWS:
            self.loop = build.loop("gemm", "dot_products")
            self.chunks = batch * self.cut_columns(batch, lanes)
        elif few and rows <= most:
            self.loop = build.loop("gemm", "transposed")
            self.chunks = batch * self.cut_columns(batch, build.tile_rows)
            self.scratch_bytes = whole_lines(s.packed * build.itemsize) + whole_lines(
                s.job_columns * tile_columns * build.itemsize)
        else:
            self.loop = build.loop("gemm", "blocks")
            s.column_blocks = ceil_div(columns, tile_columns)
            s.jobs_m = ceil_div(rows, settings.GEMM_BLOCK_ROWS)
            least = ceil_div(settings.GEMM_LEAST_JOBS, max(1, batch * s.jobs_m))
            s.jobs_n = max(1, min(s.column_blocks, least))
            self.chunks = batch * s.jobs_m * s.jobs_n if columns else 0
            self.scratch_bytes = whole_lines(s.packed * build.itemsize)

    cdef Py_ssize_t cut_columns(self, Py_ssize_t batch, Py_ssize_t unit) except -1:
        """Split the columns of C into jobs of a multiple of `unit` columns. Returns the number of jobs."""
        cdef gemm_arguments* s = &self.sizes
        s.job_columns = ceil_div(s.columns, max(1, ceil_div(settings.GEMM_LEAST_JOBS, max(1, batch))))
        s.job_columns = ceil_div(s.job_columns, unit) * unit
        return ceil_div(s.columns, s.job_columns)


cdef Py_ssize_t whole_lines(Py_ssize_t nbytes) noexcept nogil:
    """Round a number of bytes up to whole cache lines."""
    return ceil_div(nbytes, 64) * 64
