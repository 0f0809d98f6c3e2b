"""Direct convolution by scattering, for few channels that come out: input gradients, and forward of ConvTranspose.

direct.pyx gathers: the channels of an output pixel are the columns of the register tile. So 6 channels fill 6 of 16
lanes, and pixels outside are multiplied, too. Here, every pixel of dy is multiplied with the taps of a kernel row and
their channels, side by side: [outputs] @ [outputs x (tap, channel)]. The products are added to the run of pixels of dx
that they reach. The rows of a tile are pixels of dy above one another. These reach different rows of dx.

A job is some rows of one image's dx. They are summed in the thread's buffer, with the border. The job takes from every
row of dy the taps that reach its rows. So each product is computed once, and sums have one order.
"""

from cconv.kernels.conv.scatter cimport scatter_arguments
from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport FLOPS_PER_LANE, Step


def supports(Build build, geometry):
    """Whether this algorithm can compute the geometry: one or two axes, several taps in a row, no dilation along it, no
    groups."""
    g = geometry
    return (
        g.groups == g.dilation[2] == 1 < g.kernel[2]
        and g.kernel[0] == g.input[0] == g.output[0] == 1 and g.pad[0] == 0
    )


cdef class Base(Step):
    """The sizes that packing and multiplying share."""

    cdef scatter_arguments sizes

    def __init__(self, Build build, geometry, str role, *args):
        cdef scatter_arguments* s = &self.sizes
        if role != "input_gradient" or not supports(build, geometry):
            raise ValueError(f"conv_scatter: not for the {role} of this geometry: {geometry}")
        self.arguments = s
        s.inner, s.outer = geometry.outputs, geometry.channels
        _, s.kernel_y, s.kernel_x = geometry.kernel
        s.span = s.kernel_x * s.outer
        s.blocks = ceil_div(s.span, build.tile_columns)
        s.columns = build.packed_columns(s.span)


def packed_size(Build build, geometry, str role):
    """Elements of the packed weights."""
    cdef Base base = Base(build, geometry, role)
    return base.sizes.kernel_y * base.sizes.inner * base.sizes.columns


cdef class Pack(Base):
    """Weights (K, C, taps) to [kernel row][block of columns][output][column], missing columns 0.

    Parallel over kernel rows and blocks of columns.

    Args:
        build: whose loops run.
        geometry, role: as the Gather's.

    Operands: weights, packed (packed_size elements).
    """

    def __init__(self, Build build, geometry, str role):
        super().__init__(build, geometry, role)
        self.operands = 2
        self.loop = build.loop("scatter", "pack")
        self.chunks = self.sizes.kernel_y * self.sizes.blocks


cdef class Gather(Base):
    """Input gradient (dy to dx).

    Parallel over images and blocks of rows of dx.

    Args:
        build, geometry, role, bias, residual, clamp: as direct.Gather's; the role is "input_gradient".

    Operands: as direct.Gather's.
    """

    cdef readonly Py_ssize_t workspace       # 0

    def __init__(self, Build build, geometry, str role, bint bias=False, bint residual=False, clamp=None):
        cdef scatter_arguments* s = &self.sizes
        super().__init__(build, geometry, role)
        self.work = geometry.flops / (FLOPS_PER_LANE * build.lanes)
        self.operands = 6
        self.loop = build.loop("scatter", "gather")
        s.biased, s.residual, s.clamped = bias, residual, clamp is not None
        if s.clamped:
            s.low, s.high = clamp
        _, s.height, s.width = geometry.input
        _, s.dy_height, s.dy_width = geometry.output
        _, s.stride_y, s.stride_x = geometry.stride
        _, s.dilation_y, _ = geometry.dilation
        _, s.pad_y, s.pad_x = geometry.pad
        s.rows = min(s.height, build.tile_rows * s.stride_y)
        s.jobs_y = ceil_div(s.height, max(<Py_ssize_t>1, s.rows))
        s.positions = max((s.dy_width - 1) * s.stride_x + s.kernel_x, s.pad_x + s.width)
        s.pitch = build.odd_lines(s.positions * s.outer)
        self.chunks = geometry.batch * s.jobs_y
        self.scratch_bytes = s.rows * s.pitch * build.itemsize
