"""Winograd convolution F(4x4, 3x3): forward and input gradient of 3x3 convolutions of stride 1.

The 6x6 input pixels of each tile of 4x4 outputs are transformed to 36 values per channel. Plane i holds value i of all
tiles (winograd.h). In each plane the convolution is a matrix product [tiles x channels] @ [channels x output channels].
The output transform turns the 36 planes of products into output pixels. Compared with a direct convolution this moves
2.25 times as many bytes and does a quarter of the multiplications. There are three orders of the loops ("walks"):

    by tiles     A job is a block of tiles: input transform, products of all 36 planes, output transform. V, the
                 block's transformed tiles, stays in L2. Transformed weights are streamed from the shared cache. If
                 there are few tiles in total, each job computes a part of the output channels for all tiles:
                 transforming the tiles again costs less than fetching V from another core.
    by planes    For many weights, which "by tiles" would stream again for every small block of tiles, or for so few
                 tiles that threads would run out of blocks. A large block of tiles is transformed, then multiplied
                 plane by plane, then transformed to outputs. All threads share each of these three loops. The tiles and
                 weights of one plane fit in L2 together.
    by outputs   For few tiles and so many weights that their transforms, 4 times larger, would pass through memory.
                 First, all tiles are transformed into memory that all threads share. Then each job takes some blocks of
                 output channels. The job transforms their weights itself, some input channels at a time, so that the
                 transformed weights never leave L2.

Planes are an odd number of cache lines apart: 36 streams at multiples of 4 KiB would share cache sets.
"""

from cconv.kernels.conv.winograd cimport PACK_CHANNELS, PLANES, cut_tiles, winograd_arguments
from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.loop cimport chunk_loop
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step

from cconv.kernels.conv.geometry import forward_part, input_gradient_parts
from cconv.kernels.schedule import settings

cdef enum Walk:
    BY_TILES, BY_PLANES, BY_OUTPUTS


def part_of(geometry, str role):
    """The gather of a pass, "forward" or "input_gradient". With stride 1 the input gradient is a single gather, too."""
    return forward_part(geometry) if role == "forward" else input_gradient_parts(geometry)[0]


def supports(Build build, geometry):
    """Whether this algorithm can compute the geometry: 2-D, 3x3 kernel, stride 1, no dilation, one group, and numbers
    of channels that are multiples of the vector length."""
    return (
        geometry.kernel == (1, 3, 3) and geometry.stride == (1, 1, 1) and geometry.dilation == (1, 1, 1)
        and geometry.groups == 1 and geometry.input[0] == geometry.output[0] == 1 and geometry.pad[0] == 0
        and geometry.channels % build.lanes == 0 and geometry.outputs % build.lanes == 0
    )


def few_tiles(Py_ssize_t tiles, Py_ssize_t weights):
    """Whether there are too few tiles to split the work into blocks of tiles.

    Args:
        tiles: number of tiles of all images.
        weights: input channels x output channels.
    """
    if weights <= settings.WINOGRAD_FEW_WEIGHTS:
        return tiles <= settings.WINOGRAD_FEW_TILES_OF_FEW_WEIGHTS
    return tiles <= settings.WINOGRAD_FEW_TILES


def packed_size(Build build, geometry, str role):
    """Number of elements of the packed weights. 0: the weights stay unpacked, because the walk by outputs is used."""
    cdef Base base = Base(build, geometry, role)
    if base.walk == BY_OUTPUTS:
        return 0
    return base.sizes.column_blocks * PLANES * build.odd_lines(base.sizes.inner * build.tile_columns)


cdef class Base(Step):
    """Base class: chooses the walk, and computes the sizes that both Pack and Gather need.

    Raises:
        ValueError: the geometry is not supported, see `supports`.
    """

    cdef winograd_arguments sizes
    cdef int walk
    cdef bint small         # walk by tiles, with few tiles in total and a small V

    def __init__(self, Build build, geometry, str role="forward", *args):
        cdef winograd_arguments* s = &self.sizes
        if not supports(build, geometry):
            raise ValueError(f"conv_winograd: not for this geometry: {geometry}")
        self.arguments = s
        _, h, w = part_of(geometry, role)
        s.tiles = cut_tiles(geometry.batch, h.input, w.input, h.output, w.output, h.pad, w.pad)
        s.inner, s.outer = geometry.channels, geometry.outputs
        s.outer_stride, s.inner_stride = geometry.channels * 9, 9
        if role != "forward":
            s.inner, s.outer = s.outer, s.inner
            s.outer_stride, s.inner_stride = s.inner_stride, s.outer_stride
        for i in range(3):
            for j in range(3):
                s.place[h.kernel[i] * 3 + w.kernel[j]] = 3 * i + j
        s.column_blocks = ceil_div(s.outer, build.tile_columns)
        s.sum_channels, s.weight_channels = settings.WINOGRAD_SUM_CHANNELS, settings.WINOGRAD_TRANSFORM_CHANNELS
        self.walk, s.parts = BY_TILES, 1
        weights = s.inner * s.outer
        few = few_tiles(s.tiles.count, weights)
        v_bytes = PLANES * s.tiles.count * (s.inner + build.line) * build.itemsize
        if few and s.column_blocks <= settings.WINOGRAD_OWN_PARTS and v_bytes <= settings.WINOGRAD_OWN_BYTES:
            self.small, s.parts = True, s.column_blocks
        elif few and weights >= settings.WINOGRAD_HUGE_WEIGHTS:
            self.walk = BY_OUTPUTS
        elif few or weights >= settings.WINOGRAD_MANY_WEIGHTS:
            self.walk = BY_PLANES


cdef class Pack(Base):
    """Transforms weights (K, C, 3, 3) and packs them as [output block][plane][channel][column].

    Parallel over blocks of output channels and blocks of input channels.

    Args:
        build: the Build whose compiled loops run.
        geometry, role: of the convolution.

    Operands: weights, packed (packed_size elements).

    Raises:
        ValueError: the geometry is not supported, see `supports`; or packed_size is 0.
    """

    def __init__(self, Build build, geometry, str role="forward"):
        super().__init__(build, geometry, role)
        if self.walk == BY_OUTPUTS:
            raise ValueError(f"conv_winograd: weights are read as they are: {geometry}")
        self.operands = 2
        self.loop = build.loop("winograd", "pack")
        self.chunks = self.sizes.column_blocks * ceil_div(self.sizes.inner, PACK_CHANNELS)


cdef class Gather(Base):
    """Winograd forward pass (x to y) or input gradient (dy to dx).

    Parallel axes of each walk. By tiles: blocks of tiles x parts of the output channels. By planes, for each block of
    tiles: tiles; then planes; then tiles again. By outputs: tiles; then blocks of output channels. Every output is
    written by exactly one chunk.

    Args:
        build: the Build whose compiled loops run.
        geometry, role, bias, residual, clamp: as those of direct.Gather.

    Attributes:
        workspace: number of elements of the workspace.

    Operands: source (N, H, W, C), packed weights (unpacked if packed_size is 0), bias or none, residual or none,
    target, workspace (written; none if its size is 0). The target may be the residual's memory.

    Raises:
        ValueError: the geometry is not supported, see `supports`.
    """

    cdef readonly Py_ssize_t workspace
    cdef chunk_loop transform, back
    cdef Py_ssize_t blocks                                      # number of blocks of tiles
    cdef Py_ssize_t target_bytes, pixel_bytes, vector_bytes     # arguments of streams_to

    def __init__(self, Build build, geometry, str role="forward", bint bias=False, bint residual=False, clamp=None):
        super().__init__(build, geometry, role)
        cdef winograd_arguments* s = &self.sizes
        self.operands = 6
        # Estimated time: half of a direct convolution's. The products are a quarter of the multiplications, and the
        # transforms take about as long as the products.
        self.work = geometry.flops / (2 * FLOPS_PER_LANE * build.lanes)
        s.biased, s.residual, s.clamped = bias, residual, clamp is not None
        if s.clamped:
            s.low, s.high = clamp
        self.pixel_bytes, self.vector_bytes = s.outer * build.itemsize, build.lanes * build.itemsize
        self.target_bytes = geometry.batch * s.tiles.out_height * s.tiles.out_width * self.pixel_bytes

        most = {
            BY_TILES: settings.WINOGRAD_BLOCK_TILES // build.tile_rows * build.tile_rows,
            BY_PLANES: settings.WINOGRAD_PLANE_TILES * build.tile_rows,
            BY_OUTPUTS: settings.WINOGRAD_FEW_TILES,
        }[self.walk]
        blocks = ceil_div(s.tiles.count, most)
        if self.small:
            blocks = 2 if s.parts == 1 else 1
        elif self.walk == BY_TILES and blocks < settings.WINOGRAD_LEAST_JOBS:
            blocks = 1 << int(blocks - 1).bit_length()
        s.block = ceil_div(s.tiles.count, max(1, blocks))
        self.blocks = ceil_div(s.tiles.count, s.block)
        group = {
            BY_TILES: settings.WINOGRAD_GROUP, BY_PLANES: s.column_blocks, BY_OUTPUTS: settings.WINOGRAD_JOB_BLOCKS,
        }[self.walk]
        s.group = min(ceil_div(s.column_blocks, s.parts), group)

        s.v_row = s.inner + build.line
        s.v_plane = build.odd_lines(s.block * s.v_row)
        s.m_row = s.group * build.tile_columns + build.line
        s.m_plane = build.odd_lines(s.block * s.m_row)
        v, m = PLANES * s.v_plane, PLANES * s.m_plane
        u = PLANES * build.odd_lines(min(s.inner, s.weight_channels) * build.tile_columns) * s.group
        self.workspace = {BY_TILES: 0, BY_PLANES: v + m, BY_OUTPUTS: v}[self.walk]
        # Scratch per thread: one pixel of zeros that replaces pixels outside of the image, and those of V, M and U that
        # the threads do not share.
        own = build.odd_lines(s.inner) + {BY_TILES: v + m, BY_PLANES: 0, BY_OUTPUTS: m + u}[self.walk]
        self.scratch_bytes = own * build.itemsize

        if self.walk == BY_TILES:
            self.loop = build.loop("winograd", "tiles")
            self.chunks = self.blocks * s.parts
            return
        self.transform, self.back = build.loop("winograd", "transform"), build.loop("winograd", "back")
        self.loop = build.loop("winograd", "planes" if self.walk == BY_PLANES else "outputs")
        self.chunks = PLANES if self.walk == BY_PLANES else ceil_div(s.column_blocks, s.group)

    cdef int run(self) noexcept nogil:
        cdef winograd_arguments* s = &self.sizes
        cdef Py_ssize_t block, count
        s.stream = self.streams_to(4, self.target_bytes, self.pixel_bytes, self.vector_bytes)
        if self.walk == BY_TILES:
            self.run_chunks(self.loop, self.chunks)
            return OK
        for block in range(self.blocks):
            s.current = block
            count = min(s.block, s.tiles.count - block * s.block)
            self.run_chunks(self.transform, count)
            self.run_chunks(self.loop, self.chunks)
            if self.walk == BY_PLANES:
                self.run_chunks(self.back, count)
        return OK
