"""Elementwise steps: activations, their gradients, arithmetic on equal shapes. Loops: elementwise.h.

Parallel over flat chunks of CHUNK elements: elements are independent, and the chunk is large enough to hide
the cost of handing it out, small enough that two operands of it stay in L2.
"""

from libc.stdint cimport uintptr_t

from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport OK, Step

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

cdef Py_ssize_t CHUNK = 32768

# name: address of the loop.
UNARY = {unary_rows[i].name.decode(): <uintptr_t>unary_rows[i].loop for i in range(unary_count)}
GRADIENT = {gradient_rows[i].name.decode(): <uintptr_t>gradient_rows[i].loop for i in range(gradient_count)}
BINARY = {binary_rows[i].name.decode(): <uintptr_t>binary_rows[i].loop for i in range(binary_count)}


cdef uintptr_t loop_of(dict table, str kind) except 0:
    if kind not in table:
        raise ValueError(f"no loop {kind!r}; there are {', '.join(table)}")
    return table[kind]


cdef class Flat(Step):
    """Base of steps over `size` independent elements."""

    cdef Py_ssize_t size

    cdef Py_ssize_t count_chunks(self) noexcept nogil:
        return (self.size + CHUNK - 1) // CHUNK

    cdef Py_ssize_t length(self, Py_ssize_t chunk) noexcept nogil:
        return min(CHUNK, self.size - chunk * CHUNK)


cdef class Unary(Flat):
    """y = f(x; a, b). Operands: x, y; y may be x."""

    cdef unary_loop formula
    cdef real a, b

    def __init__(self, str kind, Py_ssize_t size, double a=0, double b=0):
        self.operands = 2
        self.size = size
        self.formula = <unary_loop>loop_of(UNARY, kind)
        self.a = <real>a
        self.b = <real>b

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.count_chunks())
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK
        self.formula(<real*>self.operand[0] + start, <real*>self.operand[1] + start, self.length(i),
                  self.a, self.b)


cdef class UnaryGradient(Flat):
    """dx = dy * f'(v; a, b), v being x or y as elementwise.h says. Operands: dy, v, dx; dx may be dy or v."""

    cdef gradient_loop formula
    cdef real a, b

    def __init__(self, str kind, Py_ssize_t size, double a=0, double b=0):
        self.operands = 3
        self.size = size
        self.formula = <gradient_loop>loop_of(GRADIENT, kind)
        self.a = <real>a
        self.b = <real>b

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.count_chunks())
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK
        self.formula(<real*>self.operand[0] + start, <real*>self.operand[1] + start,
                  <real*>self.operand[2] + start, self.length(i), self.a, self.b)


cdef class Binary(Flat):
    """z = x op y, equal shapes. Operands: x, y, z; z may be either."""

    cdef binary_loop formula

    def __init__(self, str kind, Py_ssize_t size):
        self.operands = 3
        self.size = size
        self.formula = <binary_loop>loop_of(BINARY, kind)

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.count_chunks())
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK
        self.formula(<real*>self.operand[0] + start, 0, 1, <real*>self.operand[1] + start, 0, 1,
                  <real*>self.operand[2] + start, 0, 1, self.length(i))
