"""Products of matrices: C[b] = alpha * A[b] @ B[b] (+ bias), batched, float32 or float64.

Blocked for the same register tile as the convolutions: a block of B is packed by columns into the thread's
buffer, where it stays in L1 while all rows of the job's block of A pass over it. A is read where it is, by rows
or by columns. Each element of C is summed in one job, over blocks of the inner axis in their order.
"""

import numpy as np

from libc.stdint cimport uintptr_t

from cconv.kernels.simd cimport TILE_COLS, TILE_ROWS, VL, real
from cconv.kernels.step cimport FLOPS_PER_LANE, OK, Step
from cconv.kernels.tile cimport (
    TILE_ADD, TILE_BIAS, TILE_STORE, block_vectors, tile_across, tile_along, tile_job,
)

# Rows of A of a job, and the part of the inner axis that a packed block of B covers (256 x 32 floats: 32 KB).
BLOCK_ROWS, BLOCK_INNER = 224, 256
# Jobs that a product is cut into at the least, if it has that many blocks of columns.
LEAST_JOBS = 16


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef class Gemm(Step):
    """C[b, m, n] = alpha * sum over k of A[b, m, k] * B[b, k, n] + bias[n].

    Args:
        rows, columns, inner: sizes M, N, K.
        a_strides, b_strides: elements between neighbours along (m, k) of A and (k, n) of B; one of A's is 1.
        a_offsets, b_offsets: for each batch element, where its matrices begin, in elements.
        alpha: factor on the product.
        bias: whether there is one.

    Operands: A, B, bias (N,) or none, C (batch, M, N), dense.

    Raises:
        ValueError: neither of A's strides is 1, or the lists of offsets differ in length.
    """

    cdef Py_ssize_t rows, columns, inner, batch
    cdef Py_ssize_t a_row, a_step, b_row, b_column
    cdef Py_ssize_t jobs_m, jobs_n, inner_blocks, column_blocks
    cdef const Py_ssize_t* a_offset
    cdef const Py_ssize_t* b_offset
    cdef real alpha
    cdef bint across, biased
    cdef list keep

    def __init__(self, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t inner, a_strides, b_strides,
                 a_offsets=(0,), b_offsets=(0,), double alpha=1, bint bias=False):
        self.operands = 4
        self.work = 2.0 * rows * columns * inner * len(a_offsets) / (FLOPS_PER_LANE * VL)
        self.rows, self.columns, self.inner = rows, columns, inner
        self.a_row, self.a_step = a_strides
        self.b_row, self.b_column = b_strides
        self.across = self.a_step == 1 or inner <= 1
        if not self.across and self.a_row != 1 and rows > 1:
            raise ValueError(f"Gemm: one stride of A is 1; found {tuple(a_strides)}")
        if len(a_offsets) != len(b_offsets):
            raise ValueError(f"Gemm: {len(a_offsets)} matrices A but {len(b_offsets)} matrices B")
        self.batch = len(a_offsets)
        arrays = [np.array(tuple(offsets) or (0,), dtype=np.intp) for offsets in (a_offsets, b_offsets)]
        self.keep = arrays
        self.a_offset = <const Py_ssize_t*><uintptr_t>arrays[0].ctypes.data
        self.b_offset = <const Py_ssize_t*><uintptr_t>arrays[1].ctypes.data
        self.alpha = <real>alpha
        self.biased = bias
        self.inner_blocks = max(1, ceil_div(inner, BLOCK_INNER))
        self.column_blocks = ceil_div(columns, TILE_COLS)
        self.jobs_m = ceil_div(rows, BLOCK_ROWS)
        jobs = self.batch * self.jobs_m
        self.jobs_n = max(1, min(self.column_blocks, ceil_div(LEAST_JOBS, max(1, jobs))))
        self.scratch_bytes = ceil_div(min(inner, BLOCK_INNER) * TILE_COLS * sizeof(real), 64) * 64

    cdef int run(self) noexcept nogil:
        if self.columns:
            self.parallel(0, self.batch * self.jobs_m * self.jobs_n)
        return OK

    # Parallel axis: matrices of the batch x blocks of rows x shares of the columns.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t n = i % self.jobs_n
        cdef Py_ssize_t m = i // self.jobs_n % self.jobs_m
        cdef Py_ssize_t batch = i // (self.jobs_n * self.jobs_m)
        cdef Py_ssize_t first = self.rows * m // self.jobs_m, last = self.rows * (m + 1) // self.jobs_m
        cdef Py_ssize_t nb, kb, begin, depth, t, tiles, r0, r1, half, zero = 0
        cdef const real* a = <real*>self.operand[0] + self.a_offset[batch]
        cdef const real* b = <real*>self.operand[1] + self.b_offset[batch]
        cdef real* c = <real*>self.operand[3] + batch * self.rows * self.columns
        cdef real* packed = <real*>self.scratch_of(thread)
        cdef const char* source
        cdef real* target
        cdef int vectors
        cdef tile_job job
        job.offset = &zero
        job.segments = 1
        job.row = self.a_row * sizeof(real) if self.across else sizeof(real)
        job.step = sizeof(real) if self.across else self.a_step * sizeof(real)
        job.ldc = self.columns
        job.b = packed
        tiles = (last - first + TILE_ROWS - 1) // TILE_ROWS
        for nb in range(self.column_blocks * n // self.jobs_n, self.column_blocks * (n + 1) // self.jobs_n):
            job.columns = min(<Py_ssize_t>TILE_COLS, self.columns - nb * TILE_COLS)
            vectors = block_vectors(job.columns)
            job.bias = <real*>self.operand[2] + nb * TILE_COLS
            for kb in range(self.inner_blocks):
                begin = self.inner * kb // self.inner_blocks
                depth = self.inner * (kb + 1) // self.inner_blocks - begin
                self.pack(b + begin * self.b_row + nb * TILE_COLS * self.b_column, packed, depth, job.columns,
                          vectors * VL)
                job.depth = depth
                job.mode = TILE_ADD if kb > 0 else (TILE_BIAS if self.biased else TILE_STORE)
                job.ahead = <const char*>job.b
                job.ahead_step = 0
                for t in range(tiles):
                    r0 = first + (last - first) * t // tiles
                    r1 = first + (last - first) * (t + 1) // tiles
                    half = (r1 - r0 + 1) // 2
                    source = <const char*>(a + r0 * self.a_row + begin * self.a_step)
                    target = c + r0 * self.columns + nb * TILE_COLS
                    if self.across:
                        tile_across[r1 - r0][vectors - 1](
                            &job, source, source + half * job.row, target, target + half * job.ldc)
                    else:
                        tile_along[r1 - r0][vectors - 1](
                            &job, source, source + half * job.row, target, target + half * job.ldc)

    cdef void pack(self, const real* b, real* packed, Py_ssize_t depth, Py_ssize_t columns,
                   Py_ssize_t width) noexcept nogil:
        """packed[k][n] = alpha * B[k, n], missing columns 0."""
        cdef Py_ssize_t k, n
        if self.b_column == 1:
            for k in range(depth):
                for n in range(columns):
                    packed[k * width + n] = self.alpha * b[k * self.b_row + n]
        else:
            for n in range(columns):
                for k in range(depth):
                    packed[k * width + n] = self.alpha * b[k * self.b_row + n * self.b_column]
        for k in range(depth):
            for n in range(columns, width):
                packed[k * width + n] = 0
