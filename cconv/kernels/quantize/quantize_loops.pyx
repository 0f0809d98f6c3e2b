"""Loops of quantisation; quantize.pyx has the formulas."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uintptr_t

from cconv.kernels.core.simd cimport real
from cconv.kernels.quantize.quantize cimport I8, I16, U8, U16, block_arguments, scaled_arguments

cdef extern from *:
    """
    #ifdef CCONV_FLOAT64
    #define ROUND_EVEN rint
    #else
    #define ROUND_EVEN rintf
    #endif
    """
    real ROUND_EVEN(real x) nogil

ctypedef fused quantum:
    int8_t
    uint8_t
    int16_t
    uint16_t

ctypedef fused stored:
    int8_t
    uint8_t
    int16_t
    uint16_t
    int32_t


cdef inline int32_t number(stored value, int shift) noexcept nogil:
    """The number whose bits are the low ones of `value`, all but `shift` of them."""
    if shift == 0:   # this way the compiler makes a loop of its own for whole bytes, which takes half the time
        return value
    if stored is int8_t:
        return <int8_t>(<uint8_t>value << shift) >> shift
    elif stored is uint8_t:
        return <uint8_t>(value << shift) >> shift
    else:
        return value


cdef inline real difference(stored q, stored zero, int shift) noexcept nogil:
    """q - zero, which only of int32 needs more than 32 bits."""
    if stored is int32_t:
        return <real>(<int64_t>q - zero)
    else:
        return <real>(number(q, shift) - number(zero, shift))


# Work on n elements from `first` on; the scale of element i is number scale + i * step.
ctypedef void (*elements_body)(const scaled_arguments* a, char** operand, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                               Py_ssize_t step) noexcept nogil


cdef inline void each_row(elements_body elements, const void* arguments, char** operand, Py_ssize_t i) noexcept nogil:
    """The rows of chunk i."""
    cdef const scaled_arguments* a = <const scaled_arguments*>arguments
    cdef Py_ssize_t row, outer, place
    for row in range(i * a.per_chunk, min((i + 1) * a.per_chunk, a.rows)):
        if not a.block and a.inner == 1:
            elements(a, operand, row * a.n, a.n, 0, 1)
        elif not a.block:
            elements(a, operand, row * a.inner, a.inner, row % a.n, 0)
        elif a.inner == 1:
            outer, place = row // a.blocks, row % a.blocks * a.block
            elements(a, operand, outer * a.n + place, min(a.block, a.n - place), row, 0)
        else:
            outer, place = row // a.n, row % a.n
            elements(a, operand, 
                row * a.inner, a.inner, (outer * a.blocks + place // a.block) * a.inner, 1
            )


cdef void quantize(const scaled_arguments* a, char** operand, const quantum* zero, quantum* q, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                   Py_ssize_t step) noexcept nogil:
    cdef const real* x = <const real*>operand[0] + first
    cdef const real* s = <const real*>operand[1] + scale
    cdef int shift = a.shift   # q may be stored as char, which C lets alias all of *a
    cdef int32_t kept = (1 << (8 - shift)) - 1 if shift else -1
    cdef real lowest = <real>a.lowest, highest = <real>a.highest
    cdef real v
    cdef Py_ssize_t i
    q += first
    for i in range(n):
        v = ROUND_EVEN(x[i] / s[i * step])
        if zero != NULL:
            v += number(zero[scale + i * step], shift)
        # What is not a number is the lowest.
        v = highest if v > highest else v if v >= lowest else lowest
        q[i] = <quantum>(<int32_t>v & kept)


cdef void quantize_elements(const scaled_arguments* a, char** operand, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                            Py_ssize_t step) noexcept nogil:
    if a.stored_as == I8:
        quantize(a, operand, <int8_t*>operand[2], <int8_t*>operand[3], first, n, scale, step)
    elif a.stored_as == U8:
        quantize(a, operand, <uint8_t*>operand[2], <uint8_t*>operand[3], first, n, scale, step)
    elif a.stored_as == I16:
        quantize(a, operand, <int16_t*>operand[2], <int16_t*>operand[3], first, n, scale, step)
    else:
        quantize(a, operand, <uint16_t*>operand[2], <uint16_t*>operand[3], first, n, scale, step)


cdef void gradient(const scaled_arguments* a, char** operand, const quantum* zero, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                   Py_ssize_t step) noexcept nogil:
    cdef const real* dq = <const real*>operand[0] + first
    cdef const real* x = <const real*>operand[1] + first
    cdef const real* s = <const real*>operand[2] + scale
    cdef real* dx = <real*>operand[4] + first if operand[4] != NULL else NULL
    cdef real* terms = <real*>operand[5] + first if operand[5] != NULL else NULL
    cdef int shift = a.shift
    cdef real lowest = <real>a.lowest, highest = <real>a.highest
    cdef real ratio, v, d
    cdef Py_ssize_t i
    for i in range(n):
        ratio = x[i] / s[i * step]
        v = ROUND_EVEN(ratio)
        if zero != NULL:
            v += number(zero[scale + i * step], shift)
        d = dq[i] / s[i * step] if lowest <= v <= highest else 0
        if dx != NULL:
            dx[i] = d
        if terms != NULL:
            terms[i] = -d * ratio if d != 0 else 0


cdef void quantize_gradient_elements(const scaled_arguments* a, char** operand, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                                     Py_ssize_t step) noexcept nogil:
    if a.stored_as == I8:
        gradient(a, operand, <int8_t*>operand[3], first, n, scale, step)
    elif a.stored_as == U8:
        gradient(a, operand, <uint8_t*>operand[3], first, n, scale, step)
    elif a.stored_as == I16:
        gradient(a, operand, <int16_t*>operand[3], first, n, scale, step)
    else:
        gradient(a, operand, <uint16_t*>operand[3], first, n, scale, step)


cdef void dequantize(const scaled_arguments* a, char** operand, const stored* q, const stored* zero, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                     Py_ssize_t step) noexcept nogil:
    cdef const real* s = <const real*>operand[1] + scale
    cdef real* x = <real*>operand[3] + first
    cdef int shift = a.shift
    cdef Py_ssize_t i
    q += first
    for i in range(n):
        x[i] = difference(q[i], zero[scale + i * step] if zero != NULL else 0, shift) * s[i * step]


cdef void dequantize_elements(const scaled_arguments* a, char** operand, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                              Py_ssize_t step) noexcept nogil:
    if a.stored_as == I8:
        dequantize(a, operand, <int8_t*>operand[0], <int8_t*>operand[2], first, n, scale, step)
    elif a.stored_as == U8:
        dequantize(a, operand, <uint8_t*>operand[0], <uint8_t*>operand[2], first, n, scale, step)
    elif a.stored_as == I16:
        dequantize(a, operand, <int16_t*>operand[0], <int16_t*>operand[2], first, n, scale, step)
    elif a.stored_as == U16:
        dequantize(a, operand, <uint16_t*>operand[0], <uint16_t*>operand[2], first, n, scale, step)
    else:
        dequantize(a, operand, <int32_t*>operand[0], <int32_t*>operand[2], first, n, scale, step)


cdef void terms__of(const scaled_arguments* a, char** operand, const stored* q, const stored* zero, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                Py_ssize_t step) noexcept nogil:
    cdef const real* dx = <const real*>operand[0] + first
    cdef real* terms = <real*>operand[5] + first
    cdef int shift = a.shift
    cdef Py_ssize_t i
    q += first
    for i in range(n):
        terms[i] = dx[i] * difference(q[i], zero[scale + i * step] if zero != NULL else 0, shift)


cdef void dequantize_gradient_elements(const scaled_arguments* a, char** operand, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                                       Py_ssize_t step) noexcept nogil:
    cdef const real* dx = <const real*>operand[0] + first
    cdef const real* s = <const real*>operand[2] + scale
    cdef real* dq = <real*>operand[4] + first
    cdef Py_ssize_t i
    # The terms first: dq may take the place of dx.
    if operand[5] != NULL:
        if a.stored_as == I8:
            terms__of(a, operand, <int8_t*>operand[1], <int8_t*>operand[3], first, n, scale, step)
        elif a.stored_as == U8:
            terms__of(a, operand, <uint8_t*>operand[1], <uint8_t*>operand[3], first, n, scale, step)
        elif a.stored_as == I16:
            terms__of(a, operand, <int16_t*>operand[1], <int16_t*>operand[3], first, n, scale, step)
        elif a.stored_as == U16:
            terms__of(a, operand, <uint16_t*>operand[1], <uint16_t*>operand[3], first, n, scale, step)
        else:
            terms__of(a, operand, <int32_t*>operand[1], <int32_t*>operand[3], first, n, scale, step)
    if operand[4] != NULL:
        for i in range(n):
            dq[i] = dx[i] * s[i * step]


cdef void quantize_loop(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_row(quantize_elements, arguments, operand, i)


cdef void quantize_gradient_loop(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_row(quantize_gradient_elements, arguments, operand, i)


cdef void dequantize_loop(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_row(dequantize_elements, arguments, operand, i)


cdef void dequantize_gradient_loop(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_row(dequantize_gradient_elements, arguments, operand, i)


cdef void block_sums(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    cdef const block_arguments* a = <const block_arguments*>arguments
    cdef Py_ssize_t row, place, count, i, k
    cdef const real* x
    cdef real* y
    cdef double total
    for row in range(chunk * a.per_chunk, min((chunk + 1) * a.per_chunk, a.rows)):
        place = row % a.blocks * a.block
        count = min(a.block, a.n - place)
        x = <const real*>operand[0] + (row // a.blocks * a.n + place) * a.inner
        y = <real*>operand[1] + row * a.inner
        for i in range(a.inner):
            total = 0
            for k in range(count):
                total += x[k * a.inner + i]
            y[i] = <real>total


LOOPS = {
    "quantize": <uintptr_t>quantize_loop, "quantize_gradient": <uintptr_t>quantize_gradient_loop,
    "dequantize": <uintptr_t>dequantize_loop, "dequantize_gradient": <uintptr_t>dequantize_gradient_loop,
    "block_sums": <uintptr_t>block_sums,
}
