"""Winograd's algorithm for weight gradients, F(3x3, 4x4), of 3x3 convolutions of stride 1.

For each of 36 planes dU[channel, output] = sum over tiles of V[tile, channel] * Y[tile, output], where V are the
transformed 6x6 tiles of x and Y the transformed 4x4 tiles of dy (winograd.h); the sums are transformed back to 3x3
taps. Three walks:

    by shares    where dU is small: each job sums a share of the tiles for itself, block by block, so that V and Y never
                 leave its core's cache; the shares are added in the end
    by planes    blocks of tiles one after another: x and dy are transformed into memory that all threads share, then
                 each plane's product is added to dU
    by outputs   where all tiles together are few: dU of a block of outputs and some channels stays in the thread's
                 buffer, and is transformed back there. Where V and Y of these fit in beside it, a job makes them, too:
                 that costs less than to fetch what another core has made.

Every sum runs over some tiles of a block from zero in registers, and over these, the blocks and the shares in their order.
"""

from libc.string cimport memset

from cconv.kernels.core.simd cimport CACHE_LINE_REALS, TILE_COLS, TILE_ROWS, VL, ceil_div, odd_lines, real, vf, vload, vstore
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step
from cconv.kernels.core.tile cimport TILE_ADD, TILE_STORE, block_vectors, tile_along, tile_job

cdef extern from "winograd.h" nogil:
    void winograd_pixels(const real* image, Py_ssize_t height, Py_ssize_t width, Py_ssize_t pixel, Py_ssize_t y,
                         Py_ssize_t x, int size, const real* zeros, const real** p)
    void winograd_input(const real* const* p, Py_ssize_t channels, Py_ssize_t pixel, real* v, Py_ssize_t plane)
    void winograd_gradient(const real* const* p, Py_ssize_t channels, Py_ssize_t pixel, real* y, Py_ssize_t plane,
                           Py_ssize_t columns, Py_ssize_t tiles, Py_ssize_t tile)
    void winograd_store_taps(const real* m, Py_ssize_t plane, real* dw, Py_ssize_t output)

cdef enum:
    PLANES = 36

# The loops of a run.
cdef enum:
    SHARE, TRANSFORM, OUTPUTS, PLANE, BACK

# Tiles that are summed from zero: with 448 the rms error is 9 times a direct convolution's, with 112 it is 7 times.
cdef Py_ssize_t SUM_TILES = 112
# The walk by shares is taken up to so many weights, whose dU stays in L2 beside V and Y of a block. Tiles of a block, at
# which it begins too; tiles that are worth a dU of their own; shares. Xeon, batch 16, 2 threads, by planes / by shares: 64
# channels at 56x56 6.2 / 5.2 ms, at 14x14 0.67 / 0.42 ms, 32 at 28x28 0.63 / 0.39 ms.
cdef Py_ssize_t FEW_WEIGHTS = 64 * 64, SHARE_TILES = 56, LEAST_SHARE = 112, MOST_SHARES = 16
# The walk by planes has blocks of up to so many sums, as far as V and Y of one plane stay in L2: the longer, the less
# often dU is read and written.
cdef Py_ssize_t BLOCK_SUMS = 4, PLANE_BYTES = 1 << 19
# The walk by outputs is taken up to FEW_TILES, from MANY_WEIGHTS on; channels of a piece of it.
cdef Py_ssize_t FEW_TILES = 128, MANY_WEIGHTS = 150 * 150, PIECE_CHANNELS = 112
# With up to OWN_TILES each job makes V and Y, so many bytes at a time, in at most so many blocks of tiles and for at most so
# many blocks of outputs, which all make the same V. Xeon, 2 threads, before / so, us: 64 -> 128 channels at 4x4, batch 32
# 190 / 150, batch 8 84 / 53; 32 -> 64 at 8x8, batch 8 75 / 46; 128 -> 128 at 7x7, batch 8 320 / 265; 64 -> 64 at 8x8,
# batch 16 157 / 133, batch 32, in 128 tiles, 239 / 252.
cdef Py_ssize_t OWN_TILES = 64, OWN_BYTES = 5 << 17, OWN_BLOCKS = 4, OWN_PARTS = 4
# Channels that are transformed back at once.
cdef Py_ssize_t BACK_CHANNELS = 16


cdef struct Block:
    # Neighbouring tiles, transformed: all or some channels of x, all outputs or a block of them.
    Py_ssize_t first, count
    Py_ssize_t channel, channels, output, outputs
    Py_ssize_t v_row, v_plane, y_plane   # elements
    real* v
    real* y


cdef Py_ssize_t transformed_size(Py_ssize_t tiles, Py_ssize_t channels, Py_ssize_t outputs) noexcept nogil:
    """Elements of V and Y of a block."""
    return PLANES * (odd_lines(tiles * (channels + CACHE_LINE_REALS)) + odd_lines(tiles * outputs))


cdef class WeightGradient(Step):
    """dw of a 3x3 convolution of stride 1.

    Operands: x (N, H, W, C) and dy (N, H', W', K) channels-last; partial sums and transformed tiles (partial_size
    elements, written); dw (K, C, 3, 3).

    Raises:
        ValueError: another kernel, stride or dilation, groups, or channels that are no whole vectors.
    """

    cdef Py_ssize_t inner, outer, column_blocks
    cdef Py_ssize_t batch, height, width, out_height, out_width, pad_y, pad_x
    cdef Py_ssize_t tiles_y, tiles_x, tiles
    cdef Py_ssize_t block                     # tiles of a block
    cdef Py_ssize_t plane                     # elements of a plane of dU
    cdef Py_ssize_t transformed               # elements of V and Y
    cdef Py_ssize_t shares, pieces
    cdef bint by_shares, by_outputs, own      # own: each job makes V and Y
    cdef Block current                        # that all threads work on
    cdef readonly Py_ssize_t partial_size

    def __init__(self, geometry):
        g = geometry
        if not (
            g.kernel == (1, 3, 3) and g.stride == g.dilation == (1, 1, 1) and g.groups == 1
            and g.input[0] == g.output[0] == 1 and g.pad[0] == 0 and g.channels % VL == g.outputs % VL == 0
        ):
            raise ValueError(f"conv_winograd_weight: not for this geometry: {g}")
        self.work = geometry.flops / (2 * FLOPS_PER_LANE * VL)  # a quarter of the multiplications, and transforms
        self.operands = 4
        self.inner, self.outer = g.channels, g.outputs
        self.column_blocks = ceil_div(self.outer, TILE_COLS)
        self.batch = g.batch
        _, self.height, self.width = g.input
        _, self.out_height, self.out_width = g.output
        _, self.pad_y, self.pad_x = g.pad
        self.tiles_y, self.tiles_x = ceil_div(self.out_height, 4), ceil_div(self.out_width, 4)
        self.tiles = self.batch * self.tiles_y * self.tiles_x
        weights = self.inner * self.outer
        self.pieces = ceil_div(self.inner, PIECE_CHANNELS)
        channels = ceil_div(self.inner, self.pieces)
        blocks = ceil_div(transformed_size(self.tiles, channels, TILE_COLS) * sizeof(real), OWN_BYTES)
        self.own = (
            self.column_blocks * self.pieces > 1 and self.column_blocks <= OWN_PARTS
            and self.tiles <= OWN_TILES and blocks <= OWN_BLOCKS
        )
        self.by_shares = not self.own and weights <= FEW_WEIGHTS and self.tiles >= SHARE_TILES
        self.by_outputs = self.own or (self.tiles <= FEW_TILES and weights >= MANY_WEIGHTS)
        self.shares = 1
        if self.by_shares:
            # A power of two, so that a few cores have equal shares.
            shares = 1 << (ceil_div(self.tiles, LEAST_SHARE) - 1).bit_length()
            self.shares = max(2, min(<Py_ssize_t>MOST_SHARES, shares))
            blocks = ceil_div(ceil_div(self.tiles, self.shares), SHARE_TILES)
        elif not self.by_outputs:
            sum_bytes = SUM_TILES * (self.inner + CACHE_LINE_REALS + self.outer) * sizeof(real)
            most = SUM_TILES * max(1, min(<Py_ssize_t>BLOCK_SUMS, PLANE_BYTES // sum_bytes))
            blocks = ceil_div(self.tiles, most)
        elif not self.own:
            blocks = 1  # what is transformed back is not added to
        self.block = ceil_div(ceil_div(self.tiles, self.shares), max(1, blocks))
        self.plane = odd_lines(self.inner * self.outer)
        self.transformed = transformed_size(self.block, self.inner, self.outer)
        own = transformed_size(self.block, channels, TILE_COLS)
        sums = PLANES * odd_lines(channels * TILE_COLS)
        self.partial_size = (0 if self.by_shares or self.own else self.transformed) + (
            0 if self.by_outputs else self.shares * PLANES * self.plane)
        self.scratch_bytes = sizeof(real) * (
            max(self.inner, self.outer) + (self.transformed if self.by_shares else 0)
            + (sums if self.by_outputs else 0) + (own if self.own else 0))
        self.scratch_bytes = ceil_div(self.scratch_bytes, 64) * 64

    cdef int run(self) noexcept nogil:
        cdef Py_ssize_t first = 0
        if self.by_shares:
            self.parallel(SHARE, self.shares)
        elif self.own:
            self.parallel(OUTPUTS, self.column_blocks * self.pieces)
        else:
            while first < self.tiles:
                self.current = self.block_at(first, self.tiles, 0, self.inner, 0, self.outer, <real*>self.operand[2])
                self.parallel(TRANSFORM, self.current.count)
                if self.by_outputs:
                    self.parallel(OUTPUTS, self.column_blocks * self.pieces)
                else:
                    self.parallel(PLANE, PLANES * self.column_blocks)
                first += self.block
        if not self.by_outputs:
            self.parallel(BACK, self.column_blocks * ceil_div(self.inner, BACK_CHANNELS))
        return OK

    cdef Block block_at(self, Py_ssize_t first, Py_ssize_t end, Py_ssize_t channel, Py_ssize_t channels, Py_ssize_t output,
                        Py_ssize_t outputs, real* transformed) noexcept nogil:
        """The block of tiles from `first` on, with V and Y of these channels and outputs to be written to this memory."""
        cdef Block block
        block.first, block.count = first, min(self.block, end - first)
        block.channel, block.channels, block.output, block.outputs = channel, channels, output, outputs
        block.v_row = channels + CACHE_LINE_REALS
        block.v_plane, block.y_plane = odd_lines(self.block * block.v_row), odd_lines(self.block * outputs)
        block.v, block.y = transformed, transformed + PLANES * block.v_plane
        return block

    cdef real* sums_of(self, Py_ssize_t share, Py_ssize_t plane, Py_ssize_t nb) noexcept nogil:
        """dU of a share [plane][block of outputs][channel][column]: one block."""
        cdef Py_ssize_t transformed = 0 if self.by_shares else self.transformed
        return <real*>self.operand[2] + transformed + (share * PLANES + plane) * self.plane + nb * TILE_COLS * self.inner

    cdef Py_ssize_t width_of(self, Py_ssize_t nb) noexcept nogil:
        return block_vectors(min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS)) * VL

    # Parallel axis: shares of the tiles; or tiles, then planes x blocks of outputs, or blocks of outputs x pieces of the
    # channels; then blocks of outputs x some channels. Each sum belongs to one chunk.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef real* zeros = <real*>self.scratch_of(thread)
        cdef real* rest = zeros + max(self.inner, self.outer)
        cdef Py_ssize_t nb = i % self.column_blocks, k = i // self.column_blocks, first, last
        if phase == SHARE:
            memset(zeros, 0, max(self.inner, self.outer) * sizeof(real))
            self.sum_share(i, zeros, rest)
        elif phase == TRANSFORM:
            memset(zeros, 0, max(self.inner, self.outer) * sizeof(real))
            self.transform(zeros, &self.current, i)
        elif phase == OUTPUTS:
            memset(zeros, 0, max(self.inner, self.outer) * sizeof(real))
            self.sum_outputs(nb, self.inner * k // self.pieces, self.inner * (k + 1) // self.pieces, zeros, rest)
        elif phase == PLANE:
            self.multiply(self.sums_of(0, k, nb), &self.current, k, nb, 0, self.inner, self.current.first > 0)
        else:
            first, last = k * BACK_CHANNELS, min(k * BACK_CHANNELS + BACK_CHANNELS, self.inner)
            self.add_shares(nb, first, last)
            self.back(self.sums_of(0, 0, nb), self.plane, nb, 0, first, last)

    cdef void sum_share(self, Py_ssize_t share, const real* zeros, real* transformed) noexcept nogil:
        """dU of a share of the tiles."""
        cdef Py_ssize_t begin = self.tiles * share // self.shares, end = self.tiles * (share + 1) // self.shares
        cdef Py_ssize_t first = begin, tile, plane, nb
        cdef Block block
        while first < end:
            block = self.block_at(first, end, 0, self.inner, 0, self.outer, transformed)
            for tile in range(block.count):
                self.transform(zeros, &block, tile)
            for plane in range(PLANES):
                for nb in range(self.column_blocks):
                    self.multiply(self.sums_of(share, plane, nb), &block, plane, nb, 0, self.inner, first > begin)
            first += self.block

    cdef void sum_outputs(self, Py_ssize_t nb, Py_ssize_t first, Py_ssize_t last, const real* zeros,
                          real* sums) noexcept nogil:
        """dw of a block of outputs and channels first..last-1."""
        cdef Py_ssize_t width = self.width_of(nb), size = odd_lines((last - first) * width), plane, tile, begin = 0
        cdef Block block = self.current
        while begin < self.tiles:
            if self.own:
                block = self.block_at(begin, self.tiles, first, last - first, nb * TILE_COLS, width, sums + PLANES * size)
                for tile in range(block.count):
                    self.transform(zeros, &block, tile)
            for plane in range(PLANES):
                self.multiply(sums + plane * size, &block, plane, nb, first, last, begin > 0)
            begin += self.block
        self.back(sums, size, nb, first, first, last)

    cdef void add_shares(self, Py_ssize_t nb, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
        """Add the other shares to the first one, for some channels of a block of outputs."""
        cdef Py_ssize_t width = self.width_of(nb), share, plane, i
        cdef real* sums
        cdef const real* more
        cdef vf total
        for plane in range(PLANES):
            sums = self.sums_of(0, plane, nb) + first * width
            for i from 0 <= i < (last - first) * width by VL:
                total = vload(sums + i)
                more = sums + i
                for share in range(1, self.shares):
                    more += PLANES * self.plane
                    total = total + vload(more)
                vstore(sums + i, total)

    cdef void transform(self, const real* zeros, const Block* block, Py_ssize_t tile) noexcept nogil:
        """One tile of a block: x to V, dy to Y."""
        cdef const real* x = <real*>self.operand[0]
        cdef const real* dy = <real*>self.operand[1]
        cdef const real* p[36]
        cdef Py_ssize_t t = block.first + tile
        cdef Py_ssize_t tx = t % self.tiles_x, ty = t // self.tiles_x % self.tiles_y
        cdef Py_ssize_t n = t // (self.tiles_x * self.tiles_y)
        winograd_pixels(x + n * self.height * self.width * self.inner + block.channel, self.height, self.width, self.inner,
                        4 * ty - self.pad_y, 4 * tx - self.pad_x, 6, zeros, p)
        winograd_input(p, block.channels, self.inner, block.v + tile * block.v_row, block.v_plane)
        winograd_pixels(dy + n * self.out_height * self.out_width * self.outer + block.output, self.out_height,
                        self.out_width, self.outer, 4 * ty, 4 * tx, 4, zeros, p)
        winograd_gradient(p, block.outputs, self.outer, block.y, block.y_plane, TILE_COLS, block.count, tile)

    cdef void multiply(self, real* sums, const Block* block, Py_ssize_t plane, Py_ssize_t nb, Py_ssize_t first,
                       Py_ssize_t last, bint add) noexcept nogil:
        """sums[channel - first][column] = or (`add`) += a block's V[plane]^T @ Y[plane] for one block of outputs."""
        cdef Py_ssize_t width = self.width_of(nb), count = block.count, t, begin, end, half, zero = 0, tile
        cdef Py_ssize_t pieces = ceil_div(count, SUM_TILES), k
        cdef Py_ssize_t tiles = (last - first + TILE_ROWS - 1) // TILE_ROWS
        cdef int vectors = <int>(width // VL)
        cdef const real* v = block.v + plane * block.v_plane + first - block.channel
        cdef const real* y = block.y + plane * block.y_plane + (nb * TILE_COLS - block.output) * count
        cdef const char* a
        cdef real* c
        cdef tile_job job
        job.offset = &zero
        job.segments = 1
        job.row = sizeof(real)
        job.step = block.v_row * sizeof(real)
        job.columns = width
        job.ldc = width
        job.mode = TILE_ADD if add else TILE_STORE
        job.ahead = <const char*>v
        job.ahead_step = 0
        for k in range(pieces):
            tile = count * k // pieces
            job.depth = count * (k + 1) // pieces - tile
            job.b = y + tile * width
            for t in range(tiles):
                begin = (last - first) * t // tiles
                end = (last - first) * (t + 1) // tiles
                half = (end - begin + 1) // 2
                a = <const char*>(v + tile * block.v_row + begin)
                c = sums + begin * width
                tile_along[end - begin][vectors - 1](&job, a, a + half * job.row, c, c + half * width)
            job.mode = TILE_ADD

    cdef void back(self, const real* sums, Py_ssize_t plane, Py_ssize_t nb, Py_ssize_t base, Py_ssize_t first,
                   Py_ssize_t last) noexcept nogil:
        """dw of channels first..last-1 of one block of outputs; sums[plane][channel - base][column]."""
        cdef Py_ssize_t width = self.width_of(nb), c, k
        cdef real* dw = <real*>self.operand[3]
        for c in range(first, last):
            for k in range(width // VL):
                winograd_store_taps(sums + (c - base) * width + k * VL, plane,
                                    dw + ((nb * TILE_COLS + k * VL) * self.inner + c) * 9, self.inner * 9)
