"""Direct convolution for few output channels: m neighbouring pixels of a row are computed as one pixel of m times the
channels.

In y (N, H, W, K), m neighbouring pixels of a row have the same memory layout as one pixel of (N, H, W/m, m K). A
convolution with a longer kernel computes this merged pixel (geometry.abreast). Its stride along the row is m times the
original one, and its kernel covers the windows of all m pixels. Pixel a has its own copy of the weights, shifted by
a strides and padded with zeros. Example with three taps, stride 1 and m = 2:

    pixel 0    w0 w1 w2 0
    pixel 1    0  w0 w1 w2

direct.pyx fills K lanes of a vector. Here m K lanes are filled, for a kernel that is (m - 1) strides longer. With 6
output channels and 5x5 taps this is 1.6 times as fast as direct.pyx, with one output channel up to 4 times.

The steps of direct.pyx and weight.pyx compute the longer convolution. If x is finite, the forward pass has the same
bits as direct.pyx. If x has a NaN or an infinity, its products with the padding zeros make all m merged pixels NaN.
"""

from libc.string cimport memcpy

from cconv.kernels.conv.abreast cimport abreast_arguments
from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport OK, Step

from cconv.kernels.conv import direct, weight
from cconv.kernels.conv import geometry as geometries


def vectors_per_pixel(Build build, geometry, Py_ssize_t m):
    """Cost estimate: vector multiplications per pixel, input channel and kernel row if m pixels are merged into one."""
    longer = geometries.abreast(geometry, m)
    return build.block_vectors(longer.outputs) * longer.kernel[2] / m


def pixels_abreast(Build build, geometry):
    """The number of pixels m that are best merged into one; 1: merging does not help.

    m divides the output's width, and the m * outputs channels of a merged pixel fit in the columns of a register tile.
    """
    if geometry.groups > 1 or geometry.dilation[2] > 1 or geometry.outputs > build.tile_columns:
        return 1
    most = build.tile_columns // max(1, geometry.outputs)
    able = [m for m in range(1, most + 1) if geometry.output[2] % m == 0]
    return min(able, key=lambda m: vectors_per_pixel(build, geometry, m))


def saves(Build build, geometry):
    """Estimated speed-up: vector multiplications of direct.pyx divided by those of this algorithm."""
    m = pixels_abreast(build, geometry)
    return vectors_per_pixel(build, geometry, 1) / vectors_per_pixel(build, geometry, m) if m > 1 else 1.0


def supports(Build build, geometry):
    """Whether this algorithm can compute the geometry and gains by merging pixels."""
    return pixels_abreast(build, geometry) > 1


def packed_size(Build build, geometry, str role):
    """Number of elements of the packed weights."""
    return direct.packed_size(build, geometries.abreast(geometry, pixels_abreast(build, geometry)), role)


cdef class Base(Step):
    """Base class: wraps the step that computes the longer convolution.

    The scratch memory begins with the array that this step exchanges with the inner step. All threads share it.
    """

    cdef abreast_arguments sizes
    cdef object longer                  # geometry of the longer convolution
    cdef Step step                      # computes the longer convolution
    cdef Py_ssize_t itemsize
    cdef Py_ssize_t weight_bytes        # bytes of the longer convolution's weights

    def __init__(self, Build build, geometry, str role, *args):
        cdef abreast_arguments* s = &self.sizes
        if role == "input_gradient" or not supports(build, geometry):
            raise ValueError(f"conv_abreast: not for the {role} of this geometry: {geometry}")
        self.arguments = s
        self.itemsize = build.itemsize
        s.m = pixels_abreast(build, geometry)
        self.longer = geometries.abreast(geometry, s.m)
        s.outputs = geometry.outputs
        s.rows = geometry.channels * geometry.kernel[0] * geometry.kernel[1]
        s.taps, s.long_taps, s.shift = geometry.kernel[2], self.longer.kernel[2], geometry.stride[2]
        self.weight_bytes = self.bytes_of(s.m * s.outputs * s.rows * s.long_taps)

    cdef Py_ssize_t bytes_of(self, Py_ssize_t elements) noexcept nogil:
        """Bytes of an array of this many elements, rounded up to whole cache lines."""
        return ceil_div(elements * self.itemsize, 64) * 64

    def weigh(self, double nbytes, Py_ssize_t plan_bytes=0):
        self.step.weigh(nbytes, plan_bytes)
        super().weigh(self.weight_bytes, plan_bytes)
        self.gain += self.step.gain


cdef class Pack(Base):
    """Copies weights (K, C, taps) from ONNX's order into the longer kernel, then packs that as direct.Pack does.

    The copy is parallel over output channels, the packing as in direct.Pack.

    Args:
        build: the Build whose compiled loops run.
        geometry, role: as those of Gather.

    Operands: weights, packed (packed_size elements).
    """

    def __init__(self, Build build, geometry, str role="forward"):
        super().__init__(build, geometry, role)
        self.operands = 2
        self.loop = build.loop("abreast", "lengthen_weights")
        self.chunks = self.sizes.outputs
        self.step = direct.Pack(build, self.longer, role)
        self.scratch_bytes = self.weight_bytes + self.step.scratch_bytes

    def bind(self, addresses, size_t scratch, int threads):
        super().bind(addresses, scratch, threads)
        self.sizes.weights = self.scratch
        self.step.bind([scratch, addresses[1]], scratch + self.weight_bytes, threads)

    cdef int run(self) noexcept nogil:
        self.run_chunks(self.loop, self.chunks)
        return self.step.run()


cdef class Gather(Base):
    """Forward pass (x to y).

    Args:
        build, geometry, role, bias, residual, clamp: as those of direct.Gather; the role is "forward".

    Operands: as those of direct.Gather.
    """

    cdef bint biased
    cdef Py_ssize_t bias_bytes             # bytes of the bias, repeated for each of the m pixels
    cdef readonly Py_ssize_t workspace     # 0

    def __init__(self, Build build, geometry, str role="forward", bint bias=False, bint residual=False, clamp=None):
        super().__init__(build, geometry, role)
        self.operands = 6
        self.biased = bias
        self.step = direct.Gather(build, self.longer, role, bias, residual, clamp)
        self.bias_bytes = self.bytes_of(self.sizes.m * self.sizes.outputs)
        self.scratch_bytes = self.bias_bytes + self.step.scratch_bytes

    def bind(self, addresses, size_t scratch, int threads):
        super().bind(addresses, scratch, threads)
        source, packed, bias, *others = addresses
        self.step.bind([source, packed, scratch if self.biased else 0, *others], scratch + self.bias_bytes, threads)

    cdef int run(self) noexcept nogil:
        cdef Py_ssize_t nbytes = self.sizes.outputs * self.itemsize, a
        if self.biased:
            for a in range(self.sizes.m):
                memcpy(self.scratch + a * nbytes, self.operand[2], nbytes)
        return self.step.run()


cdef class WeightGradient(Base):
    """Weight gradient dw: the gradients of the longer kernel's m copies of the weights, added up.

    Parallel as weight.WeightGradient; then, for the addition, over output channels.

    Args, operands: as those of weight.WeightGradient.
    """

    cdef readonly Py_ssize_t partial_size

    def __init__(self, Build build, geometry):
        super().__init__(build, geometry, "weight_gradient")
        self.operands = 4
        self.loop = build.loop("abreast", "add_pixels")
        self.chunks = self.sizes.outputs
        self.step = weight.WeightGradient(build, self.longer)
        self.scratch_bytes = self.weight_bytes + self.step.scratch_bytes
        self.partial_size = self.step.partial_size

    def bind(self, addresses, size_t scratch, int threads):
        super().bind(addresses, scratch, threads)
        self.sizes.weights = self.scratch
        x, dy, partial, _ = addresses
        self.step.bind([x, dy, partial, scratch], scratch + self.weight_bytes, threads)

    cdef int run(self) noexcept nogil:
        cdef int status = self.step.run()
        self.run_chunks(self.loop, self.chunks)
        return status
