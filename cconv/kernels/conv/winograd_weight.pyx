"""Winograd's algorithm for weight gradients, F(3x3, 4x4), of 3x3 convolutions of stride 1.

For each of 36 planes dU[channel, output] = sum over tiles of V[tile, channel] * Y[tile, output]. V are the transformed
6x6 tiles of x, Y the transformed 4x4 tiles of dy (winograd.h). The sums are transformed back to 3x3 taps. There are
three walks over tiles and outputs:

    by shares    For small dU. Each job sums a share of the tiles, block by block, so that V and Y never leave its
                 core's cache. The shares are added at the end.
    by planes    Blocks of tiles one after another: x and dy are transformed into memory that all threads share, then
                 each plane's product is added to dU.
    by outputs   For few tiles. dU of a block of outputs and some channels stays in the thread's buffer and is
                 transformed back there. If V and Y of these outputs and channels fit in beside dU, the job also
                 transforms them itself: that costs less than to fetch them from another core.

Every sum runs over some tiles of a block from zero in registers, then over these partial sums, the blocks and the
shares, each in their order.
"""

from cconv.kernels.conv.winograd cimport PLANES, TAPS, cut_tiles
from cconv.kernels.conv.winograd_weight cimport winograd_weight_arguments
from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.loop cimport chunk_loop
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step

from cconv.kernels.conv.winograd import few_tiles, supports
from cconv.kernels.schedule import settings

cdef enum Walk:
    BY_SHARES, BY_PLANES, BY_OUTPUTS


cdef Py_ssize_t transformed_size(Build build, Py_ssize_t tiles, Py_ssize_t channels, Py_ssize_t outputs) noexcept:
    """Elements of V and Y of a block."""
    return PLANES * (build.odd_lines(tiles * (channels + build.line)) + build.odd_lines(tiles * outputs))


cdef class WeightGradient(Step):
    """dw of a 3x3 convolution of stride 1.

    Parallel axes. By shares: shares of the tiles; then blocks of outputs x some channels. By planes, for each block of
    tiles: tiles; then planes x blocks of outputs; in the end blocks of outputs x some channels. By outputs: tiles; then
    blocks of outputs x pieces of the channels. Each sum belongs to one chunk.

    Args:
        build: whose loops run.
        geometry: of the convolution.

    Attributes:
        partial_size: elements of the third operand.

    Operands: x (N, H, W, C) and dy (N, H', W', K) channels-last; partial sums and transformed tiles (partial_size
    elements, written); dw (K, C, 3, 3).

    Raises:
        ValueError: another kernel, stride or dilation, groups, or channels that are no whole vectors.
    """

    cdef winograd_weight_arguments sizes
    cdef int walk
    cdef chunk_loop transform, back
    cdef Py_ssize_t back_chunks
    cdef readonly Py_ssize_t partial_size

    def __init__(self, Build build, geometry):
        cdef winograd_weight_arguments* s = &self.sizes
        g = geometry
        if not supports(build, g):
            raise ValueError(f"conv_winograd_weight: not for this geometry: {g}")
        self.operands = 4
        self.arguments = s
        # A quarter of a direct convolution's multiplications; the transforms take about as long again.
        self.work = g.flops / (2 * FLOPS_PER_LANE * build.lanes)
        _, height, width = g.input
        _, out_height, out_width = g.output
        s.tiles = cut_tiles(g.batch, height, width, out_height, out_width, g.pad[1], g.pad[2])
        s.inner, s.outer = g.channels, g.outputs
        s.column_blocks = ceil_div(s.outer, build.tile_columns)
        s.sum_tiles, s.back_channels = settings.WINOGRAD_GRADIENT_SUM_TILES, settings.WINOGRAD_GRADIENT_BACK_CHANNELS
        s.pieces = ceil_div(s.inner, settings.WINOGRAD_GRADIENT_PIECE_CHANNELS)
        channels = ceil_div(s.inner, s.pieces)

        own_bytes = transformed_size(build, s.tiles.count, channels, build.tile_columns) * build.itemsize
        blocks = ceil_div(own_bytes, settings.WINOGRAD_GRADIENT_OWN_BYTES)
        s.own = (
            s.column_blocks * s.pieces > 1 and s.column_blocks <= settings.WINOGRAD_GRADIENT_OWN_PARTS
            and s.tiles.count <= settings.WINOGRAD_GRADIENT_OWN_TILES
            and blocks <= settings.WINOGRAD_GRADIENT_OWN_BLOCKS
        )
        weights = s.inner * s.outer
        s.shares = 1
        if s.own:
            self.walk = BY_OUTPUTS
        elif weights <= settings.WINOGRAD_FEW_WEIGHTS and s.tiles.count >= settings.WINOGRAD_GRADIENT_SHARE_TILES:
            self.walk = BY_SHARES
            # A power of two, so that a few cores have equal shares.
            shares = 1 << int(ceil_div(s.tiles.count, settings.WINOGRAD_GRADIENT_LEAST_SHARE) - 1).bit_length()
            s.shares = max(2, min(settings.WINOGRAD_GRADIENT_MOST_SHARES, shares))
            blocks = ceil_div(ceil_div(s.tiles.count, s.shares), settings.WINOGRAD_GRADIENT_SHARE_TILES)
        elif weights >= settings.WINOGRAD_MANY_WEIGHTS and few_tiles(s.tiles.count, weights):
            self.walk = BY_OUTPUTS
            blocks = 1  # what is transformed back is not added to
        else:
            self.walk = BY_PLANES
            sum_bytes = s.sum_tiles * (s.inner + build.line + s.outer) * build.itemsize
            sums = min(settings.WINOGRAD_GRADIENT_BLOCK_SUMS, settings.WINOGRAD_GRADIENT_PLANE_BYTES // sum_bytes)
            blocks = ceil_div(s.tiles.count, s.sum_tiles * max(1, sums))
        s.block = ceil_div(ceil_div(s.tiles.count, s.shares), max(1, blocks))

        s.plane = build.odd_lines(s.inner * s.outer)
        transformed = transformed_size(build, s.block, s.inner, s.outer)
        s.sums = 0 if self.walk == BY_SHARES or s.own else transformed
        self.partial_size = s.sums + (0 if self.walk == BY_OUTPUTS else s.shares * PLANES * s.plane)
        # Per thread: a pixel of zeros; V and Y, or dU, or both.
        own = max(s.inner, s.outer)
        if self.walk == BY_SHARES:
            own += transformed
        elif self.walk == BY_OUTPUTS:
            own += PLANES * build.odd_lines(channels * build.tile_columns)
            if s.own:
                own += transformed_size(build, s.block, channels, build.tile_columns)
        self.scratch_bytes = ceil_div(own * build.itemsize, 64) * 64

        name, self.chunks = {
            BY_SHARES: ("shares", s.shares),
            BY_PLANES: ("planes", PLANES * s.column_blocks),
            BY_OUTPUTS: ("outputs", s.column_blocks * s.pieces),
        }[self.walk]
        self.loop = build.loop("winograd_weight", name)
        self.transform, self.back = build.loop("winograd_weight", "transform"), build.loop("winograd_weight", "back")
        self.back_chunks = s.column_blocks * ceil_div(s.inner, s.back_channels)

    cdef int run(self) noexcept nogil:
        cdef winograd_weight_arguments* s = &self.sizes
        s.first = 0
        if self.walk == BY_SHARES or s.own:
            self.run_chunks(self.loop, self.chunks)
        else:
            while s.first < s.tiles.count:
                self.run_chunks(self.transform, min(s.block, s.tiles.count - s.first))
                self.run_chunks(self.loop, self.chunks)
                s.first += s.block
        if self.walk != BY_OUTPUTS:
            self.run_chunks(self.back, self.back_chunks)
        return OK
