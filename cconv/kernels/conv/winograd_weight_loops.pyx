"""Compiled loops of Winograd's weight gradient; winograd_weight.pyx describes the walks (orders of the loops) "by
shares", "by planes" and "by outputs".

Arrays in memory: V [plane][tile][channel] holds the transformed tiles of x. Y [plane][block of outputs][tile][output]
holds those of dy. dU [plane][block of outputs][channel][output] holds the sums of their products over the tiles.
"""

from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.conv.winograd cimport PLANES, TAPS, winograd_tiles
from cconv.kernels.conv.winograd_transforms cimport (
    winograd_gradient, winograd_input, winograd_pixels, winograd_store_taps,
)
from cconv.kernels.conv.winograd_weight cimport winograd_weight_arguments
from cconv.kernels.core.simd cimport (
    CACHE_LINE_REALS, TILE_COLS, TILE_ROWS, VL, ceil_div, odd_lines, real, vf, vload, vstore,
)
from cconv.kernels.core.tile cimport TILE_ADD, TILE_STORE, block_vectors, tile_along, tile_job


cdef struct Block:
    # V and Y of some consecutive tiles, for all or some input channels, and for all outputs or one block of them.
    Py_ssize_t first, count                          # tiles first..first+count-1
    Py_ssize_t channel, channels, output, outputs    # first input channel, their number; the same for outputs
    Py_ssize_t v_row, v_plane, y_plane               # elements between tiles of V, planes of V, planes of Y
    real* v
    real* y


cdef inline Block block_at(const winograd_weight_arguments* s, Py_ssize_t first, Py_ssize_t end, Py_ssize_t channel,
                           Py_ssize_t channels, Py_ssize_t output, Py_ssize_t outputs, real* memory) noexcept nogil:
    """The block of at most s.block tiles that begins at tile `first` and ends before `end`. V and Y are in `memory`."""
    cdef Block block
    block.first, block.count = first, min(s.block, end - first)
    block.channel, block.channels, block.output, block.outputs = channel, channels, output, outputs
    block.v_row = channels + CACHE_LINE_REALS
    block.v_plane, block.y_plane = odd_lines(s.block * block.v_row), odd_lines(s.block * outputs)
    block.v, block.y = memory, memory + PLANES * block.v_plane
    return block


cdef inline Block current_block(const winograd_weight_arguments* s, char** operand) noexcept nogil:
    """The block of tiles that all threads work on. Its V and Y are in shared memory, before dU."""
    return block_at(s, s.first, s.tiles.count, 0, s.inner, 0, s.outer, <real*>operand[2])


cdef inline real* sums_of(const winograd_weight_arguments* s, char** operand, Py_ssize_t share, Py_ssize_t plane,
                          Py_ssize_t nb) noexcept nogil:
    """Address of dU of a share of the tiles, for one plane and output block nb."""
    return <real*>operand[2] + s.sums + (share * PLANES + plane) * s.plane + nb * TILE_COLS * s.inner


cdef inline Py_ssize_t width_of(const winograd_weight_arguments* s, Py_ssize_t nb) noexcept nogil:
    """Packed columns of output block nb: its number of output channels, rounded up to whole vectors."""
    return block_vectors(min(<Py_ssize_t>TILE_COLS, s.outer - nb * TILE_COLS)) * VL


cdef inline real* zero_pixel(const winograd_weight_arguments* s, char* scratch) noexcept nogil:
    """Write a pixel of zeros to the start of the scratch memory. It replaces pixels outside of an image."""
    memset(scratch, 0, max(s.inner, s.outer) * sizeof(real))
    return <real*>scratch


cdef void transform_tile(const winograd_weight_arguments* s, char** operand, const real* zeros, const Block* block,
                         Py_ssize_t tile) noexcept nogil:
    """Transform one tile of a block: of x to V, and of dy to Y."""
    cdef const winograd_tiles* g = &s.tiles
    cdef const real* x = <const real*>operand[0]
    cdef const real* dy = <const real*>operand[1]
    cdef const real* p[36]
    cdef Py_ssize_t t = block.first + tile, tx = t % g.columns, ty = t // g.columns % g.rows
    cdef Py_ssize_t n = t // (g.columns * g.rows)
    winograd_pixels(x + n * g.height * g.width * s.inner + block.channel, g.height, g.width, s.inner,
                    4 * ty - g.pad_y, 4 * tx - g.pad_x, 6, zeros, p)
    winograd_input(p, block.channels, s.inner, block.v + tile * block.v_row, block.v_plane)
    winograd_pixels(dy + n * g.out_height * g.out_width * s.outer + block.output, g.out_height, g.out_width, s.outer,
                    4 * ty, 4 * tx, 4, zeros, p)
    winograd_gradient(p, block.outputs, s.outer, block.y, block.y_plane, TILE_COLS, block.count, tile)


cdef void multiply(const winograd_weight_arguments* s, real* sums, const Block* block, Py_ssize_t plane, Py_ssize_t nb,
                   Py_ssize_t first, Py_ssize_t last, bint add) noexcept nogil:
    """Compute V[plane]^T @ Y[plane] for one block of tiles, output block nb and input channels first..last-1.

    The products are stored to sums[channel - first][column], or added to them if `add`.
    """
    cdef Py_ssize_t width = width_of(s, nb), count = block.count, t, begin, end, half, zero = 0, tile
    cdef Py_ssize_t pieces = ceil_div(count, s.sum_tiles), k
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
    job.ahead_step = job.ahead_row = 0
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


cdef void transform_back(const winograd_weight_arguments* s, char** operand, const real* sums, Py_ssize_t plane,
                         Py_ssize_t nb, Py_ssize_t base, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Inverse transform of sums[plane][channel - base][column] to dw, for channels first..last-1 of output block nb."""
    cdef Py_ssize_t width = width_of(s, nb), c, k
    cdef real* dw = <real*>operand[3]
    for c in range(first, last):
        for k in range(width // VL):
            winograd_store_taps(sums + (c - base) * width + k * VL, plane,
                                dw + ((nb * TILE_COLS + k * VL) * s.inner + c) * TAPS, s.inner * TAPS)


cdef void add_shares(const winograd_weight_arguments* s, char** operand, Py_ssize_t nb, Py_ssize_t first,
                     Py_ssize_t last) noexcept nogil:
    """Add dU (the transformed dw) of all other shares to share 0, for channels first..last-1 of output block nb."""
    cdef Py_ssize_t width = width_of(s, nb), share, plane, i, shares = s.shares, apart = PLANES * s.plane
    cdef real* sums
    cdef const real* more
    cdef vf total
    for plane in range(PLANES):
        sums = sums_of(s, operand, 0, plane, nb) + first * width
        for i from 0 <= i < (last - first) * width by VL:
            total = vload(sums + i)
            more = sums + i
            for share in range(1, shares):
                more += apart
                total = total + vload(more)
            vstore(sums + i, total)


cdef void shares(const void* arguments, char** operand, Py_ssize_t share, char* scratch) noexcept nogil:
    """Walk by shares: compute dU (the transformed dw) of one share of the tiles. V and Y are in scratch memory."""
    cdef const winograd_weight_arguments* s = <const winograd_weight_arguments*>arguments
    cdef Py_ssize_t begin = s.tiles.count * share // s.shares, end = s.tiles.count * (share + 1) // s.shares
    cdef Py_ssize_t first = begin, tile, plane, nb
    cdef real* zeros = zero_pixel(s, scratch)
    cdef Block block
    while first < end:
        block = block_at(s, first, end, 0, s.inner, 0, s.outer, zeros + max(s.inner, s.outer))
        for tile in range(block.count):
            transform_tile(s, operand, zeros, &block, tile)
        for plane in range(PLANES):
            for nb in range(s.column_blocks):
                multiply(s, sums_of(s, operand, share, plane, nb), &block, plane, nb, 0, s.inner, first > begin)
        first += s.block


cdef void transform(const void* arguments, char** operand, Py_ssize_t tile, char* scratch) noexcept nogil:
    """Walks by planes and by outputs: transform one tile of the current block to V and Y in shared memory."""
    cdef const winograd_weight_arguments* s = <const winograd_weight_arguments*>arguments
    cdef Block block = current_block(s, operand)
    transform_tile(s, operand, zero_pixel(s, scratch), &block, tile)


cdef void planes(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Walk by planes: add the current block's products for one plane and one block of outputs to dU."""
    cdef const winograd_weight_arguments* s = <const winograd_weight_arguments*>arguments
    cdef Block block = current_block(s, operand)
    cdef Py_ssize_t nb = i % s.column_blocks, plane = i // s.column_blocks
    multiply(s, sums_of(s, operand, 0, plane, nb), &block, plane, nb, 0, s.inner, s.first > 0)


cdef void outputs(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Walk by outputs: compute dw of one output block and one piece of the channels. dU is in scratch memory."""
    cdef const winograd_weight_arguments* s = <const winograd_weight_arguments*>arguments
    cdef Py_ssize_t nb = i % s.column_blocks, piece = i // s.column_blocks, begin = 0, plane, tile
    cdef Py_ssize_t first = s.inner * piece // s.pieces, last = s.inner * (piece + 1) // s.pieces
    cdef Py_ssize_t width = width_of(s, nb), size = odd_lines((last - first) * width)
    cdef real* zeros = zero_pixel(s, scratch)
    cdef real* sums = zeros + max(s.inner, s.outer)
    cdef Block block = current_block(s, operand)
    while begin < s.tiles.count:
        if s.own:
            block = block_at(s, begin, s.tiles.count, first, last - first, nb * TILE_COLS, width, sums + PLANES * size)
            for tile in range(block.count):
                transform_tile(s, operand, zeros, &block, tile)
        for plane in range(PLANES):
            multiply(s, sums + plane * size, &block, plane, nb, first, last, begin > 0)
        begin += s.block
    transform_back(s, operand, sums, size, nb, first, first, last)


cdef void back(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Walks by shares and by planes, at the end: add the shares of dU and transform them to dw, for some channels."""
    cdef const winograd_weight_arguments* s = <const winograd_weight_arguments*>arguments
    cdef Py_ssize_t nb = i % s.column_blocks, first = i // s.column_blocks * s.back_channels
    cdef Py_ssize_t last = min(first + s.back_channels, s.inner)
    add_shares(s, operand, nb, first, last)
    transform_back(s, operand, sums_of(s, operand, 0, 0, nb), s.plane, nb, 0, first, last)


LOOPS = {
    "shares": <uintptr_t>shares,
    "transform": <uintptr_t>transform,
    "planes": <uintptr_t>planes,
    "outputs": <uintptr_t>outputs,
    "back": <uintptr_t>back,
}
