"""Winograd convolution F(4x4, 3x3): forward and input gradient of 3x3 convolutions of stride 1.

The 6x6 pixels under each tile of 4x4 outputs are transformed to 36 planes; in every plane the convolution is a
product [tiles x channels] @ [channels x outputs] for the register tile; 36 planes of products are transformed back
(winograd.h). 2.25 times as many bytes move, 4 times fewer are multiplied. Three walks:

    by tiles     a job is a block of tiles: transform, multiply all 36 planes, transform back, block by block, so that
                 V, the transformed tiles, stays in L2. Transformed weights are streamed from the shared cache. Where
                 all tiles are few, each job has a part of the outputs: it costs less to transform the tiles again than
                 to fetch what another core has made of them.
    by planes    where the transformed weights are too many to stream past every small block of tiles, or all tiles are
                 so few that threads would run out of blocks: a large block is transformed, then multiplied plane by
                 plane, then transformed back, each part shared out over all threads. A plane's tiles and weights are
                 in L2 while they meet.
    by outputs   where tiles are few and weights so many that their transforms, 4 times larger, would pass through
                 memory: all tiles are transformed first into memory that all threads share, then a job is a block of
                 output channels and transforms the weights of that block itself, some channels at a time, so that
                 they never leave L2.

Planes are an odd number of cache lines apart: 36 streams at multiples of 4 KiB would share their cache sets.
"""

from libc.string cimport memset

from cconv.kernels.core.simd cimport (
    CACHE_LINE_REALS, TILE_COLS, TILE_ROWS, VL, ceil_div, odd_lines, real, stream_end, vf, vstore,
)
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step
from cconv.kernels.core.tile cimport TILE_ADD, TILE_STORE, block_vectors, tile_across, tile_job
from cconv.kernels.core.turn cimport LANES, load_turned

from cconv.kernels.conv.geometry import forward_part, input_gradient_parts

cdef extern from "winograd.h" nogil:
    ctypedef struct winograd_epilogue:
        const real* bias
        Py_ssize_t residual
        int add_residual, clamped, stream
        real low, high
    void winograd_pixels(const real* image, Py_ssize_t height, Py_ssize_t width, Py_ssize_t pixel, Py_ssize_t y,
                         Py_ssize_t x, int size, const real* zeros, const real** p)
    void winograd_input(const real* const* p, Py_ssize_t channels, Py_ssize_t pixel, real* v, Py_ssize_t plane)
    void winograd_output(const real* m, Py_ssize_t plane, Py_ssize_t channels, real* y, Py_ssize_t row,
                         Py_ssize_t pixel, int rows, int columns, const winograd_epilogue* e)
    void winograd_weights(const real* g, Py_ssize_t tap, real* u, Py_ssize_t plane)

cdef enum:
    PLANES = 36, TAPS = 9

# Tiles of a block of the walk by tiles.
cdef Py_ssize_t BLOCK_TILES = 2 * TILE_ROWS if TILE_ROWS > 8 else 4 * TILE_ROWS
# All tiles that are at most so many are few; up to FEW_WEIGHTS, whose transforms stay in L2, only LEAST_TILES are (Xeon,
# 32 -> 64 channels at 8x8, batch 32, 2 threads: by planes 190 us, by tiles 150). Jobs that few tiles make a power of two of.
cdef Py_ssize_t FEW_TILES = 128, FEW_WEIGHTS = 64 * 64, LEAST_TILES = 48, LEAST_JOBS = 16
# V of all tiles up to which they are small, and the most blocks of outputs, each a part. Xeon, 2 threads, by planes / by
# tiles in parts, us: 64 -> 128 channels at 4x4, batch 8 49 / 32, batch 32 108 / 108; 128 -> 128 at 4x4, batch 8 77 / 56;
# 256 -> 256, in 8 parts, 236 / 279. One part in two blocks: 64 -> 32 at 8x8, batch 8 47 / 31.
cdef Py_ssize_t OWN_BYTES = 1 << 19, OWN_PARTS = 4
# Channels that are summed from zero: with 512 the rms error is 4.7 times a direct convolution's.
cdef Py_ssize_t SUM_CHANNELS = 256
# Blocks of TILE_COLS outputs whose products are kept at once in the walk by tiles.
cdef Py_ssize_t GROUP = 4
# The walk by planes is taken from this many weights on, or where tiles are few; at most so many tiles are in a block.
cdef Py_ssize_t MANY_WEIGHTS = 150 * 150, PLANE_TILES = 32 * TILE_ROWS
# Weights from which on the walk by outputs is taken where tiles are few; with fewer it has too few jobs.
cdef Py_ssize_t HUGE_WEIGHTS = 400 * 400
# Blocks of outputs of a job of the walk by outputs, and channels whose weights it transforms at once: 590 KB.
cdef Py_ssize_t JOB_BLOCKS = 2, WEIGHT_CHANNELS = 128

cdef enum Walk:
    BY_TILES, BY_PLANES, BY_OUTPUTS


def part_of(geometry, str role):
    """The gather of "forward" or "input_gradient" (of stride 1, so there is one)."""
    return forward_part(geometry) if role == "forward" else input_gradient_parts(geometry)[0]


def fits(geometry):
    """Whether this algorithm can compute the geometry: 3x3, stride 1, not dilated, whole vectors of channels."""
    return (
        geometry.kernel == (1, 3, 3) and geometry.stride == (1, 1, 1) and geometry.dilation == (1, 1, 1)
        and geometry.groups == 1 and geometry.input[0] == geometry.output[0] == 1 and geometry.pad[0] == 0
        and geometry.channels % VL == 0 and geometry.outputs % VL == 0
    )


cdef class Base(Step):
    """Sizes that packing and multiplying share."""

    cdef Py_ssize_t inner, outer, column_blocks
    cdef Py_ssize_t batch, height, width, out_height, out_width, pad_y, pad_x
    cdef Py_ssize_t tiles_y, tiles_x, tiles
    cdef int walk
    cdef bint small         # by tiles: all tiles are a few whose V is small
    cdef Py_ssize_t parts   # of the outputs, by tiles
    cdef int place[TAPS]   # which tap of the gather each element of ONNX's kernel is
    cdef Py_ssize_t inner_stride, outer_stride

    def __init__(self, geometry, str role="forward", *args):
        if not fits(geometry):
            raise ValueError(f"conv_winograd: not for this geometry: {geometry}")
        _, h, w = part_of(geometry, role)
        forward = role == "forward"
        self.inner, self.outer = geometry.channels, geometry.outputs
        self.outer_stride, self.inner_stride = geometry.channels * 9, 9
        if not forward:
            self.inner, self.outer = self.outer, self.inner
            self.outer_stride, self.inner_stride = self.inner_stride, self.outer_stride
        self.column_blocks = ceil_div(self.outer, TILE_COLS)
        self.batch = geometry.batch
        self.height, self.width = h.input, w.input
        self.out_height, self.out_width = h.output, w.output
        self.pad_y, self.pad_x = h.pad, w.pad
        self.tiles_y, self.tiles_x = ceil_div(h.output, 4), ceil_div(w.output, 4)
        self.tiles = self.batch * self.tiles_y * self.tiles_x
        self.walk, self.parts = BY_TILES, 1
        weights = self.inner * self.outer
        few = self.tiles <= (LEAST_TILES if weights <= FEW_WEIGHTS else FEW_TILES)
        own_bytes = PLANES * self.tiles * (self.inner + CACHE_LINE_REALS) * sizeof(real)
        if few and self.column_blocks <= OWN_PARTS and own_bytes <= OWN_BYTES:
            self.small, self.parts = True, self.column_blocks
        elif few and weights >= HUGE_WEIGHTS:
            self.walk = BY_OUTPUTS
        elif few or weights >= MANY_WEIGHTS:
            self.walk = BY_PLANES
        for i in range(3):
            for j in range(3):
                self.place[h.kernel[i] * 3 + w.kernel[j]] = 3 * i + j

    cdef Py_ssize_t width_of(self, Py_ssize_t nb) noexcept nogil:
        """Packed columns of a block of outputs."""
        return block_vectors(min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS)) * VL

    cdef void transform_weights(self, const real* weights, Py_ssize_t nb, Py_ssize_t first, Py_ssize_t count, real* u,
                                Py_ssize_t plane) noexcept nogil:
        """Weights (K, C, 3, 3) of a block of outputs, channels first..first+count-1, to u[plane][channel][column]."""
        cdef Py_ssize_t width = self.width_of(nb), live = self.outer - nb * TILE_COLS, c, t, v, begin, taps
        cdef const real* w = weights + nb * TILE_COLS * self.outer_stride + first * self.inner_stride
        cdef vf turned[LANES]
        cdef vf kernel[TAPS]
        for c in range(count):
            for v in range(width // VL):
                begin = 0
                while begin < TAPS:  # narrow vectors take the taps in pieces
                    taps = min(<Py_ssize_t>VL, TAPS - begin)
                    load_turned(w + c * self.inner_stride + v * VL * self.outer_stride + begin, self.outer_stride,
                                live - v * VL, taps, turned)
                    for t in range(taps):
                        kernel[self.place[begin + t]] = turned[t]
                    begin += taps
                winograd_weights(<real*>kernel, VL, u + c * width + v * VL, plane)


def packed_size(geometry, str role):
    """Elements of the packed weights; 0: they are not packed, the walk by outputs reads them as they are."""
    cdef Base base = Base(geometry, role)
    return 0 if base.walk == BY_OUTPUTS else base.column_blocks * PLANES * odd_lines(base.inner * TILE_COLS)


cdef class Pack(Base):
    """Weights (K, C, 3, 3) transformed to [output block][plane][channel][column].

    Operands: weights, packed.
    """

    def __init__(self, geometry, str role="forward"):
        super().__init__(geometry, role)
        if self.walk == BY_OUTPUTS:
            raise ValueError(f"conv_winograd: weights are read as they are: {geometry}")
        self.operands = 2

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.column_blocks * ceil_div(self.inner, 16))
        return OK

    # Parallel axis: blocks of outputs x 16 channels, so that what a chunk writes lies side by side.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t pieces = ceil_div(self.inner, 16), nb = i // pieces, first = i % pieces * 16
        cdef Py_ssize_t width = self.width_of(nb), count = min(<Py_ssize_t>16, self.inner - first)
        cdef real* packed = <real*>self.operand[1] + nb * PLANES * odd_lines(self.inner * TILE_COLS)
        self.transform_weights(<real*>self.operand[0], nb, first, count, packed + first * width,
                               odd_lines(self.inner * width))


cdef class Gather(Base):
    """Forward (x to y) or input gradient (dy to dx).

    Args:
        geometry, role, bias, residual, clamp: as conv_direct.Gather's.

    Attributes:
        workspace: elements of the workspace.

    Operands: source (N, H, W, C), packed weights (the weights where packed_size is 0), bias or none, residual or none,
    target, workspace (written; none where its size is 0). The target may be the residual's memory.
    """

    cdef bint biased, residual, clamped
    cdef real low, high
    cdef readonly Py_ssize_t workspace
    cdef Py_ssize_t block, group, v_row, v_plane, m_row, m_plane
    cdef Py_ssize_t current      # block of tiles that the walks by planes and by outputs are at

    def __init__(self, geometry, str role="forward", bint bias=False, bint residual=False, clamp=None):
        super().__init__(geometry, role)
        self.work = geometry.flops / (2 * FLOPS_PER_LANE * VL)  # a quarter of the multiplications, and transforms
        self.operands = 6
        self.biased, self.residual, self.clamped = bias, residual, clamp is not None
        if self.clamped:
            self.low, self.high = clamp
        most = {BY_TILES: BLOCK_TILES, BY_PLANES: PLANE_TILES, BY_OUTPUTS: FEW_TILES}[self.walk]
        blocks = ceil_div(self.tiles, most)
        if self.small:
            blocks = 2 if self.parts == 1 else 1
        elif self.walk == BY_TILES and blocks < LEAST_JOBS:
            blocks = 1 << (blocks - 1).bit_length()
        self.block = ceil_div(self.tiles, max(1, blocks))
        self.v_row = self.inner + CACHE_LINE_REALS
        self.v_plane = odd_lines(self.block * self.v_row)
        group = {BY_TILES: GROUP, BY_PLANES: self.column_blocks, BY_OUTPUTS: JOB_BLOCKS}[self.walk]
        self.group = min(ceil_div(self.column_blocks, self.parts), group)
        self.m_row = self.group * TILE_COLS + CACHE_LINE_REALS
        self.m_plane = odd_lines(self.block * self.m_row)
        v, m = PLANES * self.v_plane, PLANES * self.m_plane
        u = PLANES * odd_lines(min(self.inner, WEIGHT_CHANNELS) * TILE_COLS) * self.group
        self.workspace = {BY_TILES: 0, BY_PLANES: v + m, BY_OUTPUTS: v}[self.walk]
        # Per thread: zeros that stand for pixels outside, and what of V, M and U the threads do not share.
        own = odd_lines(self.inner) + {BY_TILES: v + m, BY_PLANES: 0, BY_OUTPUTS: m + u}[self.walk]
        self.scratch_bytes = own * sizeof(real)

    cdef int run(self) noexcept nogil:
        cdef Py_ssize_t blocks = ceil_div(self.tiles, self.block)
        if self.walk == BY_TILES:
            self.parallel(0, blocks * self.parts)
            return OK
        for self.current in range(blocks):
            self.parallel(1, self.count_of(self.current))
            self.parallel(2, PLANES if self.walk == BY_PLANES else ceil_div(self.column_blocks, self.group))
            if self.walk == BY_PLANES:
                self.parallel(3, self.count_of(self.current))
        return OK

    cdef Py_ssize_t count_of(self, Py_ssize_t block) noexcept nogil:
        """Tiles of a block."""
        return min(self.block, self.tiles - block * self.block)

    # Parallel axis: blocks of tiles x parts of the outputs; or tiles, then planes or blocks of outputs, then tiles again.
    # Every output is written by one chunk.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef real* zeros = <real*>self.scratch_of(thread)
        cdef real* own = zeros + odd_lines(self.inner)
        cdef real* v = <real*>self.operand[5]
        cdef real* m = v + PLANES * self.v_plane
        cdef Py_ssize_t first = self.current * self.block, count = self.count_of(self.current)
        cdef Py_ssize_t nb, part
        if phase == 0:
            part = i % self.parts
            self.tile_block(i // self.parts, self.column_blocks * part // self.parts,
                            self.column_blocks * (part + 1) // self.parts, zeros, own, own + PLANES * self.v_plane)
        elif phase == 1:
            memset(zeros, 0, self.inner * sizeof(real))
            self.transform(zeros, v, i, first + i, 1)
        elif phase == 3:
            self.back(m + i * self.m_row, first + i, 1, 0, self.column_blocks)
        elif self.walk == BY_PLANES:
            for nb in range(self.column_blocks):
                self.multiply(v, self.weights_of(nb), self.inner, m + nb * TILE_COLS, nb, 0, self.inner, i, i + 1, count)
        else:
            self.output_block(i, v, own, own + PLANES * self.m_plane, count)

    cdef void tile_block(self, Py_ssize_t block, Py_ssize_t begin, Py_ssize_t stop, real* zeros, real* v,
                         real* m) noexcept nogil:
        """The walk by tiles: one block of them, blocks of outputs begin..stop-1."""
        cdef Py_ssize_t first = block * self.block, count = self.count_of(block), nb, end
        memset(zeros, 0, self.inner * sizeof(real))
        self.transform(zeros, v, 0, first, count)
        while begin < stop:
            end = min(begin + self.group, stop)
            for nb in range(begin, end):
                self.multiply(v, self.weights_of(nb), self.inner, m + (nb - begin) * TILE_COLS, nb, 0, self.inner,
                              0, PLANES, count)
            self.back(m, first, count, begin, end)
            begin = end

    cdef void output_block(self, Py_ssize_t job, const real* v, real* m, real* u, Py_ssize_t count) noexcept nogil:
        """The walk by outputs: all tiles for some blocks of outputs."""
        cdef Py_ssize_t begin = job * self.group, end = min(begin + self.group, self.column_blocks), nb
        cdef Py_ssize_t channel = 0, channels, plane, size
        while channel < self.inner:
            channels = min(WEIGHT_CHANNELS, self.inner - channel)
            size = PLANES * odd_lines(channels * TILE_COLS)
            for nb in range(begin, end):
                self.transform_weights(<real*>self.operand[1], nb, channel, channels, u + (nb - begin) * size,
                                       odd_lines(channels * self.width_of(nb)))
            for plane in range(PLANES):
                for nb in range(begin, end):
                    self.multiply(v, u + (nb - begin) * size, channels, m + (nb - begin) * TILE_COLS, nb, channel,
                                  channels, plane, plane + 1, count)
            channel += channels
        self.back(m, self.current * self.block, count, begin, end)

    cdef const real* weights_of(self, Py_ssize_t nb) noexcept nogil:
        """Transformed weights of a block of outputs."""
        return <real*>self.operand[1] + nb * PLANES * odd_lines(TILE_COLS * self.inner)

    cdef void transform(self, const real* zeros, real* v, Py_ssize_t row, Py_ssize_t first,
                        Py_ssize_t count) noexcept nogil:
        """Tiles first..first+count-1 to rows row.. of V."""
        cdef const real* x = <real*>self.operand[0]
        cdef const real* p[36]
        cdef Py_ssize_t t, n, ty, tx
        for t in range(first, first + count):
            tx = t % self.tiles_x
            ty = t // self.tiles_x % self.tiles_y
            n = t // (self.tiles_x * self.tiles_y)
            winograd_pixels(x + n * self.height * self.width * self.inner, self.height, self.width, self.inner,
                            4 * ty - self.pad_y, 4 * tx - self.pad_x, 6, zeros, p)
            winograd_input(p, self.inner, self.inner, v + (row + t - first) * self.v_row, self.v_plane)

    cdef void multiply(
        self, const real* v, const real* u, Py_ssize_t u_channels, real* m, Py_ssize_t nb, Py_ssize_t channel,
        Py_ssize_t channels, Py_ssize_t plane, Py_ssize_t last_plane, Py_ssize_t count
    ) noexcept nogil:
        """m[plane][tile][column] (+)= v[plane][tile][channel..] @ u[plane] for `count` tiles, one block of outputs.

        Channels after the first are added to what is there. u is [plane][u_channels][column].
        """
        cdef Py_ssize_t width = self.width_of(nb), u_plane = odd_lines(u_channels * width)
        cdef int vectors = <int>(width // VL)
        cdef Py_ssize_t t, begin, end, half, zero = 0, k, first
        cdef Py_ssize_t pieces = ceil_div(channels, SUM_CHANNELS)
        cdef Py_ssize_t tiles = (count + TILE_ROWS - 1) // TILE_ROWS
        cdef const char* a
        cdef real* c
        cdef tile_job job
        job.offset = &zero
        job.segments = 1
        job.row = self.v_row * sizeof(real)
        job.step = sizeof(real)
        job.columns = width
        job.ldc = self.m_row
        # All tiles together fetch the weights that come next: the next plane's, or this plane's of the next block.
        job.ahead_step = width * sizeof(real) // tiles
        for plane in range(plane, last_plane):
            job.ahead = <const char*>(u + plane * u_plane + (u_plane if plane + 1 < last_plane else PLANES * u_plane))
            for t in range(tiles):
                begin = count * t // tiles
                end = count * (t + 1) // tiles
                half = (end - begin + 1) // 2
                a = <const char*>(v + plane * self.v_plane + begin * self.v_row + channel)
                c = m + plane * self.m_plane + begin * self.m_row
                for k in range(pieces):
                    first = channels * k // pieces
                    job.depth = channels * (k + 1) // pieces - first
                    job.b = u + plane * u_plane + first * width
                    job.mode = TILE_STORE if channel + first == 0 else TILE_ADD
                    tile_across[end - begin][vectors - 1](
                        &job, a + first * job.step, a + half * job.row + first * job.step, c, c + half * self.m_row)
                    job.ahead += job.ahead_step * job.depth

    cdef void back(self, const real* m, Py_ssize_t first, Py_ssize_t count, Py_ssize_t begin,
                   Py_ssize_t end) noexcept nogil:
        """Products of tiles first..first+count-1 and blocks of outputs begin..end-1 to the target."""
        cdef Py_ssize_t channels = min(end * TILE_COLS, self.outer) - begin * TILE_COLS
        cdef Py_ssize_t t, n, ty, tx
        cdef real* y
        cdef winograd_epilogue e
        e.bias = <real*>self.operand[2] + begin * TILE_COLS if self.biased else NULL
        e.residual = self.operand[3] - self.operand[4]
        e.add_residual = self.residual
        e.clamped = self.clamped
        e.stream = self.streams_to(4, self.batch * self.out_height * self.out_width * self.outer * sizeof(real),
                                   self.outer * sizeof(real), VL * sizeof(real))
        e.low = self.low
        e.high = self.high
        for t in range(first, first + count):
            tx = t % self.tiles_x
            ty = t // self.tiles_x % self.tiles_y
            n = t // (self.tiles_x * self.tiles_y)
            y = <real*>self.operand[4] + begin * TILE_COLS + self.outer * (
                (n * self.out_height + 4 * ty) * self.out_width + 4 * tx)
            winograd_output(m + (t - first) * self.m_row, self.m_plane, channels, y, self.out_width * self.outer,
                            self.outer, <int>min(4, self.out_height - 4 * ty),
                            <int>min(4, self.out_width - 4 * tx), &e)
        stream_end()
