"""Loops of copies; copy.pyx describes how a copy becomes transpositions."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

from cconv.kernels.core.element cimport item
from cconv.kernels.core.simd cimport VL, real, store_part, vf
from cconv.kernels.core.step cimport CHUNK
from cconv.kernels.core.turn cimport LANES, load_turned
from cconv.kernels.move.copy cimport TILE, copy_arguments, fill_arguments


cdef inline void transpose_squares(const real* source, real* target, Py_ssize_t rows, Py_ssize_t columns,
                                   Py_ssize_t source_column, Py_ssize_t target_row) noexcept nogil:
    """transpose() for source_row = target_column = 1 and elements of the size of `real`: VL x VL elements at a time, in
    registers. For arrays in a cache this is 2 to 2.5 times as fast (32 times 16 x 25 floats: 7.5 -> 2.9 us)."""
    cdef Py_ssize_t r = 0, c, k, count, live
    cdef vf turned[LANES]
    while r < rows:
        count = min(<Py_ssize_t>VL, rows - r)
        c = 0
        while c < columns:
            live = min(<Py_ssize_t>VL, columns - c)
            load_turned(source + r + c * source_column, source_column, live, count, turned)
            for k in range(count):
                store_part(target + (r + k) * target_row + c, turned[k], live)
            c += VL
        r += VL


cdef inline void shuffle(const item* source, item* target, Py_ssize_t pixels, Py_ssize_t plane, const int planes,
                         const bint to_planes) noexcept nogil:
    """transpose() between planes and pixels, for a constant number of planes: compilers make shuffle instructions of
    this, which are 5 times as fast.

    Args:
        plane: elements from one plane to the next.
        to_planes: pixels to planes; else planes to pixels.
    """
    cdef Py_ssize_t i
    cdef int p
    for i in range(pixels):
        for p in range(planes):
            if to_planes:
                target[p * plane + i] = source[planes * i + p]
            else:
                target[planes * i + p] = source[p * plane + i]


cdef inline bint shuffle_planes(const item* source, item* target, Py_ssize_t pixels, Py_ssize_t plane,
                                Py_ssize_t planes, const bint to_planes) noexcept nogil:
    """Run shuffle() if there are 2 to 4 planes: the colours of an image, or a feature map of few pixels. Returns
    whether it ran."""
    if planes == 2:
        shuffle(source, target, pixels, plane, 2, to_planes)
    elif planes == 3:
        shuffle(source, target, pixels, plane, 3, to_planes)
    elif planes == 4:
        shuffle(source, target, pixels, plane, 4, to_planes)
    else:
        return False
    return True


cdef void transpose(
    const item* source, item* target, Py_ssize_t rows, Py_ssize_t columns,
    Py_ssize_t source_row, Py_ssize_t source_column, Py_ssize_t target_row, Py_ssize_t target_column
) noexcept nogil:
    """target[r * target_row + c * target_column] = source[r * source_row + c * source_column]."""
    cdef Py_ssize_t i, j, r, c
    cdef bint whole = source_row == 1 and target_column == 1
    if rows == 1 and source_column == 1 and target_column == 1:
        memcpy(target, source, columns * sizeof(item))
        return
    if whole and columns == target_row and shuffle_planes(source, target, rows, source_column, columns, False):
        return
    if whole and rows == source_column and shuffle_planes(source, target, columns, target_row, rows, True):
        return
    if whole and sizeof(item) == sizeof(real):
        transpose_squares(<const real*>source, <real*>target, rows, columns, source_column, target_row)
        return
    for i in range((rows + TILE - 1) // TILE):
        for j in range((columns + TILE - 1) // TILE):
            for r in range(i * TILE, min((i + 1) * TILE, rows)):
                for c in range(j * TILE, min((j + 1) * TILE, columns)):
                    target[r * target_row + c * target_column] = source[r * source_row + c * source_column]


cdef inline void copy_job(const copy_arguments* s, const item* source, item* target, Py_ssize_t job) noexcept nogil:
    """A block of rows and columns, at one place of the other axes."""
    cdef Py_ssize_t column = job % s.column_blocks * s.column_block
    cdef Py_ssize_t rest = job // s.column_blocks
    cdef Py_ssize_t row = rest % s.row_blocks * s.row_block, place
    cdef int axis
    rest //= s.row_blocks
    source += s.source_offset + row * s.source_row + column * s.source_column
    target += s.target_offset + row * s.target_row + column * s.target_column
    for axis in range(s.outer - 1, -1, -1):
        place = rest % s.size[axis]
        rest //= s.size[axis]
        source += place * s.source_stride[axis]
        target += place * s.target_stride[axis]
    transpose(source, target, min(s.row_block, s.rows - row), min(s.column_block, s.columns - column),
              s.source_row, s.source_column, s.target_row, s.target_column)


cdef void copy(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const copy_arguments* s = <const copy_arguments*>arguments
    cdef const char* source = operand[0]
    cdef char* target = operand[1]
    cdef Py_ssize_t job
    for job in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.jobs)):
        if s.itemsize == 4:
            copy_job(s, <const uint32_t*>source, <uint32_t*>target, job)
        elif s.itemsize == 8:
            copy_job(s, <const uint64_t*>source, <uint64_t*>target, job)
        elif s.itemsize == 1:
            copy_job(s, <const uint8_t*>source, <uint8_t*>target, job)
        else:
            copy_job(s, <const uint16_t*>source, <uint16_t*>target, job)


cdef inline void fill_items(item* y, Py_ssize_t n, const char* value) noexcept nogil:
    cdef Py_ssize_t k
    cdef item element
    memcpy(&element, value, sizeof(item))
    for k in range(n):
        y[k] = element


cdef void fill(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const fill_arguments* s = <const fill_arguments*>arguments
    cdef Py_ssize_t start = i * CHUNK, n = min(<Py_ssize_t>CHUNK, s.size - start)
    if s.itemsize == 4:
        fill_items(<uint32_t*>operand[0] + start, n, s.value)
    elif s.itemsize == 8:
        fill_items(<uint64_t*>operand[0] + start, n, s.value)
    elif s.itemsize == 1:
        fill_items(<uint8_t*>operand[0] + start, n, s.value)
    else:
        fill_items(<uint16_t*>operand[0] + start, n, s.value)


LOOPS = {"copy": <uintptr_t>copy, "fill": <uintptr_t>fill}
