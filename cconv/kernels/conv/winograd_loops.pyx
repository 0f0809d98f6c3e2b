"""Compiled loops of Winograd convolution; winograd.pyx describes the walks (orders of the loops) "by tiles", "by
planes" and "by outputs".

Arrays in memory: V [plane][tile][channel] holds the transformed input tiles. U [plane][channel][output] holds the
transformed weights of a block of outputs. M [plane][tile][output] holds the products of V and U.
"""

from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.conv.winograd cimport PACK_CHANNELS, PLANES, TAPS, winograd_arguments, winograd_tiles
from cconv.kernels.conv.winograd_transforms cimport (
    winograd_epilogue, winograd_input, winograd_output, winograd_pixels, winograd_weights,
)
from cconv.kernels.core.simd cimport TILE_COLS, TILE_ROWS, VL, ceil_div, odd_lines, real, stream_end, vf
from cconv.kernels.core.tile cimport TILE_ADD, TILE_STORE, block_vectors, tile_across, tile_job
from cconv.kernels.core.turn cimport LANES, load_turned


cdef inline Py_ssize_t width_of(const winograd_arguments* s, Py_ssize_t nb) noexcept nogil:
    """Packed columns of output block nb: its number of output channels, rounded up to whole vectors."""
    return block_vectors(min(<Py_ssize_t>TILE_COLS, s.outer - nb * TILE_COLS)) * VL


cdef inline Py_ssize_t packed_block(const winograd_arguments* s) noexcept nogil:
    """Number of elements that one block of outputs has in the packed weights."""
    return PLANES * odd_lines(s.inner * TILE_COLS)


cdef inline Py_ssize_t tiles_of(const winograd_arguments* s, Py_ssize_t block) noexcept nogil:
    """Number of tiles in a block; the last block may be smaller."""
    return min(s.block, s.tiles.count - block * s.block)


cdef void transform_weights(const winograd_arguments* s, const real* weights, Py_ssize_t nb, Py_ssize_t first,
                            Py_ssize_t count, real* u, Py_ssize_t plane) noexcept nogil:
    """Transform weights (K, C, 3, 3) of output block nb, input channels first..first+count-1, and store them to U."""
    cdef Py_ssize_t width = width_of(s, nb), live = s.outer - nb * TILE_COLS, c, t, v, begin, taps
    cdef Py_ssize_t inner_stride = s.inner_stride, outer_stride = s.outer_stride
    cdef const real* w = weights + nb * TILE_COLS * outer_stride + first * inner_stride
    cdef vf turned[LANES]
    cdef vf kernel[TAPS]
    for c in range(count):
        for v in range(width // VL):
            begin = 0
            while begin < TAPS:  # if a vector has fewer lanes than the kernel has taps, several loads
                taps = min(<Py_ssize_t>VL, TAPS - begin)
                load_turned(w + c * inner_stride + v * VL * outer_stride + begin, outer_stride, live - v * VL, taps,
                            turned)
                for t in range(taps):
                    kernel[s.place[begin + t]] = turned[t]
                begin += taps
            winograd_weights(<real*>kernel, VL, u + c * width + v * VL, plane)


cdef void transform_tiles(const winograd_arguments* s, const real* x, const real* zeros, real* v, Py_ssize_t row,
                          Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """Transform tiles first..first+count-1 of x and store them to V, from row `row` on."""
    cdef const winograd_tiles* g = &s.tiles
    cdef const real* p[36]
    cdef Py_ssize_t t, n, ty, tx
    for t in range(first, first + count):
        tx = t % g.columns
        ty = t // g.columns % g.rows
        n = t // (g.columns * g.rows)
        winograd_pixels(x + n * g.height * g.width * s.inner, g.height, g.width, s.inner, 4 * ty - g.pad_y,
                        4 * tx - g.pad_x, 6, zeros, p)
        winograd_input(p, s.inner, s.inner, v + (row + t - first) * s.v_row, s.v_plane)


cdef void multiply(
    const winograd_arguments* s, const real* v, const real* u, Py_ssize_t u_channels, real* m, Py_ssize_t nb,
    Py_ssize_t channel, Py_ssize_t channels, Py_ssize_t plane, Py_ssize_t last_plane, Py_ssize_t count
) noexcept nogil:
    """Multiply `count` tiles by one block of outputs, in planes plane..last_plane-1.

    m[plane][tile][column] = v[plane][tile][channel..channel+channels-1] @ u[plane]; u is [plane][u_channels][column].
    If `channel` is above 0, the products are added to m instead.
    """
    cdef Py_ssize_t width = width_of(s, nb), u_plane = odd_lines(u_channels * width)
    cdef Py_ssize_t v_row = s.v_row, v_plane = s.v_plane, m_row = s.m_row, m_plane = s.m_plane
    cdef int vectors = <int>(width // VL)
    cdef Py_ssize_t t, begin, end, half, zero = 0, k, first
    cdef Py_ssize_t pieces = ceil_div(channels, s.sum_channels)
    cdef Py_ssize_t tiles = (count + TILE_ROWS - 1) // TILE_ROWS
    cdef const char* a
    cdef real* c
    cdef tile_job job
    job.offset = &zero
    job.segments = 1
    job.row = v_row * sizeof(real)
    job.step = sizeof(real)
    job.columns = width
    job.ldc = m_row
    # Together, the tiles prefetch the weights that are read next: those of the next plane, or of the next output block.
    job.ahead_step = width * sizeof(real) // tiles
    for plane in range(plane, last_plane):
        job.ahead = <const char*>(u + plane * u_plane + (u_plane if plane + 1 < last_plane else PLANES * u_plane))
        for t in range(tiles):
            begin = count * t // tiles
            end = count * (t + 1) // tiles
            half = (end - begin + 1) // 2
            a = <const char*>(v + plane * v_plane + begin * v_row + channel)
            c = m + plane * m_plane + begin * m_row
            for k in range(pieces):
                first = channels * k // pieces
                job.depth = channels * (k + 1) // pieces - first
                job.b = u + plane * u_plane + first * width
                job.mode = TILE_STORE if channel + first == 0 else TILE_ADD
                tile_across[end - begin][vectors - 1](
                    &job, a + first * job.step, a + half * job.row + first * job.step, c, c + half * m_row)
                job.ahead += job.ahead_step * job.depth


cdef void transform_back(const winograd_arguments* s, char** operand, const real* m, Py_ssize_t first, Py_ssize_t count,
                         Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Output transform and epilogue: tiles first..first+count-1 of output blocks begin..end-1, to the target."""
    cdef const winograd_tiles* g = &s.tiles
    cdef Py_ssize_t channels = min(end * TILE_COLS, s.outer) - begin * TILE_COLS
    cdef Py_ssize_t t, n, ty, tx
    cdef real* y
    cdef winograd_epilogue e
    e.bias = <const real*>operand[2] + begin * TILE_COLS if s.biased else NULL
    e.residual = operand[3] - operand[4]
    e.add_residual = s.residual
    e.clamped = s.clamped
    e.stream = s.stream
    e.low = <real>s.low
    e.high = <real>s.high
    for t in range(first, first + count):
        tx = t % g.columns
        ty = t // g.columns % g.rows
        n = t // (g.columns * g.rows)
        y = <real*>operand[4] + begin * TILE_COLS + s.outer * ((n * g.out_height + 4 * ty) * g.out_width + 4 * tx)
        winograd_output(m + (t - first) * s.m_row, s.m_plane, channels, y, g.out_width * s.outer, s.outer,
                        <int>min(4, g.out_height - 4 * ty), <int>min(4, g.out_width - 4 * tx), &e)
    stream_end()


cdef void pack(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """One chunk of Pack: transform the weights of some input channels of one block of outputs."""
    cdef const winograd_arguments* s = <const winograd_arguments*>arguments
    cdef Py_ssize_t pieces = ceil_div(s.inner, PACK_CHANNELS), nb = i // pieces, first = i % pieces * PACK_CHANNELS
    cdef Py_ssize_t width = width_of(s, nb), count = min(<Py_ssize_t>PACK_CHANNELS, s.inner - first)
    cdef real* packed = <real*>operand[1] + nb * packed_block(s)
    transform_weights(s, <const real*>operand[0], nb, first, count, packed + first * width, odd_lines(s.inner * width))


cdef void tiles(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Walk by tiles: input transform, products and output transform for one block of tiles and one part of the outputs.

    V (the transformed tiles) and M (the products) are in scratch memory.
    """
    cdef const winograd_arguments* s = <const winograd_arguments*>arguments
    cdef Py_ssize_t block = i // s.parts, part = i % s.parts, first = block * s.block, count = tiles_of(s, block), nb
    cdef Py_ssize_t begin = s.column_blocks * part // s.parts, stop = s.column_blocks * (part + 1) // s.parts, end
    cdef const real* packed = <const real*>operand[1]
    cdef real* zeros = <real*>scratch
    cdef real* v = zeros + odd_lines(s.inner)
    cdef real* m = v + PLANES * s.v_plane
    memset(zeros, 0, s.inner * sizeof(real))
    transform_tiles(s, <const real*>operand[0], zeros, v, 0, first, count)
    while begin < stop:
        end = min(begin + s.group, stop)
        for nb in range(begin, end):
            multiply(s, v, packed + nb * packed_block(s), s.inner, m + (nb - begin) * TILE_COLS, nb, 0, s.inner,
                     0, PLANES, count)
        transform_back(s, operand, m, first, count, begin, end)
        begin = end


cdef void transform(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Walks by planes and by outputs: input transform of tile i of the current block, to V in the workspace."""
    cdef const winograd_arguments* s = <const winograd_arguments*>arguments
    cdef real* zeros = <real*>scratch
    memset(zeros, 0, s.inner * sizeof(real))
    transform_tiles(s, <const real*>operand[0], zeros, <real*>operand[5], i, s.current * s.block + i, 1)


cdef void planes(const void* arguments, char** operand, Py_ssize_t plane, char* scratch) noexcept nogil:
    """Walk by planes: compute all products of one plane of V. They go to M, which follows V in the workspace."""
    cdef const winograd_arguments* s = <const winograd_arguments*>arguments
    cdef const real* packed = <const real*>operand[1]
    cdef real* v = <real*>operand[5]
    cdef real* m = v + PLANES * s.v_plane
    cdef Py_ssize_t nb
    for nb in range(s.column_blocks):
        multiply(s, v, packed + nb * packed_block(s), s.inner, m + nb * TILE_COLS, nb, 0, s.inner, plane, plane + 1,
                 tiles_of(s, s.current))


cdef void back(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Walk by planes: output transform of tile i of the current block."""
    cdef const winograd_arguments* s = <const winograd_arguments*>arguments
    cdef const real* m = <const real*>operand[5] + PLANES * s.v_plane
    transform_back(s, operand, m + i * s.m_row, s.current * s.block + i, 1, 0, s.column_blocks)


cdef void outputs(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Walk by outputs: transform the weights of some output blocks, multiply all tiles by them, transform to outputs.

    M (the products) and U (the transformed weights) are in scratch memory.
    """
    cdef const winograd_arguments* s = <const winograd_arguments*>arguments
    cdef Py_ssize_t count = tiles_of(s, s.current), channel = 0, channels, plane, size, nb
    cdef Py_ssize_t begin = i * s.group, end = min(begin + s.group, s.column_blocks)
    cdef const real* v = <const real*>operand[5]
    cdef real* m = <real*>scratch + odd_lines(s.inner)
    cdef real* u = m + PLANES * s.m_plane
    while channel < s.inner:
        channels = min(s.weight_channels, s.inner - channel)
        size = PLANES * odd_lines(channels * TILE_COLS)
        for nb in range(begin, end):
            transform_weights(s, <const real*>operand[1], nb, channel, channels, u + (nb - begin) * size,
                              odd_lines(channels * width_of(s, nb)))
        for plane in range(PLANES):
            for nb in range(begin, end):
                multiply(s, v, u + (nb - begin) * size, channels, m + (nb - begin) * TILE_COLS, nb, channel, channels,
                         plane, plane + 1, count)
        channel += channels
    transform_back(s, operand, m, s.current * s.block, count, begin, end)


LOOPS = {
    "pack": <uintptr_t>pack,
    "tiles": <uintptr_t>tiles,
    "transform": <uintptr_t>transform,
    "planes": <uintptr_t>planes,
    "back": <uintptr_t>back,
    "outputs": <uintptr_t>outputs,
}
