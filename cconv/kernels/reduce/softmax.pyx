"""Softmax and LogSoftmax over one axis of a dense array, and their gradients, written in y.

    y = exp(x - m) / s     dx = y * (dy - sum(dy * y))         m = max x, s = sum exp(x - m)
    y = x - m - log s      dx = dy - exp(y) * sum(dy)

The array is (outer, n, inner) in memory with the axis in the middle, so any axis in any layout will do. With
inner = 1 a row is one run of vectors. Else up to WIDTH neighbouring columns are worked on side by side, their
maxima and sums kept in the thread's scratch. Parallel over rows, or over outer times blocks of columns.
"""

from libc.math cimport log

from cconv.kernels.core.simd cimport VL, real, vf, vload, vload_n, vmax, vset, vstore, vstore_n, vsum, vzero
from cconv.kernels.core.step cimport OK, Step

cdef extern from "vmath.h" nogil:
    vf vexp(vf x)
    real vtop(vf v)

cdef enum:
    WIDTH = 256

# Elements of a chunk: each costs an exponential.
CHUNK = 8192


cdef inline vf lanes(const real* p, Py_ssize_t n) noexcept nogil:
    """The next min(n, VL) elements; missing lanes are 0."""
    return vload(p) if n >= VL else vload_n(p, n)


cdef inline void put(real* p, vf v, Py_ssize_t n) noexcept nogil:
    if n >= VL:
        vstore(p, v)
    else:
        vstore_n(p, v, n)


cdef inline real maximum(const real* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef vf best = vset(x[0])
    cdef real result
    for i in range(n // VL):
        best = vmax(vload(x + i * VL), best)
    result = vtop(best)
    for i in range(n - n % VL, n):
        result = max(result, x[i])
    return result


cdef void softmax_row(const real* x, real* y, Py_ssize_t n, bint logarithm) noexcept nogil:
    cdef Py_ssize_t v, i, blocks = (n + VL - 1) // VL
    cdef vf shift = vset(maximum(x, n)), total = vzero(), e
    cdef real s
    for v in range(blocks):
        i = v * VL
        e = vexp(lanes(x + i, n - i) - shift)
        if n - i < VL:
            e = vload_n(<real*>&e, n - i)   # exp(0 - shift) in the missing lanes must not be summed
        total += e
        if not logarithm:
            put(y + i, e, n - i)
    s = vsum(total)
    if logarithm:
        e = vset(<real>log(<double>s))
        for v in range(blocks):
            i = v * VL
            put(y + i, (lanes(x + i, n - i) - shift) - e, n - i)
    else:
        e = vset(<real>1 / s)
        for v in range(blocks):
            i = v * VL
            put(y + i, lanes(y + i, n - i) * e, n - i)


cdef void gradient_row(const real* dy, const real* y, real* dx, Py_ssize_t n, bint logarithm) noexcept nogil:
    cdef Py_ssize_t v, i, blocks = (n + VL - 1) // VL
    cdef vf total = vzero(), d
    for v in range(blocks):
        i = v * VL
        d = lanes(dy + i, n - i)
        total += d if logarithm else d * lanes(y + i, n - i)
    total = vset(vsum(total))
    for v in range(blocks):
        i = v * VL
        if logarithm:
            put(dx + i, lanes(dy + i, n - i) - vexp(lanes(y + i, n - i)) * total, n - i)
        else:
            put(dx + i, lanes(y + i, n - i) * (lanes(dy + i, n - i) - total), n - i)


cdef void softmax_columns(const real* x, real* y, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t width,
                          real* top, real* total, bint logarithm) noexcept nogil:
    """Columns 0..width-1; element k of a column is `inner` after element k - 1."""
    cdef Py_ssize_t k, v, c, blocks = (width + VL - 1) // VL
    cdef const real* row
    cdef real* out
    cdef vf e
    for v in range(blocks):
        c = v * VL
        vstore(top + c, lanes(x + c, width - c))
        vstore(total + c, vzero())
    for k in range(1, n):
        row = x + k * inner
        for v in range(blocks):
            c = v * VL
            vstore(top + c, vmax(lanes(row + c, width - c), vload(top + c)))
    for k in range(n):
        row = x + k * inner
        out = y + k * inner
        for v in range(blocks):
            c = v * VL
            e = vexp(lanes(row + c, width - c) - vload(top + c))
            vstore(total + c, vload(total + c) + e)
            if not logarithm:
                put(out + c, e, width - c)
    for c in range(width):
        total[c] = <real>log(<double>total[c]) if logarithm else <real>1 / total[c]
    for k in range(n):
        row = x + k * inner
        out = y + k * inner
        for v in range(blocks):
            c = v * VL
            if logarithm:
                put(out + c, (lanes(row + c, width - c) - vload(top + c)) - vload(total + c), width - c)
            else:
                put(out + c, lanes(out + c, width - c) * vload(total + c), width - c)


cdef void gradient_columns(const real* dy, const real* y, real* dx, Py_ssize_t n, Py_ssize_t inner,
                           Py_ssize_t width, real* total, bint logarithm) noexcept nogil:
    cdef Py_ssize_t k, v, c, i, blocks = (width + VL - 1) // VL
    cdef vf d
    for v in range(blocks):
        vstore(total + v * VL, vzero())
    for k in range(n):
        for v in range(blocks):
            c = v * VL
            i = k * inner + c
            d = lanes(dy + i, width - c)
            vstore(total + c, vload(total + c) + (d if logarithm else d * lanes(y + i, width - c)))
    for k in range(n):
        for v in range(blocks):
            c = v * VL
            i = k * inner + c
            d = lanes(dy + i, width - c)
            if logarithm:
                put(dx + i, d - vexp(lanes(y + i, width - c)) * vload(total + c), width - c)
            else:
                put(dx + i, lanes(y + i, width - c) * (d - vload(total + c)), width - c)


cdef class Rows(Step):
    """How (outer, n, inner) is cut: by rows where inner is 1, else by blocks of columns."""

    cdef Py_ssize_t outer, n, inner, blocks, jobs, per_chunk
    cdef bint logarithm

    def __init__(self, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, bint logarithm=False):
        self.outer, self.n, self.inner = outer, n, inner
        self.logarithm = logarithm
        self.blocks = (inner + WIDTH - 1) // WIDTH
        self.jobs = outer * self.blocks if n else 0
        self.per_chunk = max(1, CHUNK // max(1, n * min(inner, WIDTH)))
        self.scratch_bytes = 0 if inner == 1 else 2 * WIDTH * sizeof(real)

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.jobs + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t job, column
        for job in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.jobs)):
            column = job % self.blocks * WIDTH
            self.part(job // self.blocks * self.n * self.inner + column, min(WIDTH, self.inner - column),
                      <real*>self.scratch_of(thread))

    cdef void part(self, Py_ssize_t start, Py_ssize_t width, real* scratch) noexcept nogil:
        """Do `width` columns whose first element is number `start`."""
        pass


cdef class Softmax(Rows):
    """Softmax, or its logarithm, over the middle axis of (outer, n, inner). Operands: x, y; y may be x.

    A row that holds NaN or +inf, or nothing but -inf, is NaN.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.operands = 2

    cdef void part(self, Py_ssize_t start, Py_ssize_t width, real* scratch) noexcept nogil:
        cdef real* x = <real*>self.operand[0] + start
        cdef real* y = <real*>self.operand[1] + start
        if self.inner == 1:
            softmax_row(x, y, self.n, self.logarithm)
        else:
            softmax_columns(x, y, self.n, self.inner, width, scratch, scratch + WIDTH, self.logarithm)


cdef class SoftmaxGradient(Rows):
    """Gradient of Softmax out of its y. Operands: dy, y, dx; dx may be either."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.operands = 3

    cdef void part(self, Py_ssize_t start, Py_ssize_t width, real* scratch) noexcept nogil:
        cdef real* dy = <real*>self.operand[0] + start
        cdef real* y = <real*>self.operand[1] + start
        cdef real* dx = <real*>self.operand[2] + start
        if self.inner == 1:
            gradient_row(dy, y, dx, self.n, self.logarithm)
        else:
            gradient_columns(dy, y, dx, self.n, self.inner, width, scratch, self.logarithm)
