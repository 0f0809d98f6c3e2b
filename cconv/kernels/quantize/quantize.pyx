"""Quantisation to whole numbers and back, with a scale and a zero point for all, for each place along an axis, or for
each block along it.

    q = clip(round(x / scale) + zero, lowest, highest)        x = (q - zero) * scale

Rounding goes to the even neighbour, and the gradients go straight through it (Bengio et al. 2013). With dq, dx the
gradients that come in, and "inside" where nothing was clipped:

    quantised      dx = dq / scale inside, else 0         ds = sum of -dq * x / scale^2 inside, else of 0
    back again     dq = dx * scale                        ds = sum of dx * (q - zero)

Both sums are over the elements of a scale. Of the two in a row they give what Esser et al. (Learned Step Size
Quantization, 2020, equation 3) take: dx * (round(x / scale) - x / scale) inside, else dx * (lowest or highest - zero).

Parallel over blocks of rows, a row being what lies along the last axes; every chunk writes elements of its own.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t

from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport OK, Step

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

cdef enum:
    CHUNK = 32768
    I8 = 0
    U8 = 1
    I16 = 2
    U16 = 3
    I32 = 4

# name: how an element is stored, its bits, lowest and highest number. Those of less than 8 bits are the low ones of a
# byte each, as NumPy's extension ml_dtypes has them. int32 is for what is read alone.
RANGES = {
    "int2": (I8, 2, -2, 1),
    "uint2": (U8, 2, 0, 3),
    "int4": (I8, 4, -8, 7),
    "uint4": (U8, 4, 0, 15),
    "int8": (I8, 8, -128, 127),
    "uint8": (U8, 8, 0, 255),
    "int16": (I16, 16, -32768, 32767),
    "uint16": (U16, 16, 0, 65535),
    "int32": (I32, 32, -(2**31), 2**31 - 1),
}
KINDS = tuple(RANGES)


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


cdef class Scaled(Step):
    """Base: an array (outer, n, inner) and one scale, and perhaps one zero point, for each place along its middle axis;
    or with blocks for each (outer, block along the middle axis, inner), of which the last block may be shorter.

    Args:
        kind: of the whole numbers, a key of RANGES; "int32" only to read.
        outer, n, inner: sizes of the axes before the scales', of it, and of those after it.
        block: elements along the axis that share a scale; 0: there are no blocks.

    Raises:
        ValueError: another kind, or a negative block.
    """

    cdef Py_ssize_t n, inner, block, blocks, rows, per_chunk
    cdef int stored_as, shift
    cdef real lowest, highest

    def __init__(self, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block=0):
        if kind not in KINDS:
            raise ValueError(f"{type(self).__name__}: whole numbers are {', '.join(KINDS)}; found {kind!r}")
        if block < 0:
            raise ValueError(f"{type(self).__name__}: a block has elements; found {block}")
        self.stored_as, bits, self.lowest, self.highest = RANGES[kind]
        self.shift = 8 - bits if bits < 8 else 0
        self.n, self.inner, self.block = n, inner, min(block, max(n, 1))
        self.blocks = (n + self.block - 1) // self.block if block else 0
        # A row is what shares a scale, or, where each element of a run has its own, that run.
        if inner == 1:
            self.rows, length = (outer * self.blocks, self.block) if block else (outer, n)
        else:
            self.rows, length = outer * n, inner
        self.per_chunk = max(1, CHUNK // max(1, length))

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.rows + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t row, outer, place
        for row in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.rows)):
            if not self.block and self.inner == 1:
                self.elements(row * self.n, self.n, 0, 1)
            elif not self.block:
                self.elements(row * self.inner, self.inner, row % self.n, 0)
            elif self.inner == 1:
                outer, place = row // self.blocks, row % self.blocks * self.block
                self.elements(outer * self.n + place, min(self.block, self.n - place), row, 0)
            else:
                outer, place = row // self.n, row % self.n
                self.elements(
                    row * self.inner, self.inner, (outer * self.blocks + place // self.block) * self.inner, 1
                )

    cdef void elements(self, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale, Py_ssize_t step) noexcept nogil:
        """Work on n elements from `first` on; the scale of element i is number scale + i * step."""


cdef class Quantize(Scaled):
    """Operands: x, scale, zero (of the kind; may be absent), q (of the kind)."""

    def __init__(self, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block=0):
        super().__init__(kind, outer, n, inner, block)
        if self.stored_as == I32:
            raise ValueError("Quantize: to 16 bits at most; found 'int32'")
        self.operands = 4

    cdef void elements(self, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale, Py_ssize_t step) noexcept nogil:
        if self.stored_as == I8:
            self.quantize(<int8_t*>self.operand[2], <int8_t*>self.operand[3], first, n, scale, step)
        elif self.stored_as == U8:
            self.quantize(<uint8_t*>self.operand[2], <uint8_t*>self.operand[3], first, n, scale, step)
        elif self.stored_as == I16:
            self.quantize(<int16_t*>self.operand[2], <int16_t*>self.operand[3], first, n, scale, step)
        else:
            self.quantize(<uint16_t*>self.operand[2], <uint16_t*>self.operand[3], first, n, scale, step)

    cdef void quantize(self, const quantum* zero, quantum* q, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                       Py_ssize_t step) noexcept nogil:
        cdef const real* x = <const real*>self.operand[0] + first
        cdef const real* s = <const real*>self.operand[1] + scale
        cdef int shift = self.shift   # q may be stored as char, which C lets alias all that `self` has
        cdef int32_t kept = (1 << (8 - shift)) - 1 if shift else -1
        cdef real lowest = self.lowest, highest = self.highest
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


cdef class QuantizeGradient(Scaled):
    """Operands: dq, x, scale, zero (may be absent), dx, terms; each of these two may be absent.

    dx = dq / scale where x was not clipped, else 0; terms = -dq * x / scale^2 there, else 0: their sum over a scale's
    elements is its gradient. dx may be dq.
    """

    def __init__(self, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block=0):
        super().__init__(kind, outer, n, inner, block)
        self.operands = 6

    cdef void elements(self, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale, Py_ssize_t step) noexcept nogil:
        if self.stored_as == I8:
            self.gradient(<int8_t*>self.operand[3], first, n, scale, step)
        elif self.stored_as == U8:
            self.gradient(<uint8_t*>self.operand[3], first, n, scale, step)
        elif self.stored_as == I16:
            self.gradient(<int16_t*>self.operand[3], first, n, scale, step)
        else:
            self.gradient(<uint16_t*>self.operand[3], first, n, scale, step)

    cdef void gradient(self, const quantum* zero, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                       Py_ssize_t step) noexcept nogil:
        cdef const real* dq = <const real*>self.operand[0] + first
        cdef const real* x = <const real*>self.operand[1] + first
        cdef const real* s = <const real*>self.operand[2] + scale
        cdef real* dx = <real*>self.operand[4] + first if self.operand[4] != NULL else NULL
        cdef real* terms = <real*>self.operand[5] + first if self.operand[5] != NULL else NULL
        cdef int shift = self.shift
        cdef real ratio, v, d
        cdef Py_ssize_t i
        for i in range(n):
            ratio = x[i] / s[i * step]
            v = ROUND_EVEN(ratio)
            if zero != NULL:
                v += number(zero[scale + i * step], shift)
            d = dq[i] / s[i * step] if self.lowest <= v <= self.highest else 0
            if dx != NULL:
                dx[i] = d
            if terms != NULL:
                terms[i] = -d * ratio if d != 0 else 0


cdef class Dequantize(Scaled):
    """Operands: q (of the kind), scale, zero (of the kind; may be absent), x."""

    def __init__(self, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block=0):
        super().__init__(kind, outer, n, inner, block)
        self.operands = 4

    cdef void elements(self, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale, Py_ssize_t step) noexcept nogil:
        if self.stored_as == I8:
            self.dequantize(<int8_t*>self.operand[0], <int8_t*>self.operand[2], first, n, scale, step)
        elif self.stored_as == U8:
            self.dequantize(<uint8_t*>self.operand[0], <uint8_t*>self.operand[2], first, n, scale, step)
        elif self.stored_as == I16:
            self.dequantize(<int16_t*>self.operand[0], <int16_t*>self.operand[2], first, n, scale, step)
        elif self.stored_as == U16:
            self.dequantize(<uint16_t*>self.operand[0], <uint16_t*>self.operand[2], first, n, scale, step)
        else:
            self.dequantize(<int32_t*>self.operand[0], <int32_t*>self.operand[2], first, n, scale, step)

    cdef void dequantize(self, const stored* q, const stored* zero, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                         Py_ssize_t step) noexcept nogil:
        cdef const real* s = <const real*>self.operand[1] + scale
        cdef real* x = <real*>self.operand[3] + first
        cdef int shift = self.shift
        cdef Py_ssize_t i
        q += first
        for i in range(n):
            x[i] = difference(q[i], zero[scale + i * step] if zero != NULL else 0, shift) * s[i * step]


cdef class DequantizeGradient(Scaled):
    """Operands: dx, q (of the kind), scale, zero (may be absent), dq, terms; each of these two may be absent.

    dq = dx * scale; terms = dx * (q - zero): their sum over a scale's elements is its gradient. dq may be dx.
    """

    def __init__(self, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block=0):
        super().__init__(kind, outer, n, inner, block)
        self.operands = 6

    cdef void elements(self, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale, Py_ssize_t step) noexcept nogil:
        cdef const real* dx = <const real*>self.operand[0] + first
        cdef const real* s = <const real*>self.operand[2] + scale
        cdef real* dq = <real*>self.operand[4] + first
        cdef Py_ssize_t i
        # The terms first: dq may take the place of dx.
        if self.operand[5] != NULL:
            if self.stored_as == I8:
                self.terms(<int8_t*>self.operand[1], <int8_t*>self.operand[3], first, n, scale, step)
            elif self.stored_as == U8:
                self.terms(<uint8_t*>self.operand[1], <uint8_t*>self.operand[3], first, n, scale, step)
            elif self.stored_as == I16:
                self.terms(<int16_t*>self.operand[1], <int16_t*>self.operand[3], first, n, scale, step)
            elif self.stored_as == U16:
                self.terms(<uint16_t*>self.operand[1], <uint16_t*>self.operand[3], first, n, scale, step)
            else:
                self.terms(<int32_t*>self.operand[1], <int32_t*>self.operand[3], first, n, scale, step)
        if self.operand[4] != NULL:
            for i in range(n):
                dq[i] = dx[i] * s[i * step]

    cdef void terms(self, const stored* q, const stored* zero, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                    Py_ssize_t step) noexcept nogil:
        cdef const real* dx = <const real*>self.operand[0] + first
        cdef real* terms = <real*>self.operand[5] + first
        cdef int shift = self.shift
        cdef Py_ssize_t i
        q += first
        for i in range(n):
            terms[i] = dx[i] * difference(q[i], zero[scale + i * step] if zero != NULL else 0, shift)


cdef class BlockSums(Step):
    """y[o, b, i] = sum of x[o, b * block + k, i], k in 0..block-1 as far as there are such elements, added in order in
    double precision. Parallel over (o, b).

    Operands: x (outer, n, inner), y (outer, ceil(n / block), inner).

    Raises:
        ValueError: a block without elements.
    """

    cdef Py_ssize_t n, inner, block, blocks, rows, per_chunk

    def __init__(self, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block):
        if block < 1:
            raise ValueError(f"BlockSums: a block has elements; found {block}")
        self.operands = 2
        self.n, self.inner, self.block = n, inner, min(block, max(n, 1))
        self.blocks = (n + self.block - 1) // self.block
        self.rows = outer * self.blocks
        self.per_chunk = max(1, CHUNK // max(1, self.block * inner))

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.rows + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t chunk, int thread) noexcept nogil:
        cdef Py_ssize_t row, place, count, i, k
        cdef const real* x
        cdef real* y
        cdef double total
        for row in range(chunk * self.per_chunk, min((chunk + 1) * self.per_chunk, self.rows)):
            place = row % self.blocks * self.block
            count = min(self.block, self.n - place)
            x = <const real*>self.operand[0] + (row // self.blocks * self.n + place) * self.inner
            y = <real*>self.operand[1] + row * self.inner
            for i in range(self.inner):
                total = 0
                for k in range(count):
                    total += x[k * self.inner + i]
                y[i] = <real>total
