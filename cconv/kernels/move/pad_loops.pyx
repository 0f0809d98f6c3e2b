"""Loops of padding; pad.pyx describes the tables that they walk."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

from cconv.kernels.core.element cimport item
from cconv.kernels.core.simd cimport real
from cconv.kernels.move.pad cimport MAX_AXES, pad_arguments


cdef inline Py_ssize_t source_of(const pad_arguments* s, Py_ssize_t row) noexcept nogil:
    """Where the row of x begins that row `row` of y shows; -1: y's row shows the value alone."""
    cdef Py_ssize_t source = 0, place
    cdef int axis
    for axis in range(s.outer - 1, -1, -1):
        place = s.entries[axis][row % s.sizes[axis]]
        row //= s.sizes[axis]
        if place < 0:
            return -1
        source += place * s.strides[axis]
    return source


cdef void gather(const pad_arguments* s, const item* x, item* y, Py_ssize_t row) noexcept nogil:
    """Write a row of y."""
    cdef const Py_ssize_t* table = s.table
    cdef Py_ssize_t source = source_of(s, row), first = s.run_first, end = s.run_end, columns = s.columns, i
    cdef item value
    memcpy(&value, s.value, sizeof(item))
    y += row * columns
    if source < 0:
        for i in range(columns):
            y[i] = value
        return
    x += source
    for i in range(first):
        y[i] = x[table[i]] if table[i] >= 0 else value
    if first < end:
        memcpy(y + first, x + table[first], (end - first) * sizeof(item))
    for i in range(end, columns):
        y[i] = x[table[i]] if table[i] >= 0 else value


cdef void pad(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const pad_arguments* s = <const pad_arguments*>arguments
    cdef const char* x = operand[0]
    cdef char* y = operand[1]
    cdef Py_ssize_t row
    for row in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.rows)):
        if s.itemsize == 4:
            gather(s, <const uint32_t*>x, <uint32_t*>y, row)
        elif s.itemsize == 8:
            gather(s, <const uint64_t*>x, <uint64_t*>y, row)
        elif s.itemsize == 1:
            gather(s, <const uint8_t*>x, <uint8_t*>y, row)
        else:
            gather(s, <const uint16_t*>x, <uint16_t*>y, row)


cdef void scatter(const pad_arguments* s, const real* dy, real* dx) noexcept nogil:
    """Add a row of dy to the places of dx that it shows."""
    cdef const Py_ssize_t* table = s.table
    cdef Py_ssize_t first = s.run_first, end = s.run_end, i
    cdef const real* source
    cdef real* target
    for i in range(first):
        if table[i] >= 0:
            dx[table[i]] += dy[i]
    if first < end:
        source = dy + first
        target = dx + table[first]
        for i in range(end - first):
            target[i] += source[i]
    for i in range(end, s.columns):
        if table[i] >= 0:
            dx[table[i]] += dy[i]


cdef void sum_rows(const pad_arguments* s, const real* dy, real* dx, Py_ssize_t row) noexcept nogil:
    """Write a row of dx: the sum over all rows of dy that show it."""
    cdef Py_ssize_t first[MAX_AXES]
    cdef Py_ssize_t end[MAX_AXES]
    cdef Py_ssize_t at[MAX_AXES]
    cdef Py_ssize_t place, offset
    cdef int axis
    dx += row * s.source_columns
    memset(dx, 0, s.source_columns * sizeof(real))
    for axis in range(s.outer - 1, -1, -1):
        place = row % s.sizes[axis]
        row //= s.sizes[axis]
        first[axis], end[axis] = s.bounds[axis][place], s.bounds[axis][place + 1]
        at[axis] = first[axis]
        if first[axis] == end[axis]:
            return
    while True:
        offset = 0
        for axis in range(s.outer):
            offset += s.entries[axis][at[axis]] * s.strides[axis]
        scatter(s, dy + offset, dx)
        # The next combination of entries; the fastest of the other axes counts first.
        axis = s.outer - 1
        while axis >= 0:
            at[axis] += 1
            if at[axis] < end[axis]:
                break
            at[axis] = first[axis]
            axis -= 1
        if axis < 0:
            return


cdef void pad_gradient(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const pad_arguments* s = <const pad_arguments*>arguments
    cdef Py_ssize_t row
    for row in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.rows)):
        sum_rows(s, <const real*>operand[0], <real*>operand[1], row)


LOOPS = {"pad": <uintptr_t>pad, "pad_gradient": <uintptr_t>pad_gradient}
