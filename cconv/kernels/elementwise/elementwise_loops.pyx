"""Loops of elementwise arithmetic: the formulas of elementwise.h, on equal shapes and broadcast."""

from libc.stdint cimport uintptr_t

from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport CHUNK
from cconv.kernels.elementwise.elementwise cimport broadcast_arguments, flat_arguments

cdef extern from "elementwise.h" nogil:
    ctypedef void (*unary_loop)(const real* x, real* y, Py_ssize_t n, real a, real b) noexcept nogil
    ctypedef void (*gradient_loop)(
        const real* dy, const real* v, real* dx, Py_ssize_t n, real a, real b) noexcept nogil
    ctypedef void (*binary_loop)(
        const real* x, Py_ssize_t xr, Py_ssize_t xs, const real* y, Py_ssize_t yr, Py_ssize_t ys,
        real* z, Py_ssize_t zr, Py_ssize_t rows, Py_ssize_t n) noexcept nogil
    ctypedef struct unary_row:
        const char* name
        unary_loop loop
    ctypedef struct gradient_row:
        const char* name
        gradient_loop loop
    ctypedef struct binary_row:
        const char* name
        binary_loop loop
    const unary_row unary_rows[1]
    const gradient_row gradient_rows[1]
    const binary_row binary_rows[1]
    const int unary_count, gradient_count, binary_count


cdef void unary(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const flat_arguments* s = <const flat_arguments*>arguments
    cdef Py_ssize_t start = i * CHUNK
    (<unary_loop>s.formula)(<real*>operand[0] + start, <real*>operand[1] + start, min(<Py_ssize_t>CHUNK, s.size - start),
                            <real>s.a, <real>s.b)


cdef void gradient(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const flat_arguments* s = <const flat_arguments*>arguments
    cdef Py_ssize_t start = i * CHUNK
    (<gradient_loop>s.formula)(<real*>operand[0] + start, <real*>operand[1] + start, <real*>operand[2] + start,
                               min(<Py_ssize_t>CHUNK, s.size - start), <real>s.a, <real>s.b)


cdef void binary(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const flat_arguments* s = <const flat_arguments*>arguments
    cdef Py_ssize_t start = i * CHUNK
    (<binary_loop>s.formula)(<real*>operand[0] + start, 0, 1, <real*>operand[1] + start, 0, 1,
                             <real*>operand[2] + start, 0, 1, min(<Py_ssize_t>CHUNK, s.size - start))


cdef void broadcast(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const broadcast_arguments* s = <const broadcast_arguments*>arguments
    cdef binary_loop formula = <binary_loop>s.formula
    cdef Py_ssize_t column = i % s.column_blocks * s.block_columns
    cdef Py_ssize_t columns = min(s.block_columns, s.columns - column)
    cdef Py_ssize_t row = i // s.column_blocks * s.block_rows
    cdef Py_ssize_t end = min(row + s.block_rows, s.all_rows)
    cdef Py_ssize_t x, y, n, rest
    cdef int axis
    while row < end:
        n = min(s.rows - row % s.rows, end - row)
        x = column * s.x_column + row % s.rows * s.x_row
        y = column * s.y_column + row % s.rows * s.y_row
        rest = row // s.rows
        for axis in range(s.outer - 1, -1, -1):
            x += rest % s.sizes[axis] * s.x_stride[axis]
            y += rest % s.sizes[axis] * s.y_stride[axis]
            rest //= s.sizes[axis]
        formula(<real*>operand[0] + x, s.x_row, s.x_column, <real*>operand[1] + y, s.y_row, s.y_column,
                <real*>operand[2] + row * s.columns + column, s.columns, n, columns)
        row += n


LOOPS = {
    "unary": <uintptr_t>unary, "gradient": <uintptr_t>gradient, "binary": <uintptr_t>binary,
    "broadcast": <uintptr_t>broadcast,
}
# Name of a formula: address of its loop.
UNARY = {unary_rows[i].name.decode(): <uintptr_t>unary_rows[i].loop for i in range(unary_count)}
GRADIENT = {gradient_rows[i].name.decode(): <uintptr_t>gradient_rows[i].loop for i in range(gradient_count)}
BINARY = {binary_rows[i].name.decode(): <uintptr_t>binary_rows[i].loop for i in range(binary_count)}
