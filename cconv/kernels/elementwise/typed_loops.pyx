"""Loops on values of any dtype: the formulas of typed.h, broadcast."""

from libc.stdint cimport uintptr_t

from cconv.kernels.elementwise.typed cimport MOST, map_arguments

cdef extern from "typed.h" nogil:
    ctypedef void (*typed_loop)(char** x, const Py_ssize_t* s, char* z, Py_ssize_t n) noexcept nogil
    ctypedef struct typed_row:
        const char* name
        typed_loop loop
        int operands
        Py_ssize_t bytes[4]
    const typed_row typed_rows[1]
    const int typed_count


cdef void map(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const map_arguments* s = <const map_arguments*>arguments
    cdef Py_ssize_t column = i % s.column_blocks * s.block_columns
    cdef Py_ssize_t columns = min(s.block_columns, s.columns - column)
    cdef Py_ssize_t first = i // s.column_blocks * s.block_rows
    cdef Py_ssize_t row, rest, place
    cdef Py_ssize_t at[MOST]
    cdef char* x[MOST]
    cdef int axis, k
    for row in range(first, min(first + s.block_rows, s.rows)):
        for k in range(s.count):
            at[k] = column * s.column_stride[k]
        rest = row
        for axis in range(s.outer - 1, -1, -1):
            place = rest % s.sizes[axis]
            rest //= s.sizes[axis]
            for k in range(s.count):
                at[k] += place * s.stride[axis][k]
        for k in range(s.count):
            x[k] = operand[k] + at[k] * s.bytes[k]
        (<typed_loop>s.formula)(x, s.column_stride, operand[s.count] + (row * s.columns + column) * s.result_bytes, columns)


LOOPS = {"map": <uintptr_t>map}
# Name of a formula: address of its loop, number of operands, bytes of an element of each operand, and of the result.
FORMULAS = {
    typed_rows[i].name.decode(): (
        <uintptr_t>typed_rows[i].loop, typed_rows[i].operands, [typed_rows[i].bytes[k] for k in range(MOST + 1)])
    for i in range(typed_count)
}
