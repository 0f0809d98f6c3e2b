"""Loops of softmax; softmax.pyx gives the formulas and how the array is cut into jobs."""

from libc.math cimport log
from libc.stdint cimport uintptr_t

from cconv.kernels.core.simd cimport (
    VL, ceil_div, load_part, real, store_part, vf, vload, vload_n, vmax, vset, vstore, vsum, vzero,
)
from cconv.kernels.reduce.largest cimport largest
from cconv.kernels.reduce.softmax cimport WIDTH, softmax_arguments

cdef extern from "vmath.h" nogil:
    vf vexp(vf x)

# One row, or `width` columns, whose first element is number `start`.
ctypedef void (*job_body)(const softmax_arguments* s, char** operand, Py_ssize_t start, Py_ssize_t width,
                          real* scratch) noexcept nogil


cdef inline void each_job(job_body job, const void* arguments, char** operand, Py_ssize_t i,
                          char* scratch) noexcept nogil:
    """Jobs of chunk i."""
    cdef const softmax_arguments* s = <const softmax_arguments*>arguments
    cdef Py_ssize_t number, column
    for number in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.jobs)):
        column = number % s.blocks * WIDTH
        job(s, operand, number // s.blocks * s.n * s.inner + column, min(<Py_ssize_t>WIDTH, s.inner - column),
            <real*>scratch)


cdef void softmax_row(const real* x, real* y, Py_ssize_t n, bint logarithm) noexcept nogil:
    cdef Py_ssize_t v, i, blocks = ceil_div(n, VL)
    cdef vf shift = vset(largest(x, n)), total = vzero(), e
    cdef real s
    for v in range(blocks):
        i = v * VL
        e = vexp(load_part(x + i, n - i) - shift)
        if n - i < VL:
            e = vload_n(<real*>&e, n - i)   # the missing lanes hold exp(0 - shift), which must not be summed
        total += e
        if not logarithm:
            store_part(y + i, e, n - i)
    s = vsum(total)
    if logarithm:
        e = vset(<real>log(<double>s))
        for v in range(blocks):
            i = v * VL
            store_part(y + i, (load_part(x + i, n - i) - shift) - e, n - i)
    else:
        e = vset(<real>1 / s)
        for v in range(blocks):
            i = v * VL
            store_part(y + i, load_part(y + i, n - i) * e, n - i)


cdef void gradient_row(const real* dy, const real* y, real* dx, Py_ssize_t n, bint logarithm) noexcept nogil:
    cdef Py_ssize_t v, i, blocks = ceil_div(n, VL)
    cdef vf total = vzero(), d
    for v in range(blocks):
        i = v * VL
        d = load_part(dy + i, n - i)
        total += d if logarithm else d * load_part(y + i, n - i)
    total = vset(vsum(total))
    for v in range(blocks):
        i = v * VL
        if logarithm:
            store_part(dx + i, load_part(dy + i, n - i) - vexp(load_part(y + i, n - i)) * total, n - i)
        else:
            store_part(dx + i, load_part(y + i, n - i) * (load_part(dy + i, n - i) - total), n - i)


cdef void softmax_columns(const real* x, real* y, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t width,
                          real* top, real* total, bint logarithm) noexcept nogil:
    """Columns 0..width-1; element k of a column lies `inner` elements after element k - 1."""
    cdef Py_ssize_t k, v, c, blocks = ceil_div(width, VL)
    cdef const real* row
    cdef real* out
    cdef vf e
    for v in range(blocks):
        c = v * VL
        vstore(top + c, load_part(x + c, width - c))
        vstore(total + c, vzero())
    for k in range(1, n):
        row = x + k * inner
        for v in range(blocks):
            c = v * VL
            vstore(top + c, vmax(load_part(row + c, width - c), vload(top + c)))
    for k in range(n):
        row = x + k * inner
        out = y + k * inner
        for v in range(blocks):
            c = v * VL
            e = vexp(load_part(row + c, width - c) - vload(top + c))
            vstore(total + c, vload(total + c) + e)
            if not logarithm:
                store_part(out + c, e, width - c)
    for c in range(width):
        total[c] = <real>log(<double>total[c]) if logarithm else <real>1 / total[c]
    for k in range(n):
        row = x + k * inner
        out = y + k * inner
        for v in range(blocks):
            c = v * VL
            if logarithm:
                e = (load_part(row + c, width - c) - vload(top + c)) - vload(total + c)
            else:
                e = load_part(out + c, width - c) * vload(total + c)
            store_part(out + c, e, width - c)


cdef void gradient_columns(const real* dy, const real* y, real* dx, Py_ssize_t n, Py_ssize_t inner,
                           Py_ssize_t width, real* total, bint logarithm) noexcept nogil:
    cdef Py_ssize_t k, v, c, i, blocks = ceil_div(width, VL)
    cdef vf d
    for v in range(blocks):
        vstore(total + v * VL, vzero())
    for k in range(n):
        for v in range(blocks):
            c = v * VL
            i = k * inner + c
            d = load_part(dy + i, width - c)
            vstore(total + c, vload(total + c) + (d if logarithm else d * load_part(y + i, width - c)))
    for k in range(n):
        for v in range(blocks):
            c = v * VL
            i = k * inner + c
            d = load_part(dy + i, width - c)
            if logarithm:
                store_part(dx + i, d - vexp(load_part(y + i, width - c)) * vload(total + c), width - c)
            else:
                store_part(dx + i, load_part(y + i, width - c) * (d - vload(total + c)), width - c)


cdef void softmax_job(const softmax_arguments* s, char** operand, Py_ssize_t start, Py_ssize_t width,
                      real* scratch) noexcept nogil:
    cdef const real* x = <const real*>operand[0] + start
    cdef real* y = <real*>operand[1] + start
    if s.inner == 1:
        softmax_row(x, y, s.n, s.logarithm)
    else:
        softmax_columns(x, y, s.n, s.inner, width, scratch, scratch + WIDTH, s.logarithm)


cdef void gradient_job(const softmax_arguments* s, char** operand, Py_ssize_t start, Py_ssize_t width,
                       real* scratch) noexcept nogil:
    cdef const real* dy = <const real*>operand[0] + start
    cdef const real* y = <const real*>operand[1] + start
    cdef real* dx = <real*>operand[2] + start
    if s.inner == 1:
        gradient_row(dy, y, dx, s.n, s.logarithm)
    else:
        gradient_columns(dy, y, dx, s.n, s.inner, width, scratch, s.logarithm)


cdef void softmax(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_job(softmax_job, arguments, operand, i, scratch)


cdef void softmax_gradient(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_job(gradient_job, arguments, operand, i, scratch)


LOOPS = {
    "softmax": <uintptr_t>softmax,
    "softmax_gradient": <uintptr_t>softmax_gradient,
}
