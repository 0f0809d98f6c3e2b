"""Products of matrices: C[b] = alpha * A[b] @ B[b] (+ bias), batched, float32 or float64.

Blocked for the same register tile as the convolutions: a block of B is packed by columns into the thread's
buffer, where it stays in L1 while all rows of the job's block of A pass over it. A is read where it is, by rows
or by columns. Each element of C is summed in one job, over blocks of the inner axis in their order.

Where A has few rows, as in a fully connected layer, packing B would cost more than the product. If B lies along the
inner axis, it is read where it is, once: very few rows are multiplied by dot products (dots.h), some more as C's
transpose, for which A's rows are packed.
"""

import numpy as np

from libc.stdint cimport uintptr_t

from cconv.kernels.core.simd cimport TILE_COLS, TILE_ROWS, VL, ceil_div, real, vf, vset, vstore
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step
from cconv.kernels.core.tile cimport (
    TILE_ADD, TILE_BIAS, TILE_STORE, block_vectors, tile_across, tile_along, tile_job,
)
from cconv.kernels.core.turn cimport LANES, load_turned

cdef extern from "dots.h" nogil:
    void dots(const real* a, const real* b, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t depth, real alpha,
              const real* bias, real* c)

# Rows of A of a job, and the part of the inner axis that a packed block of B covers (256 x 32 floats: 32 KB).
cdef Py_ssize_t BLOCK_ROWS = 224, BLOCK_INNER = 256
# A product of at most this many rows is computed as its transpose. 2 threads, before and after, in ms: one row of 1280 by
# 1000 columns 0.37 / 0.22, of 25088 by 4096 54 / 23; 16 rows of 4096 by 4096 10.9 / 6.0.
# Of more than VL rows only where B does not stay in L2. One thread, before and after, in us: 32 rows of 2048 by 1000
# columns 1,180 / 1,030, of 512 by 1000 286 / 267, of 400 by 120 28 / 40; 24 of 512 by 1000 243 / 258.
cdef Py_ssize_t FEW_ROWS = 2 * VL, MANY_WEIGHTS = 1 << 20
# At most so many rows are multiplied by dot products. One thread, transpose and dot products, in us: 1000 columns of 1280
# by 1 row 436 / 60, by 4 rows 484 / 228, by 8 rows 617 / 496; 120 columns of 400 by 8 rows 39 / 11.
cdef Py_ssize_t DOT_ROWS = 8
# Jobs that a product is cut into at the least, if it has that many blocks of columns.
LEAST_JOBS = 16


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
    cdef bint dotted, turned         # by dot products; C's transpose is computed
    cdef Py_ssize_t job_columns      # of a job then
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
        few = self.across and self.b_row == 1 and inner > 1 and columns > TILE_COLS
        self.dotted = few and rows <= DOT_ROWS
        self.turned = few and not self.dotted and rows <= (FEW_ROWS if columns * inner >= MANY_WEIGHTS else VL)
        self.job_columns = ceil_div(columns, max(1, ceil_div(LEAST_JOBS, max(1, self.batch))))
        unit = VL if self.dotted else TILE_ROWS
        self.job_columns = ceil_div(self.job_columns, unit) * unit
        self.scratch_bytes = 0 if self.dotted else ceil_div(min(inner, BLOCK_INNER) * TILE_COLS * sizeof(real), 64) * 64
        if self.turned:
            self.scratch_bytes += ceil_div(self.job_columns * TILE_COLS * sizeof(real), 64) * 64

    cdef int run(self) noexcept nogil:
        if self.dotted or self.turned:
            self.parallel(1 if self.turned else 2, self.batch * ceil_div(self.columns, self.job_columns))
        elif self.columns:
            self.parallel(0, self.batch * self.jobs_m * self.jobs_n)
        return OK

    # Parallel axis: matrices of the batch x blocks of rows x shares of the columns.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        if phase == 0:
            self.block(i, <real*>self.scratch_of(thread))
        elif phase == 1:
            self.turned_block(i, <real*>self.scratch_of(thread))
        else:
            self.dotted_block(i)

    cdef void dotted_block(self, Py_ssize_t i) noexcept nogil:
        """Some columns of C. VL rows of B stay in L1 while A's rows pass over them."""
        cdef Py_ssize_t jobs = ceil_div(self.columns, self.job_columns), batch = i // jobs
        cdef Py_ssize_t n = i % jobs * self.job_columns, last = min(n + self.job_columns, self.columns), m
        cdef const real* a = <real*>self.operand[0] + self.a_offset[batch]
        cdef const real* b = <real*>self.operand[1] + self.b_offset[batch]
        cdef const real* bias = <real*>self.operand[2] if self.biased else NULL
        cdef real* c = <real*>self.operand[3] + batch * self.rows * self.columns
        while n < last:
            for m in range(self.rows):
                dots(a + m * self.a_row, b + n * self.b_column, self.b_column, min(<Py_ssize_t>VL, last - n), self.inner,
                     self.alpha, bias + n if self.biased else NULL, c + m * self.columns + n)
            n += VL

    cdef void turned_block(self, Py_ssize_t i, real* packed) noexcept nogil:
        """Some columns of C, as rows of its transpose."""
        cdef Py_ssize_t jobs = ceil_div(self.columns, self.job_columns), batch = i // jobs
        cdef Py_ssize_t first = i % jobs * self.job_columns, count = min(self.job_columns, self.columns - first)
        cdef Py_ssize_t kb, begin, m, n, k, tile, rows, half, zero = 0
        cdef int vectors = block_vectors(self.rows)
        cdef const real* a = <real*>self.operand[0] + self.a_offset[batch]
        cdef const real* b = <real*>self.operand[1] + self.b_offset[batch] + first * self.b_column
        cdef const real* bias = <real*>self.operand[2] + first
        cdef real* c = <real*>self.operand[3] + batch * self.rows * self.columns + first
        cdef real* sums = packed + min(self.inner, BLOCK_INNER) * TILE_COLS
        cdef const char* source
        cdef real* target
        cdef tile_job job
        job.offset = &zero
        job.segments = 1
        job.row = self.b_column * sizeof(real)
        job.step = sizeof(real)
        job.b = packed
        job.columns = vectors * VL
        job.ldc = job.columns
        for kb in range(self.inner_blocks):
            begin = self.inner * kb // self.inner_blocks
            job.depth = self.inner * (kb + 1) // self.inner_blocks - begin
            pack_turned(a + begin, self.a_row, self.rows, job.depth, 1, packed, vectors)
            job.mode = TILE_ADD if kb > 0 else TILE_STORE
            tile = 0
            while tile < count:
                rows = min(<Py_ssize_t>TILE_ROWS, count - tile)
                half = (rows + 1) // 2
                source = <const char*>(b + tile * self.b_column + begin)
                target = sums + tile * job.columns
                job.ahead = source + TILE_ROWS * job.row
                job.ahead_step = 0
                tile_across[rows][vectors - 1](
                    &job, source, source + half * job.row, target, target + half * job.columns)
                tile += rows
        for m in range(self.rows):
            for n in range(count):
                c[m * self.columns + n] = self.alpha * sums[n * job.columns + m] + (bias[n] if self.biased else 0)

    cdef void block(self, Py_ssize_t i, real* packed) noexcept nogil:
        """Some rows and columns of C."""
        cdef Py_ssize_t n = i % self.jobs_n
        cdef Py_ssize_t m = i // self.jobs_n % self.jobs_m
        cdef Py_ssize_t batch = i // (self.jobs_n * self.jobs_m)
        cdef Py_ssize_t first = self.rows * m // self.jobs_m, last = self.rows * (m + 1) // self.jobs_m
        cdef Py_ssize_t nb, kb, begin, depth, t, tiles, r0, r1, half, zero = 0
        cdef const real* a = <real*>self.operand[0] + self.a_offset[batch]
        cdef const real* b = <real*>self.operand[1] + self.b_offset[batch]
        cdef real* c = <real*>self.operand[3] + batch * self.rows * self.columns
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
        if self.b_row == 1:
            pack_turned(b, self.b_column, columns, depth, self.alpha, packed, width // VL)
            return
        for k in range(depth):
            for n in range(columns):
                packed[k * width + n] = self.alpha * b[k * self.b_row + n * self.b_column]
            for n in range(columns, width):
                packed[k * width + n] = 0


cdef inline void pack_turned(const real* source, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t depth, real alpha,
                             real* packed, Py_ssize_t vectors) noexcept nogil:
    """packed[k][m] = alpha * source[m * stride + k], missing rows m 0."""
    cdef Py_ssize_t k = 0, v, j, count
    cdef vf turned[LANES]
    while k < depth:
        count = min(<Py_ssize_t>VL, depth - k)
        for v in range(vectors):
            load_turned(source + v * VL * stride + k, stride, rows - v * VL, count, turned)
            for j in range(count):
                vstore(packed + ((k + j) * vectors + v) * VL, vset(alpha) * turned[j])
        k += VL
