"""Direct convolution where few channels come out: neighbouring pixels of a row as one pixel of more channels.

Of y (N, H, W, K) m neighbours of a row lie in memory like one pixel of (N, H, W/m, m K), and that is the result of a
convolution too (geometry.abreast): m times the stride along the row, and a kernel so much longer that it covers the
windows of all m. The weights of pixel a are a strides further on in it, between zeros. Three taps, m = 2:

    pixel 0    w0 w1 w2 0
    pixel 1    0  w0 w1 w2

conv_direct fills K lanes of a vector; here m K lanes are full, for a kernel that is (m - 1) strides longer. With 6
outputs and 5x5 taps that makes 1.6 times as fast, with one output up to 4 times.

conv_direct and conv_weight compute this longer convolution. Sums of the forward pass are those of conv_direct, bit for
bit, while x is finite; a NaN or an infinity, times zero, shows in all m pixels.
"""

from libc.string cimport memcpy, memset

from cconv.kernels.core.simd cimport CACHE_LINE_REALS, TILE_COLS, ceil_div, real
from cconv.kernels.core.step cimport OK, Step
from cconv.kernels.core.tile cimport block_vectors

from cconv.kernels.conv import geometry as geometries

from . import conv_direct, conv_weight


cdef inline Py_ssize_t bytes_of(Py_ssize_t elements) noexcept nogil:
    """Of so many elements, in whole cache lines."""
    return ceil_div(elements, CACHE_LINE_REALS) * CACHE_LINE_REALS * <Py_ssize_t>sizeof(real)


def vectors_per_pixel(geometry, Py_ssize_t m):
    """Vectors that are multiplied for each pixel, input channel and kernel row when m pixels are one."""
    longer = geometries.abreast(geometry, m)
    return block_vectors(longer.outputs) * longer.kernel[2] / m


def pixels_abreast(geometry):
    """How many pixels are best taken as one; 1: none.

    They divide the row, and their outputs are at most a tile's columns.
    """
    if geometry.groups > 1 or geometry.dilation[2] > 1 or geometry.outputs > TILE_COLS:
        return 1
    most = TILE_COLS // max(1, geometry.outputs)
    able = [m for m in range(1, most + 1) if geometry.output[2] % m == 0]
    return min(able, key=lambda m: vectors_per_pixel(geometry, m))


def saves(geometry):
    """How many times as many vectors conv_direct multiplies for a forward pass or a weight gradient."""
    m = pixels_abreast(geometry)
    return vectors_per_pixel(geometry, 1) / vectors_per_pixel(geometry, m) if m > 1 else 1.0


def fits(geometry):
    """Whether this algorithm can compute the geometry, with several pixels as one."""
    return pixels_abreast(geometry) > 1


def packed_size(geometry, str role):
    """Elements of the packed weights."""
    return conv_direct.packed_size(geometries.abreast(geometry, pixels_abreast(geometry)), role)


cdef class Base(Step):
    """A step around that of the longer convolution."""

    cdef object longer                     # its geometry
    cdef Step step
    cdef Py_ssize_t m, outputs, rows       # pixels as one; outputs; kernel rows of an output, of all channels
    cdef Py_ssize_t taps, long_taps, shift # along the row, here and in the longer one; of each further pixel
    cdef Py_ssize_t weights                # bytes of the longer convolution's weights, as ONNX has them

    def __init__(self, geometry, str role, *args):
        if role == "input_gradient" or not fits(geometry):
            raise ValueError(f"conv_abreast: not for the {role} of this geometry: {geometry}")
        self.m = pixels_abreast(geometry)
        self.longer = geometries.abreast(geometry, self.m)
        self.outputs = geometry.outputs
        self.rows = geometry.channels * geometry.kernel[0] * geometry.kernel[1]
        self.taps, self.long_taps, self.shift = geometry.kernel[2], self.longer.kernel[2], geometry.stride[2]
        self.weights = bytes_of(self.m * self.outputs * self.rows * self.long_taps)

    def weigh(self, double nbytes, Py_ssize_t plan_bytes=0):
        self.step.weigh(nbytes, plan_bytes)
        super().weigh(self.weights, plan_bytes)
        self.gain += self.step.gain

    cdef real* long_weights(self, real* base, Py_ssize_t a, Py_ssize_t k) noexcept nogil:
        """The longer convolution's weights of pixel a's output k: its first tap there."""
        return base + (a * self.outputs + k) * self.rows * self.long_taps + a * self.shift


cdef class Pack(Base):
    """Weights (K, C, taps) in ONNX's order to the longer convolution's, packed as conv_direct does.

    Operands: weights, packed (packed_size elements).
    """

    def __init__(self, geometry, str role="forward"):
        super().__init__(geometry, role)
        self.operands = 2
        self.step = conv_direct.Pack(self.longer, role)
        self.scratch_bytes = self.weights + self.step.scratch_bytes

    def bind(self, addresses, size_t scratch, int threads):
        super().bind(addresses, scratch, threads)
        self.step.bind([scratch, addresses[1]], scratch + self.weights, threads)

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.outputs)
        return self.step.run()

    # Parallel axis: outputs; each writes its own rows, once for every pixel.
    cdef void chunk(self, int phase, Py_ssize_t k, int thread) noexcept nogil:
        cdef const real* w = <real*>self.operand[0] + k * self.rows * self.taps
        cdef real* target
        cdef Py_ssize_t a, row
        for a in range(self.m):
            target = self.long_weights(<real*>self.scratch, a, k)
            memset(target - a * self.shift, 0, self.rows * self.long_taps * sizeof(real))
            for row in range(self.rows):
                memcpy(target + row * self.long_taps, w + row * self.taps, self.taps * sizeof(real))


cdef class Gather(Base):
    """Forward pass (x to y).

    Args:
        geometry, role, bias, residual, clamp: as conv_direct.Gather's; the role is "forward".

    Operands: as conv_direct.Gather's.
    """

    cdef bint biased
    cdef Py_ssize_t biases                 # bytes of the bias, once for every pixel
    cdef readonly Py_ssize_t workspace     # 0

    def __init__(self, geometry, str role="forward", bint bias=False, bint residual=False, clamp=None):
        super().__init__(geometry, role)
        self.operands = 6
        self.biased = bias
        self.step = conv_direct.Gather(self.longer, role, bias, residual, clamp)
        self.biases = bytes_of(self.m * self.outputs)
        self.scratch_bytes = self.biases + self.step.scratch_bytes

    def bind(self, addresses, size_t scratch, int threads):
        super().bind(addresses, scratch, threads)
        source, packed, bias, *others = addresses
        self.step.bind([source, packed, scratch if self.biased else 0, *others], scratch + self.biases, threads)

    cdef int run(self) noexcept nogil:
        cdef Py_ssize_t a
        if self.biased:
            for a in range(self.m):
                memcpy(<real*>self.scratch + a * self.outputs, self.operand[2], self.outputs * sizeof(real))
        return self.step.run()


cdef class WeightGradient(Base):
    """dw of a convolution: the sum of what the longer one has for each of the pixels.

    Args, operands: as conv_weight.WeightGradient's.
    """

    cdef readonly Py_ssize_t partial_size

    def __init__(self, geometry):
        super().__init__(geometry, "weight_gradient")
        self.operands = 4
        self.step = conv_weight.WeightGradient(self.longer)
        self.scratch_bytes = self.weights + self.step.scratch_bytes
        self.partial_size = self.step.partial_size

    def bind(self, addresses, size_t scratch, int threads):
        super().bind(addresses, scratch, threads)
        x, dy, partial, _ = addresses
        self.step.bind([x, dy, partial, scratch], scratch + self.weights, threads)

    cdef int run(self) noexcept nogil:
        cdef int status = self.step.run()
        self.parallel(0, self.outputs)
        return status

    # Parallel axis: outputs; each writes its own rows of dw.
    cdef void chunk(self, int phase, Py_ssize_t k, int thread) noexcept nogil:
        cdef real* dw = <real*>self.operand[3] + k * self.rows * self.taps
        cdef const real* sums
        cdef Py_ssize_t a, row, t
        for a in range(self.m):
            sums = self.long_weights(<real*>self.scratch, a, k)
            for row in range(self.rows):
                for t in range(self.taps):
                    if a == 0:
                        dw[row * self.taps + t] = sums[row * self.long_taps + t]
                    else:
                        dw[row * self.taps + t] += sums[row * self.long_taps + t]
