"""Elementwise steps: activations, their gradients, arithmetic on equal shapes.

Parallel over flat chunks of CHUNK elements: elements are independent, and the chunk is large enough to hide
the cost of handing it out, small enough that two operands of it stay in L2.
"""

from cconv.kernels.simd cimport real
from cconv.kernels.step cimport OK, Step

cdef Py_ssize_t CHUNK = 32768

ctypedef void (*unary_loop)(const real* x, real* y, Py_ssize_t n, real a, real b) noexcept nogil
ctypedef void (*gradient_loop)(
    const real* dy, const real* v, real* dx, Py_ssize_t n, real a, real b) noexcept nogil
ctypedef void (*binary_loop)(const real* x, const real* y, real* z, Py_ssize_t n) noexcept nogil


cdef void relu(const real* x, real* y, Py_ssize_t n, real a, real b) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = x[i] if x[i] > 0 else <real>0


cdef void relu_gradient(
    const real* dy, const real* y, real* dx, Py_ssize_t n, real a, real b) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = dy[i] if y[i] > 0 else <real>0


cdef void add(const real* x, const real* y, real* z, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        z[i] = x[i] + y[i]


cdef unary_loop unary_of(str kind) except NULL:
    if kind == "relu":
        return relu
    raise ValueError(f"no unary loop {kind!r}")


cdef gradient_loop gradient_of(str kind) except NULL:
    if kind == "relu":
        return relu_gradient
    raise ValueError(f"no gradient loop {kind!r}")


cdef binary_loop binary_of(str kind) except NULL:
    if kind == "add":
        return add
    raise ValueError(f"no binary loop {kind!r}")


cdef class Flat(Step):
    """Base of steps over `size` independent elements."""

    cdef Py_ssize_t size

    cdef Py_ssize_t chunks(self) noexcept nogil:
        return (self.size + CHUNK - 1) // CHUNK

    cdef Py_ssize_t length(self, Py_ssize_t chunk) noexcept nogil:
        return min(CHUNK, self.size - chunk * CHUNK)


cdef class Unary(Flat):
    """y = f(x; a, b). Operands: x, y; y may be x."""

    cdef unary_loop loop
    cdef real a, b

    def __init__(self, str kind, Py_ssize_t size, double a=0, double b=0):
        self.operands = 2
        self.size = size
        self.loop = unary_of(kind)
        self.a = <real>a
        self.b = <real>b

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.chunks())
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK
        self.loop(<real*>self.operand[0] + start, <real*>self.operand[1] + start, self.length(i),
                  self.a, self.b)


cdef class UnaryGradient(Flat):
    """dx = dy * f'(v; a, b), v being x or y as the activation has it. Operands: dy, v, dx; dx may be either."""

    cdef gradient_loop loop
    cdef real a, b

    def __init__(self, str kind, Py_ssize_t size, double a=0, double b=0):
        self.operands = 3
        self.size = size
        self.loop = gradient_of(kind)
        self.a = <real>a
        self.b = <real>b

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.chunks())
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK
        self.loop(<real*>self.operand[0] + start, <real*>self.operand[1] + start,
                  <real*>self.operand[2] + start, self.length(i), self.a, self.b)


cdef class Binary(Flat):
    """z = x op y, equal shapes. Operands: x, y, z; z may be either."""

    cdef binary_loop loop

    def __init__(self, str kind, Py_ssize_t size):
        self.operands = 3
        self.size = size
        self.loop = binary_of(kind)

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.chunks())
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK
        self.loop(<real*>self.operand[0] + start, <real*>self.operand[1] + start,
                  <real*>self.operand[2] + start, self.length(i))
