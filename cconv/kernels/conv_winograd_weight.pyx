"""Winograd's algorithm for weight gradients, F(3x3, 4x4), of 3x3 convolutions of stride 1.

For each of 36 planes dU[channel, output] = sum over tiles of V[tile, channel] * Y[tile, output], where V are the
transformed 6x6 tiles of x and Y the transformed 4x4 tiles of dy (winograd.h); the sums are transformed back to 3x3
taps. Two walks, as of conv_winograd:

    by planes    blocks of tiles one after another: x and dy are transformed into memory that all threads share, then
                 each plane's product is added to dU
    by outputs   where all tiles together are few and the weights many: dU of a block of outputs and some channels
                 stays in the thread's buffer, and is transformed back there

Every sum runs over some tiles of a block from zero in registers, and over these and the blocks in their order.
"""

from libc.string cimport memset

from cconv.kernels.simd cimport CACHE_LINE_REALS, TILE_COLS, TILE_ROWS, VL, real
from cconv.kernels.step cimport FLOPS_PER_LANE, OK, Step
from cconv.kernels.tile cimport TILE_ADD, TILE_STORE, block_vectors, tile_along, tile_job

cdef extern from "winograd.h" nogil:
    void winograd_input(const real* const* p, Py_ssize_t channels, Py_ssize_t pixel, real* v, Py_ssize_t plane)
    void winograd_gradient(const real* const* p, Py_ssize_t channels, Py_ssize_t pixel, real* y, Py_ssize_t plane,
                           Py_ssize_t columns, Py_ssize_t tiles, Py_ssize_t tile)
    void winograd_store_taps(const real* m, Py_ssize_t plane, real* dw, Py_ssize_t output)

cdef enum:
    PLANES = 36

# Tiles of a block: long sums, and V and Y of one plane in L2.
cdef Py_ssize_t BLOCK_TILES = 448
# Tiles that are summed from zero: with 448 the rms error is 9 times a direct convolution's, with 112 it is 7 times.
cdef Py_ssize_t SUM_TILES = 112
# The walk by outputs is taken up to this many tiles, from this many weights on; channels of a piece of it.
cdef Py_ssize_t FEW_TILES = 128, MANY_WEIGHTS = 150 * 150, PIECE_CHANNELS = 112


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t odd_lines(Py_ssize_t n) noexcept nogil:
    """At least n elements, an odd number of cache lines."""
    cdef Py_ssize_t lines = ceil_div(n, CACHE_LINE_REALS)
    return (lines | 1) * CACHE_LINE_REALS


cdef class WeightGradient(Step):
    """dw of a 3x3 convolution of stride 1.

    Operands: x (N, H, W, C) and dy (N, H', W', K) channels-last; partial sums and transformed tiles (partial_size
    elements, written); dw (K, C, 3, 3).

    Raises:
        ValueError: another kernel, stride or dilation, groups, or channels that are no whole vectors.
    """

    cdef Py_ssize_t inner, outer, column_blocks
    cdef Py_ssize_t batch, height, width, out_height, out_width, pad_y, pad_x
    cdef Py_ssize_t tiles_y, tiles_x, tiles, block, current
    cdef Py_ssize_t v_row, v_plane, y_plane, pieces
    cdef bint by_outputs
    cdef readonly Py_ssize_t partial_size

    def __init__(self, geometry):
        g = geometry
        if not (
            g.kernel == (1, 3, 3) and g.stride == g.dilation == (1, 1, 1) and g.groups == 1
            and g.input[0] == g.output[0] == 1 and g.pad[0] == 0 and g.channels % VL == g.outputs % VL == 0
        ):
            raise ValueError(f"conv_winograd_weight: not for this geometry: {g}")
        self.work = geometry.flops / (FLOPS_PER_LANE * VL)
        self.operands = 4
        self.inner, self.outer = g.channels, g.outputs
        self.column_blocks = ceil_div(self.outer, TILE_COLS)
        self.batch = g.batch
        _, self.height, self.width = g.input
        _, self.out_height, self.out_width = g.output
        _, self.pad_y, self.pad_x = g.pad
        self.tiles_y, self.tiles_x = ceil_div(self.out_height, 4), ceil_div(self.out_width, 4)
        self.tiles = self.batch * self.tiles_y * self.tiles_x
        self.by_outputs = self.tiles <= FEW_TILES and self.inner * self.outer >= MANY_WEIGHTS
        blocks = ceil_div(self.tiles, BLOCK_TILES)
        self.block = ceil_div(self.tiles, max(1, blocks))
        self.v_row = self.inner + CACHE_LINE_REALS
        self.v_plane = odd_lines(self.block * self.v_row)
        self.y_plane = odd_lines(self.block * self.outer)
        self.pieces = ceil_div(self.inner, PIECE_CHANNELS) if self.by_outputs else 1
        shared = PLANES * (self.v_plane + self.y_plane)
        sums = PLANES * odd_lines(min(self.inner, PIECE_CHANNELS) * TILE_COLS)
        self.partial_size = shared + (0 if self.by_outputs else PLANES * odd_lines(self.inner * self.outer))
        self.scratch_bytes = (max(self.inner, self.outer) + (sums if self.by_outputs else 0)) * sizeof(real)
        self.scratch_bytes = ceil_div(self.scratch_bytes, 64) * 64

    cdef int run(self) noexcept nogil:
        for self.current in range(ceil_div(self.tiles, self.block)):
            self.parallel(0, self.count())
            if self.by_outputs:
                self.parallel(1, self.column_blocks * self.pieces)
            else:
                self.parallel(2, PLANES * self.column_blocks)
        if not self.by_outputs:
            self.parallel(3, self.column_blocks * ceil_div(self.inner, 16))
        return OK

    cdef Py_ssize_t count(self) noexcept nogil:
        """Tiles of the current block."""
        return min(self.block, self.tiles - self.current * self.block)

    cdef Py_ssize_t width_of(self, Py_ssize_t nb) noexcept nogil:
        return block_vectors(min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS)) * VL

    # Parallel axis: tiles; planes x blocks of outputs, or blocks of outputs x pieces of the channels; then blocks of
    # outputs x 16 channels. Each sum belongs to one chunk.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef real* scratch = <real*>self.scratch_of(thread)
        cdef real* sums = <real*>self.operand[2] + PLANES * (self.v_plane + self.y_plane)
        cdef Py_ssize_t nb = i % self.column_blocks, k = i // self.column_blocks, plane, first, last
        if phase == 0:
            memset(scratch, 0, max(self.inner, self.outer) * sizeof(real))
            self.transform(scratch, i)
        elif phase == 1:
            sums = scratch + max(self.inner, self.outer)
            first = self.inner * k // self.pieces
            last = self.inner * (k + 1) // self.pieces
            for plane in range(PLANES):
                self.multiply(sums + plane * odd_lines((last - first) * self.width_of(nb)), plane, nb, first, last)
            self.back(sums, odd_lines((last - first) * self.width_of(nb)), nb, first, first, last)
        elif phase == 2:
            self.multiply(sums + k * odd_lines(self.inner * self.outer) + nb * TILE_COLS * self.inner, k, nb, 0, self.inner)
        else:
            self.back(sums + nb * TILE_COLS * self.inner, odd_lines(self.inner * self.outer), nb, 0, k * 16,
                      min(k * 16 + 16, self.inner))

    cdef void transform(self, const real* zeros, Py_ssize_t tile) noexcept nogil:
        """One tile of the current block: x to V, dy to Y."""
        cdef const real* x = <real*>self.operand[0]
        cdef const real* dy = <real*>self.operand[1]
        cdef real* v = <real*>self.operand[2]
        cdef const real* p[36]
        cdef Py_ssize_t t = self.current * self.block + tile, i, j, y, z
        cdef Py_ssize_t tx = t % self.tiles_x, ty = t // self.tiles_x % self.tiles_y
        cdef Py_ssize_t n = t // (self.tiles_x * self.tiles_y)
        for i in range(6):
            y = 4 * ty - self.pad_y + i
            for j in range(6):
                z = 4 * tx - self.pad_x + j
                if y < 0 or y >= self.height or z < 0 or z >= self.width:
                    p[6 * i + j] = zeros
                else:
                    p[6 * i + j] = x + ((n * self.height + y) * self.width + z) * self.inner
        winograd_input(p, self.inner, self.inner, v + tile * self.v_row, self.v_plane)
        for i in range(4):
            for j in range(4):
                y, z = 4 * ty + i, 4 * tx + j
                if y >= self.out_height or z >= self.out_width:
                    p[4 * i + j] = zeros
                else:
                    p[4 * i + j] = dy + ((n * self.out_height + y) * self.out_width + z) * self.outer
        winograd_gradient(p, self.outer, self.outer, v + PLANES * self.v_plane, self.y_plane, TILE_COLS, self.count(),
                          tile)

    cdef void multiply(self, real* sums, Py_ssize_t plane, Py_ssize_t nb, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
        """sums[channel - first][column] (+)= the current block's V[plane]^T @ Y[plane] for one block of outputs."""
        cdef Py_ssize_t width = self.width_of(nb), count = self.count(), t, begin, end, half, zero = 0, tile = 0
        cdef Py_ssize_t tiles = (last - first + TILE_ROWS - 1) // TILE_ROWS
        cdef int vectors = <int>(width // VL)
        cdef const real* v = <real*>self.operand[2]
        cdef const real* y = v + PLANES * self.v_plane + plane * self.y_plane + nb * TILE_COLS * count
        cdef const char* a
        cdef real* c
        cdef tile_job job
        v += plane * self.v_plane
        job.offset = &zero
        job.segments = 1
        job.row = sizeof(real)
        job.step = self.v_row * sizeof(real)
        job.columns = width
        job.ldc = width
        job.mode = TILE_ADD if self.current > 0 else TILE_STORE
        job.ahead = <const char*>v
        job.ahead_step = 0
        while tile < count:
            job.depth = min(SUM_TILES, count - tile)
            job.b = y + tile * width
            for t in range(tiles):
                begin = (last - first) * t // tiles
                end = (last - first) * (t + 1) // tiles
                half = (end - begin + 1) // 2
                a = <const char*>(v + tile * self.v_row + first + begin)
                c = sums + begin * width
                tile_along[end - begin][vectors - 1](&job, a, a + half * job.row, c, c + half * width)
            job.mode = TILE_ADD
            tile += SUM_TILES

    cdef void back(self, const real* sums, Py_ssize_t plane, Py_ssize_t nb, Py_ssize_t base, Py_ssize_t first,
                   Py_ssize_t last) noexcept nogil:
        """dw of channels first..last-1 of one block of outputs; sums[plane][channel - base][column]."""
        cdef Py_ssize_t width = self.width_of(nb), c, k
        cdef real* dw = <real*>self.operand[3]
        for c in range(first, last):
            for k in range(width // VL):
                winograd_store_taps(sums + (c - base) * width + k * VL, plane,
                                    dw + ((nb * TILE_COLS + k * VL) * self.inner + c) * 9, self.inner * 9)
