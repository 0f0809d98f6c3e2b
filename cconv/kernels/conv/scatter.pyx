"""Input gradient by scattering, for few channels of dx. Also the forward pass of ConvTranspose, which is the same.

direct.pyx gathers: the columns of its register tile are the channels of one pixel of dx. So 6 channels fill only 6 of
16 lanes, and the zero padding is multiplied, too. Here the columns are all taps of a kernel row and their channels.
Every pixel of dy is multiplied by them, [outputs] @ [outputs x (tap, channel)], and the products are added to the
contiguous pixels of dx that these taps reach. The rows of a tile are pixels of dy in the same column but different
rows, because these add to different rows of dx.

A job is some rows of one image's dx. They are summed in the thread's buffer, including the padding. From every row of
dy the job uses only the taps that reach its rows. So each product is computed once, and the order of every sum is
fixed.
"""

from cconv.kernels.conv.scatter cimport scatter_arguments
from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport FLOPS_PER_LANE, Step


def supports(Build build, geometry):
    """Whether this algorithm can compute the geometry: 1-D or 2-D, several taps in a kernel row, no dilation along the
    row, one group."""
    g = geometry
    return (
        g.groups == g.dilation[2] == 1 < g.kernel[2]
        and g.kernel[0] == g.input[0] == g.output[0] == 1 and g.pad[0] == 0
    )


cdef class Base(Step):
    """Base class: the sizes that both Pack and Gather need."""

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
    """Number of elements of the packed weights."""
    cdef Base base = Base(build, geometry, role)
    return base.sizes.kernel_y * base.sizes.inner * base.sizes.columns


cdef class Pack(Base):
    """Packs weights (K, C, taps) as [kernel row][block of columns][output][column]; padding columns are 0.

    A column is a (tap of the kernel row, channel of dx) pair. Parallel over kernel rows and blocks of columns.

    Args:
        build: the Build whose compiled loops run.
        geometry, role: as those of Gather.

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
        build, geometry, role, bias, residual, clamp: as those of direct.Gather; the role is "input_gradient".

    Operands: as those of direct.Gather.
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
