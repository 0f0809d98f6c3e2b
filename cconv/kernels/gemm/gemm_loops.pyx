"""Compiled loops of matrix products, one per algorithm; gemm.pyx describes and chooses the algorithms."""

from libc.stdint cimport uintptr_t

from cconv.kernels.core.simd cimport TILE_COLS, TILE_ROWS, VL, ceil_div, real, vf, vset, vstore
from cconv.kernels.core.tile cimport (
    TILE_ADD, TILE_BIAS, TILE_STORE, block_vectors, tile_across, tile_along, tile_job,
)
from cconv.kernels.core.turn cimport LANES, load_turned
from cconv.kernels.gemm.gemm cimport gemm_arguments

cdef extern from "dots.h" nogil:
    void dots(const real* a, const real* b, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t depth, real alpha,
              const real* bias, real* c)


cdef void dot_products(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Compute some columns of C by dot products. VL columns of B stay in L1 while all rows of A use them."""
    cdef const gemm_arguments* s = <const gemm_arguments*>arguments
    cdef Py_ssize_t jobs = ceil_div(s.columns, s.job_columns), batch = i // jobs
    cdef Py_ssize_t n = i % jobs * s.job_columns, last = min(n + s.job_columns, s.columns), m
    cdef const real* a = <const real*>operand[0] + s.a_offset[batch]
    cdef const real* b = <const real*>operand[1] + s.b_offset[batch]
    cdef const real* bias = <const real*>operand[2]
    cdef real* c = <real*>operand[3] + batch * s.rows * s.columns
    while n < last:
        for m in range(s.rows):
            dots(a + m * s.a_row, b + n * s.b_column, s.b_column, min(<Py_ssize_t>VL, last - n), s.inner, <real>s.alpha,
                 bias + n if s.biased else NULL, c + m * s.columns + n)
        n += VL


cdef void transposed(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Compute some columns of C as rows of its transpose, and transpose them at the end."""
    cdef const gemm_arguments* s = <const gemm_arguments*>arguments
    cdef Py_ssize_t jobs = ceil_div(s.columns, s.job_columns), batch = i // jobs, columns = s.columns
    cdef Py_ssize_t first = i % jobs * s.job_columns, count = min(s.job_columns, columns - first)
    cdef Py_ssize_t kb, begin, m, n, tile, rows, half, zero = 0
    cdef int vectors = block_vectors(s.rows)
    cdef const real* a = <const real*>operand[0] + s.a_offset[batch]
    cdef const real* b = <const real*>operand[1] + s.b_offset[batch] + first * s.b_column
    cdef const real* bias = <const real*>operand[2] + first
    cdef real* c = <real*>operand[3] + batch * s.rows * columns + first
    cdef real* packed = <real*>scratch
    cdef real* sums = packed + s.packed
    cdef bint biased = s.biased
    cdef real alpha = <real>s.alpha
    cdef const char* source
    cdef real* target
    cdef tile_job job
    job.offset = &zero
    job.segments = 1
    job.row = s.b_column * sizeof(real)
    job.step = sizeof(real)
    job.b = packed
    job.columns = vectors * VL
    job.ldc = job.columns
    for kb in range(s.inner_blocks):
        begin = s.inner * kb // s.inner_blocks
        job.depth = s.inner * (kb + 1) // s.inner_blocks - begin
        pack_transposed(a + begin, s.a_row, s.rows, job.depth, 1, packed, vectors)
        job.mode = TILE_ADD if kb > 0 else TILE_STORE
        tile = 0
        while tile < count:
            rows = min(<Py_ssize_t>TILE_ROWS, count - tile)
            half = (rows + 1) // 2
            source = <const char*>(b + tile * s.b_column + begin)
            target = sums + tile * job.columns
            job.ahead = source + TILE_ROWS * job.row
            job.ahead_step = 0
            tile_across[rows][vectors - 1](&job, source, source + half * job.row, target, target + half * job.columns)
            tile += rows
    for m in range(s.rows):
        for n in range(count):
            c[m * columns + n] = alpha * sums[n * job.columns + m] + (bias[n] if biased else 0)


cdef void blocks(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Compute a block of rows and columns of C with register tiles."""
    cdef const gemm_arguments* s = <const gemm_arguments*>arguments
    cdef Py_ssize_t n = i % s.jobs_n, m = i // s.jobs_n % s.jobs_m, batch = i // (s.jobs_n * s.jobs_m)
    cdef Py_ssize_t first = s.rows * m // s.jobs_m, last = s.rows * (m + 1) // s.jobs_m
    cdef Py_ssize_t nb, kb, begin, t, tiles, r0, r1, half, zero = 0
    cdef const real* a = <const real*>operand[0] + s.a_offset[batch]
    cdef const real* b = <const real*>operand[1] + s.b_offset[batch]
    cdef real* c = <real*>operand[3] + batch * s.rows * s.columns
    cdef real* packed = <real*>scratch
    cdef const char* source
    cdef real* target
    cdef int vectors
    cdef tile_job job
    job.offset = &zero
    job.segments = 1
    job.row = s.a_row * sizeof(real) if s.across else sizeof(real)
    job.step = sizeof(real) if s.across else s.a_step * sizeof(real)
    job.ldc = s.columns
    job.b = packed
    tiles = (last - first + TILE_ROWS - 1) // TILE_ROWS
    for nb in range(s.column_blocks * n // s.jobs_n, s.column_blocks * (n + 1) // s.jobs_n):
        job.columns = min(<Py_ssize_t>TILE_COLS, s.columns - nb * TILE_COLS)
        vectors = block_vectors(job.columns)
        job.bias = <const real*>operand[2] + nb * TILE_COLS
        for kb in range(s.inner_blocks):
            begin = s.inner * kb // s.inner_blocks
            job.depth = s.inner * (kb + 1) // s.inner_blocks - begin
            pack(s, b + begin * s.b_row + nb * TILE_COLS * s.b_column, packed, job.depth, job.columns, vectors * VL)
            job.mode = TILE_ADD if kb > 0 else (TILE_BIAS if s.biased else TILE_STORE)
            job.ahead = <const char*>job.b
            job.ahead_step = job.ahead_row = 0
            for t in range(tiles):
                r0 = first + (last - first) * t // tiles
                r1 = first + (last - first) * (t + 1) // tiles
                half = (r1 - r0 + 1) // 2
                source = <const char*>(a + r0 * s.a_row + begin * s.a_step)
                target = c + r0 * s.columns + nb * TILE_COLS
                if s.across:
                    tile_across[r1 - r0][vectors - 1](
                        &job, source, source + half * job.row, target, target + half * job.ldc)
                else:
                    tile_along[r1 - r0][vectors - 1](
                        &job, source, source + half * job.row, target, target + half * job.ldc)


cdef void pack(const gemm_arguments* s, const real* b, real* packed, Py_ssize_t depth, Py_ssize_t columns,
               Py_ssize_t width) noexcept nogil:
    """Pack a block of B: packed[k][n] = alpha * B[k, n]. Columns from `columns` to width - 1 are 0."""
    cdef Py_ssize_t k, n, row = s.b_row, column = s.b_column
    cdef real alpha = <real>s.alpha
    if row == 1:
        pack_transposed(b, column, columns, depth, alpha, packed, width // VL)
        return
    for k in range(depth):
        for n in range(columns):
            packed[k * width + n] = alpha * b[k * row + n * column]
        for n in range(columns, width):
            packed[k * width + n] = 0


cdef inline void pack_transposed(const real* source, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t depth, real alpha,
                                 real* packed, Py_ssize_t vectors) noexcept nogil:
    """Transpose and pack: packed[k][m] = alpha * source[m * stride + k]. Where m is not below `rows`, packed is 0."""
    cdef Py_ssize_t k = 0, v, j, count
    cdef vf turned[LANES]
    while k < depth:
        count = min(<Py_ssize_t>VL, depth - k)
        for v in range(vectors):
            load_turned(source + v * VL * stride + k, stride, rows - v * VL, count, turned)
            for j in range(count):
                vstore(packed + ((k + j) * vectors + v) * VL, vset(alpha) * turned[j])
        k += VL


LOOPS = {
    "blocks": <uintptr_t>blocks,
    "dot_products": <uintptr_t>dot_products,
    "transposed": <uintptr_t>transposed,
}
