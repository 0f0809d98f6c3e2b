"""Compiled loops of the weight gradient of direct convolution; weight.pyx describes the order of the loops."""

from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.conv.strip cimport Axis
from cconv.kernels.conv.strip_loops cimport load_strip
from cconv.kernels.conv.weight cimport weight_arguments
from cconv.kernels.core.simd cimport CACHE_LINE_REALS, TILE_COLS, TILE_ROWS, VL, ceil_div, real, vf, vload
from cconv.kernels.core.tile cimport TILE_ADD, TILE_STORE, block_vectors, pad_pixels, tile_along, tile_job
from cconv.kernels.core.turn cimport LANES, store_turned


# A block of output pixels: where it begins in (image, depth, row, column), and its sizes.
cdef struct Block:
    Py_ssize_t image, images, depth, row, rows, column, columns, pixels

# Prefetch of the next block of pixels of x or dy. A pixel has `lines` contiguous cache lines. Each tile of the current
# block prefetches one line for each of its pixels. If the next block has more pixels than a tile sums over, it is
# prefetched in several runs, one after the other.
cdef struct Stream:
    const char* place          # address that is prefetched next
    Py_ssize_t step, row       # bytes from pixel to pixel; additional bytes at the end of a row
    Py_ssize_t line, lines     # line of a pixel that is prefetched next; number of lines per pixel
    Py_ssize_t run             # bytes from one run of pixels to the next
    Py_ssize_t left            # number of tiles that still have a line to prefetch

# The part of the work that one chunk does, with its buffers.
cdef struct Job:
    Py_ssize_t g, b            # group; block of input channels
    Py_ssize_t first, last     # blocks first..last-1 of output channels
    Py_ssize_t channels        # input channels of the block (if merged: taps of a kernel row x channels)
    real* strip
    real* packed
    real* sums


# One chunk is a share of the pixels x a block of input channels x a group x some blocks of output channels. It writes
# partial sums that no other chunk writes.
cdef void sum_share(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const weight_arguments* s = <const weight_arguments*>arguments
    cdef Py_ssize_t share, pb, nb, begin, end
    cdef Block block, following
    cdef Stream ahead[2]
    cdef Job job
    share = i % s.shares
    i //= s.shares
    job.b = i % s.blocks
    i //= s.blocks
    job.g = i // s.column_jobs
    i %= s.column_jobs
    job.first = s.column_blocks * i // s.column_jobs
    job.last = s.column_blocks * (i + 1) // s.column_jobs
    job.channels = min(s.block, s.run_length - job.b * s.block)
    job.strip = <real*>scratch
    job.packed = job.strip + s.strip_size
    job.sums = <real*>operand[2] + share * s.share_size + job.g * s.inner * s.taps * s.columns
    begin = s.pixel_blocks * share // s.shares
    end = s.pixel_blocks * (share + 1) // s.shares
    if begin == end:
        clear(s, &job)
    for pb in range(begin, end):
        block = locate(s, pb)
        if not s.in_place:
            load_strip(&s.strip, <real*>operand[0], job.strip, block.image, block.images, block.depth, block.row,
                       block.rows, block.column, block.columns, channel_of(s, &job),
                       s.inner if s.merged else job.channels)
        following = locate(s, min(pb + 1, end - 1))
        look_ahead(s, operand, &job, &following, &ahead[0], &ahead[1])
        for nb in range(job.first, job.last):
            pack(s, operand, &job, &block, nb)
            multiply(s, operand, &job, &block, nb, pb == begin, ahead)


cdef inline Py_ssize_t channel_of(const weight_arguments* s, const Job* job) noexcept nogil:
    """The first channel of x that a job reads."""
    return job.g * s.inner + (0 if s.merged else job.b * s.block)


cdef inline Block locate(const weight_arguments* s, Py_ssize_t pb) noexcept nogil:
    """Position and size of pixel block number pb."""
    cdef Block block
    block.column = pb % s.blocks_w * s.row_pixels
    pb //= s.blocks_w
    block.row = pb % s.blocks_h * s.rows
    pb //= s.blocks_h
    block.depth = pb % s.outputs_z
    block.image = pb // s.outputs_z * s.images
    block.images = min(s.images, s.batch - block.image)
    block.rows = min(s.rows, s.strip.axis[1].output - block.row)
    block.columns = min(s.row_pixels, s.strip.axis[2].output - block.column)
    block.pixels = block.images * block.rows * block.columns
    return block


cdef void clear(const weight_arguments* s, const Job* job) noexcept nogil:
    cdef Py_ssize_t nb, segment
    for nb in range(job.first, job.last):
        for segment in range(s.segments):
            memset(sums_at(s, job, nb, segment), 0, job.channels * width_of(s, nb) * sizeof(real))


cdef inline Py_ssize_t width_of(const weight_arguments* s, Py_ssize_t nb) noexcept nogil:
    """Packed columns of output block nb: its number of output channels, rounded up to whole vectors."""
    return block_vectors(min(<Py_ssize_t>TILE_COLS, s.outer - nb * TILE_COLS)) * VL


cdef inline real* sums_at(const weight_arguments* s, const Job* job, Py_ssize_t nb, Py_ssize_t segment) noexcept nogil:
    """Address of a job's partial sums, for one segment of output block nb: [output block][segment][channel][column]."""
    return job.sums + nb * TILE_COLS * s.inner * s.taps + (
        segment * s.run_length + job.b * s.block) * width_of(s, nb)


cdef void pack(const weight_arguments* s, char** operand, const Job* job, const Block* block,
               Py_ssize_t nb) noexcept nogil:
    """Pack dy of one output block as [row][column][output]; padding outputs are 0. The packed block stays in L1."""
    cdef Py_ssize_t n, y, width = width_of(s, nb), live = min(<Py_ssize_t>TILE_COLS, s.outer - nb * TILE_COLS)
    cdef real* target = job.packed
    for n in range(block.images):
        for y in range(block.rows):
            pad_pixels(gradient_at(s, operand, job, block, n, y, 0) + (nb - job.first) * TILE_COLS,
                       s.outer * s.groups, target, width, block.columns, live)
            target += block.columns * width


cdef inline const real* gradient_at(const weight_arguments* s, char** operand, const Job* job, const Block* block,
                                    Py_ssize_t n, Py_ssize_t y, Py_ssize_t x) noexcept nogil:
    """Address of a pixel of dy, at the job's first output channel."""
    return <real*>operand[1] + job.g * s.outer + job.first * TILE_COLS + s.outer * s.groups * (
        (((block.image + n) * s.outputs_z + block.depth) * s.strip.axis[1].output + block.row + y)
        * s.strip.axis[2].output + block.column + x)


cdef inline const real* input_at(const weight_arguments* s, char** operand, const Job* job, const Block* block,
                                 Py_ssize_t n, Py_ssize_t y, Py_ssize_t x) noexcept nogil:
    """Address of the pixel of x that output (n, y, x) of a block reads with the last kernel row, at the job's first
    channel.

    Positions in the padding are moved to the nearest pixel inside. With padding the column is only approximate, which
    is enough for a prefetch.
    """
    cdef const Axis* d = &s.strip.axis[0]
    cdef const Axis* h = &s.strip.axis[1]
    cdef const Axis* w = &s.strip.axis[2]
    y = max(<Py_ssize_t>0, min((block.row + y) * h.step + (h.span - 1) * h.load_step - h.pad, h.input - 1))
    x = min((block.column + x) * w.step, w.input - 1)
    n = (block.image + n) * d.input + min(block.depth * d.step, d.input - 1)
    return <real*>operand[0] + ((n * h.input + y) * w.input + x) * s.strip.input_stride + channel_of(s, job)


cdef void look_ahead(const weight_arguments* s, char** operand, const Job* job, const Block* block, Stream* dy,
                     Stream* x) noexcept nogil:
    """Set up the prefetch of the next block: one stream for dy and one for x."""
    cdef const Axis* h = &s.strip.axis[1]
    cdef const Axis* w = &s.strip.axis[2]
    cdef Py_ssize_t outputs = min(job.last * TILE_COLS, s.outer) - job.first * TILE_COLS
    dy.place = <const char*>gradient_at(s, operand, job, block, 0, 0, 0)
    dy.step = s.outer * s.groups * sizeof(real)
    dy.row = dy.line = 0
    dy.lines = dy.left = ceil_div(outputs, CACHE_LINE_REALS)
    dy.run = block.pixels * dy.step
    x.place = <const char*>input_at(s, operand, job, block, 0, 0, 0)
    x.step = s.strip.input_stride * sizeof(real)
    x.row = x.line = 0
    x.lines = x.left = ceil_div(s.inner if s.merged else job.channels, CACHE_LINE_REALS)
    if s.in_place:  # prefetch only the pixels that are read
        x.step *= w.step
        if block.images * block.rows > 1:
            x.row = h.step * w.input * s.strip.input_stride * sizeof(real) - block.columns * x.step
    else:           # prefetch all pixels, including those that the stride skips
        x.left *= h.step * w.step
    x.run = block.pixels * x.step


cdef inline void fetch_line(Stream* stream, tile_job* t) noexcept nogil:
    """Let a tile prefetch the stream's next cache line of each pixel, if any is left."""
    t.ahead, t.ahead_step, t.ahead_row = stream.place, 0, 0
    if stream.left > 0:
        t.ahead_step, t.ahead_row = stream.step, stream.row
        stream.left -= 1
        stream.line += 1
        stream.place += CACHE_LINE_REALS * sizeof(real)
        if stream.line == stream.lines:
            stream.line = 0
            stream.place += stream.run - stream.lines * CACHE_LINE_REALS * sizeof(real)


cdef void multiply(const weight_arguments* s, char** operand, const Job* job, const Block* block, Py_ssize_t nb,
                   bint first, Stream* ahead) noexcept nogil:
    """Multiply a block's pixels of x by dy of one output block. The products are added to the partial sums; the `first`
    block of pixels overwrites them instead.

    The tiles meanwhile prefetch the two streams `ahead`, first dy, then x.
    """
    cdef Py_ssize_t width = width_of(s, nb), segment, begin = 0, count, half, rows
    cdef int vectors = <int>(width // VL)
    cdef const real* x = input_at(s, operand, job, block, 0, 0, 0) if s.in_place else job.strip
    cdef const char* a
    cdef const char* next_a
    cdef real* c
    cdef tile_job t
    t.offset = s.row_offset
    t.segments = block.images * block.rows
    t.depth = block.columns
    t.row = sizeof(real)
    t.step = sizeof(real) * (
        s.strip.axis[2].step * s.strip.input_stride if s.in_place
        else s.strip.axis[2].strip_step * s.strip.pixel_stride)
    t.b = job.packed
    t.columns = width
    t.ldc = width
    t.mode = TILE_STORE if first else TILE_ADD
    while begin < job.channels:
        count = min(s.tile, job.channels - begin)
        segment = 0
        while segment < s.segments:
            a = <const char*>(x + s.tap_offset[segment])
            c = sums_at(s, job, nb, segment) + begin * width
            if 2 * job.channels <= TILE_ROWS and segment + 1 < s.segments:  # two segments share a register tile
                half, rows = count, 2 * count
                next_a = <const char*>(x + s.tap_offset[segment + 1])
                segment += 2
            else:
                half, rows = (count + 1) // 2, count
                next_a = a + half * t.row
                segment += 1
            fetch_line(&ahead[0] if ahead[0].left > 0 else &ahead[1], &t)
            tile_along[rows][vectors - 1](&t, a, next_a, c, c + half * width)
        begin += count
        x += count if s.merged or s.in_place else s.strip.panel_size


# One chunk is a block of output channels x a group x some input channels of dw. Adds the partial sums of the shares in
# a fixed order and transposes them from [tap][channel][column] to [column][channel][tap].
cdef void add_shares(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const weight_arguments* s = <const weight_arguments*>arguments
    cdef Py_ssize_t inner = s.inner, taps = s.taps, shares = s.shares, share_size = s.share_size
    cdef Py_ssize_t nb = i % s.column_blocks, rest = i // s.column_blocks
    cdef Py_ssize_t g = rest % s.groups, first = rest // s.groups * s.turned
    cdef Py_ssize_t width = width_of(s, nb), v, share, e = 0, j, t = 0, c = first, count
    cdef Py_ssize_t elements = min(s.turned, inner - first) * taps
    cdef Py_ssize_t live = min(<Py_ssize_t>TILE_COLS, s.outer - nb * TILE_COLS), output = inner * taps
    cdef const real* sums = <real*>operand[2] + (g * s.columns + nb * TILE_COLS) * inner * taps
    cdef real* dw = <real*>operand[3] + ((g * s.outer + nb * TILE_COLS) * inner + first) * taps
    cdef const real* p
    cdef vf total
    cdef vf totals[2][LANES]     # [TILE_VECTORS][LANES]
    while e < elements:
        count = min(<Py_ssize_t>VL, elements - e)
        for j in range(count):
            p = sums + (t * inner + c) * width
            for v in range(width // VL):
                total = vload(p + v * VL)
                for share in range(1, shares):
                    total = total + vload(p + share * share_size + v * VL)
                totals[v][j] = total
            t += 1
            if t == taps:
                t = 0
                c += 1
        for v in range(width // VL):
            store_turned(totals[v], live - v * VL, count, dw + v * VL * output + e, output)
        e += count


LOOPS = {
    "sum_share": <uintptr_t>sum_share,
    "add_shares": <uintptr_t>add_shares,
}
