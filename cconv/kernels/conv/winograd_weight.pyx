"""Winograd's algorithm F(3x3, 4x4) for the weight gradients of 3x3 convolutions of stride 1.

For each of 36 planes, dU[channel, output] = sum over tiles of V[tile, channel] * Y[tile, output]. V holds the
transformed 6x6 tiles of x, Y the transformed 4x4 tiles of dy, and plane i has element i of every transformed tile
(winograd.h). The inverse transform turns the 36 planes of dU into 3x3 taps. There are three orders of the loops
("walks"):

    by shares    For small dU. Each job sums a share of the tiles, block by block, so that V and Y never leave its
                 core's cache. The shares are added at the end.
    by planes    Takes one block of tiles after another. x and dy are transformed into memory that all threads share,
                 then each plane's product is added to dU.
    by outputs   For few tiles. A job computes dU for a block of output channels and some input channels in the thread's
                 buffer, and applies the inverse transform there. If V and Y of these channels fit in the cache beside
                 dU, the job also computes them itself, which costs less than fetching them from another core.

Sums have a fixed order: first some tiles of a block, from zero in registers; then these partial sums; then the blocks;
then the shares.
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
    """Number of elements of V and Y for a block of tiles, with padding against cache set conflicts."""
    return PLANES * (build.odd_lines(tiles * (channels + build.line)) + build.odd_lines(tiles * outputs))


cdef class WeightGradient(Step):
    """Weight gradient dw of a 3x3 convolution of stride 1.

    Parallel axes of each walk. By shares: shares of the tiles; then blocks of outputs x blocks of input channels. By
    planes, for each block of tiles: tiles; then planes x blocks of outputs; at the end blocks of outputs x blocks of
    input channels. By outputs: tiles; then blocks of outputs x pieces of the input channels. Each sum is computed by
    exactly one chunk.

    Args:
        build: the Build whose compiled loops run.
        geometry: of the convolution.

    Attributes:
        partial_size: elements of the third operand, partial sums and transformed tiles.

    Operands: x (N, H, W, C) and dy (N, H', W', K) channels-last; partial sums and transformed tiles (partial_size
    elements, written); dw (K, C, 3, 3).

    Raises:
        ValueError: the geometry is not supported: another kernel, stride or dilation, groups, or a number of channels
            that is not a multiple of the vector length.
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
        # Estimated time: half of a direct convolution's. The products are a quarter of the multiplications, and the
        # transforms take about as long as the products.
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
            # The number of shares is a power of two, so that 2 or 4 cores get equally many.
            shares = 1 << int(ceil_div(s.tiles.count, settings.WINOGRAD_GRADIENT_LEAST_SHARE) - 1).bit_length()
            s.shares = max(2, min(settings.WINOGRAD_GRADIENT_MOST_SHARES, shares))
            blocks = ceil_div(ceil_div(s.tiles.count, s.shares), settings.WINOGRAD_GRADIENT_SHARE_TILES)
        elif weights >= settings.WINOGRAD_MANY_WEIGHTS and few_tiles(s.tiles.count, weights):
            self.walk = BY_OUTPUTS
            blocks = 1  # dU is transformed once, so all tiles must be in one block
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
        # Scratch per thread: one pixel of zeros, and depending on the walk V and Y, dU, or all three.
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
