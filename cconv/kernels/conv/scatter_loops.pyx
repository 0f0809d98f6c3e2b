"""Compiled loops of the input gradient by scattering; see scatter.pyx."""

from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memset

from cconv.kernels.conv.scatter cimport scatter_arguments
from cconv.kernels.core.simd cimport TILE_COLS, TILE_ROWS, VL, ceil_div, real, vclamp, vf, vload_n, vset, vstore_n
from cconv.kernels.core.tile cimport TILE_ADD, block_vectors, tile_across, tile_job


cdef inline int vectors_of(const scatter_arguments* s, Py_ssize_t nb) noexcept nogil:
    """Number of vectors per packed row of column block nb."""
    return block_vectors(min(<Py_ssize_t>TILE_COLS, s.span - nb * TILE_COLS))


# One chunk is a kernel row x a block of columns.
cdef void pack(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const scatter_arguments* s = <const scatter_arguments*>arguments
    cdef Py_ssize_t inner = s.inner, outer = s.outer, kernel_x = s.kernel_x, taps = s.kernel_y * kernel_x
    cdef Py_ssize_t ky = i // s.blocks, nb = i % s.blocks, width = vectors_of(s, nb) * VL, k, j, kx, c
    cdef const real* w = <real*>operand[0] + ky * kernel_x
    cdef real* packed = <real*>operand[1] + ky * inner * s.columns + nb * TILE_COLS * inner
    for j in range(width):
        kx = (nb * TILE_COLS + j) // outer
        c = (nb * TILE_COLS + j) % outer
        for k in range(inner):
            packed[k * width + j] = w[(k * outer + c) * taps + kx] if kx < kernel_x else 0


# One chunk is an image x a block of rows of dx.
cdef void gather(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const scatter_arguments* s = <const scatter_arguments*>arguments
    cdef Py_ssize_t n = i // s.jobs_y, first = i % s.jobs_y * s.rows
    cdef Py_ssize_t last = min(first + s.rows, s.height), ky, up, begin, end
    cdef real* sums = <real*>scratch
    start(s, operand, sums, last - first)
    for ky in range(s.kernel_y):
        up = s.pad_y - ky * s.dilation_y   # row (y + up) / stride of dy reaches row y of dx
        begin = ceil_div(first + up, s.stride_y)
        end = min(s.dy_height, ceil_div(last + up, s.stride_y))
        if begin < end:
            multiply(s, operand, n, ky, begin, end, sums + (begin * s.stride_y - up - first) * s.pitch)
    finish(s, operand, sums, (n * s.height + first) * s.width * s.outer, last - first)


cdef void start(const scatter_arguments* s, char** operand, real* sums, Py_ssize_t rows) noexcept nogil:
    """Initialise every pixel of the buffer with the bias, or with zero."""
    cdef Py_ssize_t size = s.positions * s.outer * <Py_ssize_t>sizeof(real), p, y
    memset(sums, 0, size)
    if s.biased:
        for p in range(s.positions):
            memcpy(sums + p * s.outer, operand[2], s.outer * sizeof(real))
    for y in range(1, rows):
        memcpy(sums + y * s.pitch, sums, size)


cdef void multiply(const scatter_arguments* s, char** operand, Py_ssize_t n, Py_ssize_t ky, Py_ssize_t first,
                   Py_ssize_t last, real* sums) noexcept nogil:
    """Add the products of rows first..last-1 of dy with kernel row ky. Row `first` adds to the buffer row at `sums`."""
    cdef Py_ssize_t inner = s.inner, dy_width = s.dy_width, dy_row = dy_width * inner
    cdef Py_ssize_t zero = 0, nb, t, x, begin, end, half, next_c = s.stride_x * s.outer
    cdef Py_ssize_t tiles = ceil_div(last - first, TILE_ROWS)
    cdef const real* dy = <real*>operand[0] + (n * s.dy_height + first) * dy_row
    cdef int vectors
    cdef const char* a
    cdef real* c
    cdef tile_job job
    job.offset = &zero
    job.segments = 1
    job.depth = inner
    job.row = dy_row * sizeof(real)
    job.step = sizeof(real)
    job.ldc = s.stride_y * s.pitch
    job.mode = TILE_ADD
    job.ahead = <const char*>dy
    job.ahead_step = 0
    for nb in range(s.blocks):
        job.b = <real*>operand[1] + ky * inner * s.columns + nb * TILE_COLS * inner
        job.columns = min(<Py_ssize_t>TILE_COLS, s.span - nb * TILE_COLS)
        vectors = vectors_of(s, nb)
        for t in range(tiles):
            begin = (last - first) * t // tiles
            end = (last - first) * (t + 1) // tiles
            half = (end - begin + 1) // 2
            a = <const char*>(dy + begin * dy_row)
            c = sums + begin * job.ldc + nb * TILE_COLS
            for x in range(dy_width):
                tile_across[end - begin][vectors - 1](&job, a, a + half * job.row, c, c + half * job.ldc)
                a += inner * sizeof(real)
                c += next_c


cdef void finish(const scatter_arguments* s, char** operand, const real* sums, Py_ssize_t place,
                 Py_ssize_t rows) noexcept nogil:
    """Copy the buffer without its padding to the target, from element `place` on. Adds the residual, and clamps."""
    cdef Py_ssize_t size = s.width * s.outer, y, j, count
    cdef const real* from_
    cdef const real* residual
    cdef real* target
    cdef bint adds = s.residual, clamped = s.clamped
    cdef vf value, low = vset(<real>s.low), high = vset(<real>s.high)
    for y in range(rows):
        from_ = sums + y * s.pitch + s.pad_x * s.outer
        residual = <real*>operand[3] + place + y * size
        target = <real*>operand[4] + place + y * size
        j = 0
        while j < size:
            count = min(<Py_ssize_t>VL, size - j)
            value = vload_n(from_ + j, count)
            if adds:
                value += vload_n(residual + j, count)
            if clamped:
                value = vclamp(value, low, high)
            vstore_n(target + j, value, count)
            j += VL


LOOPS = {
    "pack": <uintptr_t>pack,
    "gather": <uintptr_t>gather,
}
