"""Quantisation to whole numbers and back, with a scale and a zero point for all, or for each place along an axis.

    q = clip(round(x / scale) + zero, lowest, highest)        x = (q - zero) * scale

Rounding goes to the even neighbour. The gradient of quantisation is that of x / scale where nothing was clipped, and 0
elsewhere ("straight through" the rounding; Bengio et al. 2013). Parallel over blocks of rows, a row being what lies
along the last axes; every chunk writes elements of its own.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t

from cconv.kernels.simd cimport real
from cconv.kernels.step cimport OK, Step

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

# name: lowest and highest number. int32 is for DequantizeLinear alone.
RANGES = {
    "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535),
    "int32": (-(2**31), 2**31 - 1),
}
KINDS = tuple(RANGES)


cdef class Scaled(Step):
    """Base: an array (outer, scales, inner) and one scale, and perhaps one zero point, for each place of the middle.

    Args:
        kind: of the whole numbers: "int8", "uint8", "int16", "uint16"; to read, also "int32".
        outer, scales, inner: sizes of the axes before the scales', of it, and of those after it.

    Raises:
        ValueError: another kind.
    """

    cdef Py_ssize_t scales, inner, rows, per_chunk
    cdef int kind
    cdef real lowest, highest

    def __init__(self, str kind, Py_ssize_t outer, Py_ssize_t scales, Py_ssize_t inner):
        if kind not in KINDS:
            raise ValueError(f"{type(self).__name__}: whole numbers are {', '.join(KINDS)}; found {kind!r}")
        self.kind = KINDS.index(kind)
        self.lowest, self.highest = RANGES[kind]
        self.scales, self.inner = scales, inner
        # A row is what shares a scale, or, where that is one element, all scales.
        self.rows = outer if inner == 1 else outer * scales
        self.per_chunk = max(1, CHUNK // max(1, scales if inner == 1 else inner))

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.rows + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t row
        for row in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.rows)):
            if self.inner == 1:
                self.elements(row * self.scales, self.scales, 0, 1)
            else:
                self.elements(row * self.inner, self.inner, row % self.scales, 0)

    cdef void elements(self, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale, Py_ssize_t step) noexcept nogil:
        """Work on n elements from `first` on; the scale of element i is number scale + i * step."""


cdef class Quantize(Scaled):
    """Operands: x, scale, zero (of the kind; may be absent), q (of the kind)."""

    def __init__(self, str kind, Py_ssize_t outer, Py_ssize_t scales, Py_ssize_t inner):
        super().__init__(kind, outer, scales, inner)
        if kind == "int32":
            raise ValueError("Quantize: to 8 or 16 bits; found 'int32'")
        self.operands = 4

    cdef void elements(self, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale, Py_ssize_t step) noexcept nogil:
        if self.kind == 0:
            self.quantize(<int8_t*>self.operand[2], <int8_t*>self.operand[3], first, n, scale, step)
        elif self.kind == 1:
            self.quantize(<uint8_t*>self.operand[2], <uint8_t*>self.operand[3], first, n, scale, step)
        elif self.kind == 2:
            self.quantize(<int16_t*>self.operand[2], <int16_t*>self.operand[3], first, n, scale, step)
        else:
            self.quantize(<uint16_t*>self.operand[2], <uint16_t*>self.operand[3], first, n, scale, step)

    cdef void quantize(self, const quantum* zero, quantum* q, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                       Py_ssize_t step) noexcept nogil:
        cdef const real* x = <const real*>self.operand[0] + first
        cdef const real* s = <const real*>self.operand[1] + scale
        cdef real v
        cdef Py_ssize_t i
        q += first
        for i in range(n):
            v = ROUND_EVEN(x[i] / s[i * step])
            if zero != NULL:
                v += zero[scale + i * step]
            # What is not a number is the lowest.
            q[i] = <quantum><int32_t>(self.highest if v > self.highest else v if v >= self.lowest else self.lowest)


cdef class QuantizeGradient(Scaled):
    """dx = dy / scale where x was not clipped, else 0. Operands: dy, x, scale, zero (may be absent), dx."""

    def __init__(self, str kind, Py_ssize_t outer, Py_ssize_t scales, Py_ssize_t inner):
        super().__init__(kind, outer, scales, inner)
        self.operands = 5

    cdef void elements(self, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale, Py_ssize_t step) noexcept nogil:
        if self.kind == 0:
            self.gradient(<int8_t*>self.operand[3], first, n, scale, step)
        elif self.kind == 1:
            self.gradient(<uint8_t*>self.operand[3], first, n, scale, step)
        elif self.kind == 2:
            self.gradient(<int16_t*>self.operand[3], first, n, scale, step)
        else:
            self.gradient(<uint16_t*>self.operand[3], first, n, scale, step)

    cdef void gradient(self, const quantum* zero, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                       Py_ssize_t step) noexcept nogil:
        cdef const real* dy = <const real*>self.operand[0] + first
        cdef const real* x = <const real*>self.operand[1] + first
        cdef const real* s = <const real*>self.operand[2] + scale
        cdef real* dx = <real*>self.operand[4] + first
        cdef real v
        cdef Py_ssize_t i
        for i in range(n):
            v = ROUND_EVEN(x[i] / s[i * step])
            if zero != NULL:
                v += zero[scale + i * step]
            dx[i] = dy[i] / s[i * step] if self.lowest <= v <= self.highest else 0


cdef class Dequantize(Scaled):
    """Operands: q (of the kind), scale, zero (of the kind; may be absent), x."""

    def __init__(self, str kind, Py_ssize_t outer, Py_ssize_t scales, Py_ssize_t inner):
        super().__init__(kind, outer, scales, inner)
        self.operands = 4

    cdef void elements(self, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale, Py_ssize_t step) noexcept nogil:
        if self.kind == 0:
            self.dequantize(<int8_t*>self.operand[0], <int8_t*>self.operand[2], first, n, scale, step)
        elif self.kind == 1:
            self.dequantize(<uint8_t*>self.operand[0], <uint8_t*>self.operand[2], first, n, scale, step)
        elif self.kind == 2:
            self.dequantize(<int16_t*>self.operand[0], <int16_t*>self.operand[2], first, n, scale, step)
        elif self.kind == 3:
            self.dequantize(<uint16_t*>self.operand[0], <uint16_t*>self.operand[2], first, n, scale, step)
        else:
            self.dequantize(<int32_t*>self.operand[0], <int32_t*>self.operand[2], first, n, scale, step)

    cdef void dequantize(self, const stored* q, const stored* zero, Py_ssize_t first, Py_ssize_t n, Py_ssize_t scale,
                         Py_ssize_t step) noexcept nogil:
        cdef const real* s = <const real*>self.operand[1] + scale
        cdef real* x = <real*>self.operand[3] + first
        cdef Py_ssize_t i
        q += first
        if zero == NULL:
            for i in range(n):
                x[i] = <real>q[i] * s[i * step]
        else:
            for i in range(n):
                x[i] = <real>(<int64_t>q[i] - zero[scale + i * step]) * s[i * step]
