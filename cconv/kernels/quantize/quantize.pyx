"""Quantisation to whole numbers and back, with a scale and a zero point for all, for each place along an axis, or for
each block along it.

    q = clip(round(x / scale) + zero, lowest, highest)        x = (q - zero) * scale

Rounding goes to the even neighbour, and the gradients go straight through it (Bengio et al. 2013). With dq, dx the
incoming gradients, and "inside" where nothing was clipped:

    quantised      dx = dq / scale inside, else 0         ds = sum of -dq * x / scale^2 inside, else of 0
    back again     dq = dx * scale                        ds = sum of dx * (q - zero)

Both sums are over the elements of a scale. Quantisation followed by dequantisation has the gradient of Esser et al.
(Learned Step Size Quantization, 2020, equation 3): dx * (round(x / scale) - x / scale) inside, else dx * (lowest or highest - zero).

Parallel over blocks of rows, a row being the elements along the last axes; every chunk writes elements of its own.
"""

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport Step, per_chunk
from cconv.kernels.quantize.quantize cimport I8, I16, I32, U8, U16, block_arguments, scaled_arguments

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


cdef class Scaled(Step):
    """Base: an array (outer, n, inner) with one scale, and perhaps one zero point, for each place along its middle axis;
    or, with blocks, for each (outer, block along the middle axis, inner), of which the last block may be shorter.

    Args:
        build: whose loops run.
        kind: of the whole numbers, a key of RANGES; "int32" only to read.
        outer, n, inner: sizes of the axes before the scales', of it, and of those after it.
        block: elements along the axis that share a scale; 0: there are no blocks.

    Raises:
        ValueError: another kind, or a negative block.
    """

    cdef scaled_arguments sizes

    cdef int lay_out(self, Build build, str loop, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner,
                     Py_ssize_t block) except -1:
        cdef scaled_arguments* s = &self.sizes
        if kind not in KINDS:
            raise ValueError(f"{type(self).__name__}: whole numbers are {', '.join(KINDS)}; found {kind!r}")
        if block < 0:
            raise ValueError(f"{type(self).__name__}: a block has elements; found {block}")
        self.arguments = s
        self.loop = build.loop("quantize", loop)
        s.stored_as, bits, s.lowest, s.highest = RANGES[kind]
        s.shift = 8 - bits if bits < 8 else 0
        s.n, s.inner, s.block = n, inner, min(block, max(n, <Py_ssize_t>1))
        s.blocks = ceil_div(n, s.block) if block else 0
        # A row is the elements that share a scale, or, if each element of a run has its own, that run.
        if inner == 1:
            s.rows, length = (outer * s.blocks, s.block) if block else (outer, n)
        else:
            s.rows, length = outer * n, inner
        s.per_chunk = per_chunk(length)
        self.chunks = ceil_div(s.rows, s.per_chunk)
        return 0


cdef class Quantize(Scaled):
    """Operands: x, scale, zero (of the kind; may be absent), q (of the kind)."""

    def __init__(self, Build build, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block=0):
        self.lay_out(build, "quantize", kind, outer, n, inner, block)
        if self.sizes.stored_as == I32:
            raise ValueError("Quantize: to 16 bits at most; found 'int32'")
        self.operands = 4


cdef class QuantizeGradient(Scaled):
    """Operands: dq, x, scale, zero (may be absent), dx, terms; each of the last two may be absent.

    dx = dq / scale where x was not clipped, else 0; terms = -dq * x / scale^2 there, else 0: their sum over a scale's
    elements is its gradient. dx may be dq.
    """

    def __init__(self, Build build, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block=0):
        self.lay_out(build, "quantize_gradient", kind, outer, n, inner, block)
        self.operands = 6


cdef class Dequantize(Scaled):
    """Operands: q (of the kind), scale, zero (of the kind; may be absent), x."""

    def __init__(self, Build build, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block=0):
        self.lay_out(build, "dequantize", kind, outer, n, inner, block)
        self.operands = 4


cdef class DequantizeGradient(Scaled):
    """Operands: dx, q (of the kind), scale, zero (may be absent), dq, terms; each of the last two may be absent.

    dq = dx * scale; terms = dx * (q - zero): their sum over a scale's elements is its gradient. dq may be dx.
    """

    def __init__(self, Build build, str kind, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block=0):
        self.lay_out(build, "dequantize_gradient", kind, outer, n, inner, block)
        self.operands = 6


cdef class BlockSums(Step):
    """y[o, b, i] = sum of x[o, b * block + k, i] over k in 0..block-1, as far as there are such elements, added in order in
    double precision. Parallel over (o, b).

    Operands: x (outer, n, inner), y (outer, ceil(n / block), inner).

    Raises:
        ValueError: a block without elements.
    """

    cdef block_arguments sizes

    def __init__(self, Build build, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t block):
        cdef block_arguments* s = &self.sizes
        if block < 1:
            raise ValueError(f"BlockSums: a block has elements; found {block}")
        self.operands = 2
        self.arguments = s
        self.loop = build.loop("quantize", "block_sums")
        s.n, s.inner, s.block = n, inner, min(block, max(n, <Py_ssize_t>1))
        s.blocks = ceil_div(n, s.block)
        s.rows = outer * s.blocks
        s.per_chunk = per_chunk(s.block * inner)
        self.chunks = ceil_div(s.rows, s.per_chunk)
