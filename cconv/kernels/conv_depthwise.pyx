"""Depthwise convolution: each channel with one kernel of its own.

There is nothing to sum over but the taps, so the vectors lie along the channels and the loops are bound by
memory. Weights are packed as [tap][channel]. No strip is copied: the taps that fall outside of the input are
left out by the range of each axis instead.
"""

from cconv.kernels.simd cimport VL, real, vclamp, vf, vload, vload_n, vset, vstore, vstore_n, vzero
from cconv.kernels.step cimport OK, Step

# Pixel rows of a share of the weight gradient: at most this many shares are added at the end.
MOST_SHARES = 64


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b if a > 0 else 0


cdef struct Axis:
    Py_ssize_t input, output, kernel, stride, dilation, pad


cdef struct Range:
    # Taps begin, begin + every, ... < end; the partner of tap t is at start + t * move.
    Py_ssize_t begin, end, every, start, move


cdef inline Range input_of_output(const Axis* a, Py_ssize_t o) noexcept nogil:
    """Taps of output o that lie inside of the input, and the input positions they read."""
    cdef Range r
    r.start = o * a.stride - a.pad
    r.move = a.dilation
    r.every = 1
    r.begin = ceil_div(-r.start, a.dilation)
    r.end = min(a.kernel, ceil_div(a.input - r.start, a.dilation))
    return r


cdef inline Range output_of_input(const Axis* a, Py_ssize_t i) noexcept nogil:
    """Taps through which input i reaches an output, and those outputs: o * stride = i + pad - t * dilation.

    The taps for which the division leaves nothing are `every` = stride / gcd(stride, dilation) apart; stepping
    by one and testing would be simpler, but wastes most of the work at larger strides.
    """
    cdef Range r
    cdef Py_ssize_t t = 0, g = a.stride, rest = a.dilation, swap
    while rest:
        swap = g % rest
        g = rest
        rest = swap
    r.every = a.stride // g
    while t < r.every and (i + a.pad - t * a.dilation) % a.stride != 0:
        t += 1
    if t == r.every or t >= a.kernel:
        r.begin = 0
        r.end = 0
        r.start = 0
        r.move = 0
        return r
    # o(t) = (i + pad - t * dilation) / stride falls with t by dilation / g for each `every` taps.
    r.begin = t
    while r.begin < a.kernel and i + a.pad - r.begin * a.dilation >= a.output * a.stride:
        r.begin += r.every
    r.end = r.begin
    while r.end < a.kernel and i + a.pad - r.end * a.dilation >= 0:
        r.end += r.every
    r.start = (i + a.pad) # numerators; the caller divides by the stride
    r.move = -a.dilation
    return r


def packed_size(geometry, str role):
    """Elements of the packed weights."""
    return geometry.channels * geometry.taps


cdef class Depthwise(Step):
    """Base: sizes."""

    cdef Axis axis[3]
    cdef Py_ssize_t batch, channels, taps

    def __init__(self, geometry, *args):
        if not geometry.groups == geometry.channels == geometry.outputs:
            raise ValueError(f"not a depthwise convolution: {geometry}")
        self.batch = geometry.batch
        self.channels = geometry.channels
        self.taps = geometry.taps
        for a in range(3):
            self.axis[a].input = geometry.input[a]
            self.axis[a].output = geometry.output[a]
            self.axis[a].kernel = geometry.kernel[a]
            self.axis[a].stride = geometry.stride[a]
            self.axis[a].dilation = geometry.dilation[a]
            self.axis[a].pad = geometry.pad[a]


cdef class Pack(Depthwise):
    """Weights (C, 1, taps) to [tap][channel]. Operands: weights, packed."""

    def __init__(self, geometry, str role="forward"):
        super().__init__(geometry)
        self.operands = 2

    cdef int run(self) noexcept nogil:
        cdef const real* w = <real*>self.operand[0]
        cdef real* packed = <real*>self.operand[1]
        cdef Py_ssize_t c, t
        for t in range(self.taps):
            for c in range(self.channels):
                packed[t * self.channels + c] = w[c * self.taps + t]
        return OK


cdef class Gather(Depthwise):
    """Forward (x to y) or input gradient (dy to dx).

    Args:
        bias, residual, clamp: as conv_direct.Gather's.

    Operands: source (N, spatial, C) channels-last, packed weights, bias (C,) or none, residual or none, target,
    workspace (none is needed); feature maps channels-last. The target may be the residual's memory.
    """

    cdef readonly Py_ssize_t workspace                # 0
    cdef bint biased, residual, clamped, transposed
    cdef real low, high

    def __init__(self, geometry, str role="forward", bint bias=False, bint residual=False, clamp=None):
        super().__init__(geometry)
        self.operands = 6
        self.biased = bias
        self.residual = residual
        self.clamped = clamp is not None
        if self.clamped:
            self.low, self.high = clamp
        self.transposed = role == "input_gradient"

    cdef int run(self) noexcept nogil:
        if self.transposed:
            self.parallel(0, self.batch * self.axis[0].input * self.axis[1].input)
        else:
            self.parallel(0, self.batch * self.axis[0].output * self.axis[1].output)
        return OK

    # Parallel axis: rows of the target, each written by one chunk.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Axis* d = &self.axis[0]
        cdef Axis* h = &self.axis[1]
        cdef Axis* w = &self.axis[2]
        cdef Py_ssize_t n, z, y, x, width
        cdef Range rd, rh, rw
        if self.transposed:
            y = i % h.input
            z = i // h.input % d.input
            n = i // (h.input * d.input)
            width = w.input
            rd = output_of_input(d, z)
            rh = output_of_input(h, y)
        else:
            y = i % h.output
            z = i // h.output % d.output
            n = i // (h.output * d.output)
            width = w.output
            rd = input_of_output(d, z)
            rh = input_of_output(h, y)
        for x in range(width):
            rw = output_of_input(w, x) if self.transposed else input_of_output(w, x)
            self.pixel(n, rd, rh, rw, (i * width + x) * self.channels)

    cdef void pixel(self, Py_ssize_t n, Range rd, Range rh, Range rw, Py_ssize_t place) noexcept nogil:
        """All channels of the target pixel at element `place`."""
        cdef real* target = <real*>self.operand[4] + place
        cdef const real* residual = <real*>self.operand[3] + place
        cdef Py_ssize_t c = 0, count
        cdef vf total
        while c < self.channels:
            count = min(<Py_ssize_t>VL, self.channels - c)
            total = self.lanes(n, &rd, &rh, &rw, c, count)
            if self.residual:
                total = total + vload_n(residual + c, count)
            if self.clamped:
                total = vclamp(total, vset(self.low), vset(self.high))
            if count == VL:
                vstore(target + c, total)
            else:
                vstore_n(target + c, total, count)
            c += VL

    cdef vf lanes(self, Py_ssize_t n, Range* rd, Range* rh, Range* rw, Py_ssize_t c, Py_ssize_t count) noexcept nogil:
        """`count` channels from c on of one target pixel, summed over its taps."""
        cdef Axis* d = &self.axis[0]
        cdef Axis* h = &self.axis[1]
        cdef Axis* w = &self.axis[2]
        cdef const real* source = <real*>self.operand[0] + c
        cdef const real* packed = <real*>self.operand[1] + c
        cdef const real* p
        cdef const real* q
        cdef Py_ssize_t i, j, k, z, y, x, depth, height, width
        cdef Py_ssize_t sd = 1, sh = 1, sw = 1
        cdef vf total = vzero()
        if self.transposed:
            sd, sh, sw = d.stride, h.stride, w.stride
            depth, height, width = d.output, h.output, w.output
        else:
            depth, height, width = d.input, h.input, w.input
        if self.biased:
            total = vload_n(<real*>self.operand[2] + c, count)
        i = rd.begin
        while i < rd.end:
            z = (rd.start + i * rd.move) // sd
            j = rh.begin
            while j < rh.end:
                y = (rh.start + j * rh.move) // sh
                k = rw.begin
                while k < rw.end:
                    x = (rw.start + k * rw.move) // sw
                    p = source + (((n * depth + z) * height + y) * width + x) * self.channels
                    q = packed + ((i * h.kernel + j) * w.kernel + k) * self.channels
                    if count == VL:
                        total = total + vload(p) * vload(q)
                    else:
                        total = total + vload_n(p, count) * vload_n(q, count)
                    k += rw.every
                j += rh.every
            i += rd.every
        return total


cdef class WeightGradient(Depthwise):
    """dw[c, t] = sum over images and output pixels o of x[o * stride + t * dilation - pad, c] * dy[o, c].

    Rows of dy are shared out by the shape; each share sums to a place of its own, and these are added in order.

    Operands: x and dy channels-last; partial sums (partial_size elements, written); dw (C, 1, taps).
    """

    cdef Py_ssize_t rows, shares
    cdef readonly Py_ssize_t partial_size

    def __init__(self, geometry):
        super().__init__(geometry)
        self.operands = 4
        self.rows = self.batch * self.axis[0].output * self.axis[1].output
        self.shares = max(1, min(self.rows, MOST_SHARES))
        self.partial_size = self.shares * self.taps * self.channels

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.shares)
        self.parallel(1, self.taps)
        return OK

    # Parallel axis: shares of the rows, then taps.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef real* partial = <real*>self.operand[2]
        cdef real* dw = <real*>self.operand[3]
        cdef Py_ssize_t row, c, share
        cdef real total
        if phase == 0:
            partial += i * self.taps * self.channels
            for c in range(self.taps * self.channels):
                partial[c] = 0
            for row in range(self.rows * i // self.shares, self.rows * (i + 1) // self.shares):
                self.add_row(row, partial)
            return
        for c in range(self.channels):
            total = 0
            for share in range(self.shares):
                total += partial[(share * self.taps + i) * self.channels + c]
            dw[c * self.taps + i] = total

    cdef void add_row(self, Py_ssize_t row, real* partial) noexcept nogil:
        """One row of dy times the inputs that each tap meets it with."""
        cdef Axis* d = &self.axis[0]
        cdef Axis* h = &self.axis[1]
        cdef Axis* w = &self.axis[2]
        cdef Py_ssize_t y = row % h.output, z = row // h.output % d.output
        cdef Py_ssize_t n = row // (h.output * d.output)
        cdef Range rd = input_of_output(d, z), rh = input_of_output(h, y)
        cdef const real* dy = <real*>self.operand[1] + row * w.output * self.channels
        cdef const real* line
        cdef Py_ssize_t i, j, k, first, last
        for i in range(rd.begin, rd.end):
            for j in range(rh.begin, rh.end):
                line = <real*>self.operand[0] + self.channels * w.input * (
                    (n * d.input + rd.start + i * d.dilation) * h.input + rh.start + j * h.dilation)
                for k in range(w.kernel):
                    # Outputs x with 0 <= x * stride + k * dilation - pad < input.
                    first = ceil_div(w.pad - k * w.dilation, w.stride)
                    last = min(w.output, ceil_div(w.input + w.pad - k * w.dilation, w.stride))
                    self.add_tap(line + (first * w.stride + k * w.dilation - w.pad) * self.channels,
                                 dy + first * self.channels, last - first,
                                 partial + ((i * h.kernel + j) * w.kernel + k) * self.channels)

    cdef void add_tap(self, const real* x, const real* dy, Py_ssize_t pixels, real* sums) noexcept nogil:
        """sums[c] += sum over p < pixels of x[p * stride, c] * dy[p, c]."""
        cdef Py_ssize_t c = 0, p, step = self.axis[2].stride * self.channels, rest
        cdef vf total
        while c + VL <= self.channels:
            total = vzero()
            for p in range(pixels):
                total = total + vload(x + p * step + c) * vload(dy + p * self.channels + c)
            vstore(sums + c, vload(sums + c) + total)
            c += VL
        rest = self.channels - c
        if rest:
            total = vzero()
            for p in range(pixels):
                total = total + vload_n(x + p * step + c, rest) * vload_n(dy + p * self.channels + c, rest)
            vstore_n(sums + c, vload_n(sums + c, rest) + total, rest)
