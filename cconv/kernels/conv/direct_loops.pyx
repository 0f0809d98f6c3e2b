"""Compiled loops of direct convolution; direct.pyx describes the order of the loops."""

from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.conv.direct cimport PIECE, SLICE_CHANNELS, Part, Tap, gather_arguments, pack_arguments
from cconv.kernels.conv.gradient_sums cimport SLOPE_OF_Y, gradient_sums, gradient_terms, sums_found, terms_of
from cconv.kernels.conv.strip cimport Strip
from cconv.kernels.conv.strip_loops cimport load_strip
from cconv.kernels.core.moments cimport moments_found
from cconv.kernels.core.simd cimport (
    CACHE_LINE_REALS, TILE_COLS, TILE_ROWS, VL, ceil_div, real, stream_end, vf, vstore,
)
from cconv.kernels.core.tile cimport (
    TILE_ADD, TILE_BEGIN, TILE_BIAS, TILE_CLAMP, TILE_FETCH, TILE_MEASURE, TILE_RESIDUAL, TILE_STORE, TILE_STREAM,
    block_vectors, pad_pixels, tile_across, tile_job,
)
from cconv.kernels.core.turn cimport LANES, load_turned


# One chunk is a block of output pixels x a group x a share of the output channels.
cdef void gather(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const gather_arguments* s = <const gather_arguments*>arguments
    cdef const Part* p = s.parts
    cdef Py_ssize_t k, w, h, d, n, g, b, block = 0
    cdef Py_ssize_t images, rows, columns, channels
    cdef real* buffer = <real*>scratch
    cdef real* moments = <real*>(scratch + s.strip_bytes)
    cdef const real* source
    while i >= p.jobs:
        i -= p.jobs
        block += p.pixel_blocks
        p += 1
    if p.by_outputs:
        k = i // (p.pixel_blocks * s.groups)
        i %= p.pixel_blocks * s.groups
    else:
        k = i % p.jobs_k
        i //= p.jobs_k
    block += i % p.pixel_blocks
    w = i % p.jobs_w
    i //= p.jobs_w
    h = i % p.jobs_h
    i //= p.jobs_h
    d = i % p.jobs_d
    i //= p.jobs_d
    n = i % p.jobs_n
    g = i // p.jobs_n
    images = min(p.images, s.batch - n * p.images)
    rows = min(p.rows, p.strip.axis[1].output - h * p.rows)
    columns = min(p.columns, p.strip.axis[2].output - w * p.columns)
    if s.applies_derivative:
        memset(moments, 0, 2 * s.columns * sizeof(real))
    for b in range(s.blocks):
        channels = min(s.block, s.inner - b * s.block)
        if s.in_place:
            source = <real*>operand[0] + w * p.columns * s.source_channels + (g * s.inner + b * s.block)
        else:
            source = buffer
            load_strip(&p.strip, <real*>operand[0], buffer, n * p.images, images, d, h * p.rows, rows,
                       w * p.columns, columns, g * s.inner + b * s.block, channels)
        multiply(s, operand, p, source, g, b, channels, k, n * p.images, images, d, h * p.rows, rows,
                 w * p.columns, columns, moments)
    stream_end()
    if s.with_statistics or s.applies_derivative:
        report(s, operand, p, moments, block, g, k, images * rows * columns)


cdef void report(const gather_arguments* s, char** operand, const Part* p, const real* moments, Py_ssize_t block,
                 Py_ssize_t g, Py_ssize_t k, Py_ssize_t pixels) noexcept nogil:
    """Write a job's statistics, or the sums of add_parameter_sums, to its place in the operand `partials`."""
    cdef Py_ssize_t begin = s.column_blocks * k // p.jobs_k * TILE_COLS
    cdef Py_ssize_t end = min(s.column_blocks * (k + 1) // p.jobs_k * TILE_COLS, s.outer)
    cdef double* found = <double*>operand[6] + 2 * block * s.target_channels + g * s.outer + begin
    moments += begin
    if s.with_statistics:
        moments_found(moments, s.columns, end - begin, pixels, found, found + s.target_channels)
    else:
        sums_found(moments, moments + s.columns, end - begin, found, s.target_channels)


cdef inline Py_ssize_t following(const gather_arguments* s, Py_ssize_t nb, Py_ssize_t b, Py_ssize_t first,
                                 Py_ssize_t last) noexcept nogil:
    """Find the packed weights to prefetch: those that a job reads after output block nb and channel block b.

    The job covers output blocks first..last-1. Returns an offset in elements, to be multiplied by the number of taps.
    """
    if nb + 1 < last:
        nb += 1
    elif b + 1 < s.blocks:
        nb, b = first, b + 1
    else:
        nb, b = last, 0
    return nb * TILE_COLS * s.inner + b * s.block * min(<Py_ssize_t>TILE_COLS, s.columns - nb * TILE_COLS)


cdef void multiply(
    const gather_arguments* s, char** operand, const Part* p, const real* source, Py_ssize_t g, Py_ssize_t b,
    Py_ssize_t channels, Py_ssize_t k, Py_ssize_t image, Py_ssize_t images, Py_ssize_t depth, Py_ssize_t row,
    Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns, real* moments
) noexcept nogil:
    """Multiply one block of input channels by the weights of the job's share k of the output channels."""
    cdef const Strip* strip = &p.strip
    cdef Py_ssize_t first = s.column_blocks * k // p.jobs_k
    cdef Py_ssize_t last = s.column_blocks * (k + 1) // p.jobs_k
    cdef Py_ssize_t nb, r, n, y, t, tiles, begin, end, half
    cdef Py_ssize_t strip_row = strip.axis[1].strip_step * strip.columns * strip.pixel_stride
    cdef Py_ssize_t strip_image = strip.plane_count * strip.rows * strip.columns * strip.pixel_stride
    cdef Py_ssize_t pixel = strip.axis[2].strip_step * strip.pixel_stride
    cdef Py_ssize_t target_z = depth * strip.axis[0].out_step + strip.axis[0].out_start
    cdef Py_ssize_t target_y, target_x = column * strip.axis[2].out_step + strip.axis[2].out_start
    cdef Py_ssize_t ldc = s.target_channels * strip.axis[2].out_step
    cdef int vectors
    cdef bint ahead, paired = 2 * columns <= TILE_ROWS
    cdef Py_ssize_t fetched
    cdef const char* a
    cdef const char* other_a = NULL
    cdef real* c
    cdef real* other_c = NULL
    cdef const real* packed
    cdef real* buffer = moments + 2 * s.columns
    cdef gradient_terms terms
    cdef const gradient_terms* back = NULL
    cdef tile_job job
    job.offset = p.offset
    job.segments = p.segments
    job.depth = channels * strip.axis[2].span if s.merged else channels
    if s.in_pieces:
        job.depth = PIECE
    job.row = pixel * sizeof(real)
    job.step = sizeof(real)
    job.ldc = ldc
    # The residual is added with the first block of channels: the target may be the residual's memory, which the first
    # block overwrites.
    job.mode = TILE_STORE
    if b > 0:
        job.mode = TILE_ADD
    else:
        job.mode |= (TILE_BIAS if s.biased else 0) | (TILE_RESIDUAL if s.residual else 0)
    if b == s.blocks - 1 and s.clamped:
        job.mode |= TILE_CLAMP
    if s.streamed:
        job.mode |= TILE_STREAM
    if s.applies_derivative and b == s.blocks - 1:
        back = &terms
        if s.blocks == 1:
            job.mode = TILE_BIAS if s.biased else TILE_STORE
            job.ldc = TILE_COLS
    if b == s.blocks - 1 and s.with_statistics:
        job.mode |= TILE_MEASURE
    job.moments_apart = s.columns
    job.residual = operand[3] - operand[4]
    job.low = <real>s.low
    job.high = <real>s.high
    packed = <real*>operand[1] + p.weights + g * s.inner * p.taps * s.columns
    for nb in range(first, last):
        job.columns = min(<Py_ssize_t>TILE_COLS, s.outer - nb * TILE_COLS)
        vectors = block_vectors(job.columns)
        job.b = packed + (nb * TILE_COLS * s.inner + b * s.block * vectors * VL) * p.taps
        job.bias = <real*>operand[2] + g * s.outer + nb * TILE_COLS
        job.moments = moments + nb * TILE_COLS
        if back != NULL:
            terms = terms_of(&s.derivative, operand, g * s.outer + nb * TILE_COLS, s.residual and s.blocks == 1,
                             s.streamed)
        job.mode |= TILE_BEGIN
        other_a = NULL
        # Pixels that are read in place come from memory, so each tile prefetches the pixels of the next tile. If there
        # are more weights than pixels, the tiles together prefetch the next block of weights instead.
        ahead = s.in_place and nb == first and s.blocks == 1 and not p.weights_ahead
        job.ahead_step = CACHE_LINE_REALS * sizeof(real) if ahead else 0
        job.ahead = <const char*>source
        if p.weights_ahead:
            job.ahead = <const char*>(packed + following(s, nb, b, first, last) * p.taps)
            job.ahead_step = vectors * VL * sizeof(real) // (
                ceil_div(images * rows, 2) if paired else images * rows * ceil_div(columns, TILE_ROWS))
        fetched = job.ahead_step * job.depth * job.segments if p.weights_ahead else 0
        for r in range(images * rows):
            n = r // rows
            y = r - n * rows
            a = <const char*>(source + n * strip_image + y * strip_row)
            target_y = (row + y) * strip.axis[1].out_step + strip.axis[1].out_start
            c = <real*>operand[4] + g * s.outer + nb * TILE_COLS + s.target_channels * (
                (((image + n) * s.target[0] + target_z) * s.target[1] + target_y) * s.target[2] + target_x)
            if paired:
                # Rows are short: two of them, of one or of two images, share a register tile.
                if other_a == NULL:
                    other_a = a
                    other_c = c
                else:
                    run_tile(s, &job, back, buffer, 2 * columns, vectors, other_a, a, other_c, c, ldc)
                    job.ahead += fetched
                    job.mode &= ~TILE_BEGIN
                    other_a = NULL
                continue
            tiles = (columns + TILE_ROWS - 1) // TILE_ROWS
            for t in range(tiles):
                begin = columns * t // tiles
                end = columns * (t + 1) // tiles
                half = (end - begin + 1) // 2
                if ahead:
                    job.ahead = a + end * job.row
                if back != NULL and s.in_pieces and nb > first:
                    fetch_for(&terms, c + end * ldc if t + 1 < tiles else c + TILE_COLS, ldc, &job)
                run_tile(s, &job, back, buffer, end - begin, vectors, a + begin * job.row,
                         a + (begin + half) * job.row, c + begin * ldc, c + (begin + half) * ldc, ldc)
                job.ahead += fetched
                job.mode &= ~TILE_BEGIN
        if other_a != NULL:
            half = (columns + 1) // 2
            run_tile(s, &job, back, buffer, columns, vectors, other_a, other_a + half * job.row,
                     other_c, other_c + half * ldc, ldc)


cdef inline void fetch_for(const gradient_terms* t, const real* dz, Py_ssize_t ldc, tile_job* job) noexcept nogil:
    """Let a tile prefetch the operands of gradient_sums for the next tile, which is at dz: two cache lines per row."""
    cdef const char* place = <const char*>dz
    cdef Py_ssize_t line = CACHE_LINE_REALS * sizeof(real)
    job.mode |= TILE_FETCH
    job.ahead_step = ldc * sizeof(real)
    job.stream[0], job.stream[1] = place + t.x, place + t.x + line
    job.streams = 2
    if t.slope == SLOPE_OF_Y:
        job.stream[2], job.stream[3] = place + t.y, place + t.y + line
        job.streams = 4
    if t.adds:
        job.stream[job.streams], job.stream[job.streams + 1] = place + t.addend, place + t.addend + line
        job.streams += 2


cdef inline void run_tile(const gather_arguments* s, const tile_job* job, const gradient_terms* back, real* buffer,
                          Py_ssize_t rows, int vectors, const char* a0, const char* a1, real* c0, real* c1,
                          Py_ssize_t ldc) noexcept nogil:
    """Compute a register tile and store its two halves of rows to c0 and c1.

    With `back`, gradient_sums then turns the tile's dy into dz. If there is one block of channels, the tile holds
    complete sums, and dy is passed to gradient_sums in the buffer instead of in the target.
    """
    cdef Py_ssize_t half = (rows + 1) // 2
    cdef real* first = c0
    cdef real* second = c1
    if back != NULL and s.blocks == 1:
        first, second = buffer, buffer + half * TILE_COLS
    tile_across[rows][vectors - 1](job, a0, a1, first, second)
    if back != NULL:
        gradient_sums(back, vectors * VL, first, job.ldc, c0, ldc, half, job.moments, job.moments + s.columns)
        gradient_sums(back, vectors * VL, second, job.ldc, c1, ldc, rows - half, job.moments, job.moments + s.columns)


# One chunk is a contiguous piece of a group's weights in ONNX's order: a block of output channels (forward) or some
# channels of dy (input gradient).
cdef void pack(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const pack_arguments* s = <const pack_arguments*>arguments
    cdef Py_ssize_t slice_ = i % s.slices, g = i // s.slices, nb, c, end
    if s.forward:
        c = 0
        while c < s.inner:
            end = min(c + s.block, s.inner)
            pack_channels(s, operand, g, slice_, c, end, <Py_ssize_t*>scratch)
            c = end
    else:
        c = slice_ * SLICE_CHANNELS
        end = min(c + SLICE_CHANNELS, s.inner)
        for nb in range(s.column_blocks):
            pack_channels(s, operand, g, nb, c, end, <Py_ssize_t*>scratch)


cdef void pack_channels(const pack_arguments* s, char** operand, Py_ssize_t g, Py_ssize_t nb, Py_ssize_t c,
                        Py_ssize_t end, Py_ssize_t* offset) noexcept nogil:
    """Pack channels c..end-1, all in one channel block, for output block nb. `offset` is scratch, an entry per tap."""
    cdef Py_ssize_t start = c // s.block * s.block, channels = min(s.block, s.inner - start), v, t
    cdef Py_ssize_t run = end - c if s.forward else 1  # channels whose taps are contiguous in the weights
    cdef Py_ssize_t live = min(<Py_ssize_t>TILE_COLS, s.outer - nb * TILE_COLS), width = block_vectors(live) * VL
    cdef Py_ssize_t before = (g * s.columns + nb * TILE_COLS) * s.inner + start * width  # packed before, for each tap
    cdef const Tap* tap
    cdef const real* source = <real*>operand[0] + (
        g * s.group_stride + c * s.inner_stride + nb * TILE_COLS * s.outer_stride)
    cdef real* target = <real*>operand[1] + (c - start) * width
    if s.outer_stride == 1:  # one tap, and the outputs are contiguous already
        if s.tap[0].place == 0:
            pad_pixels(source, s.inner_stride, target + before, width, end - c, live)
        return
    for t in range(s.taps):
        tap = &s.tap[t]
        offset[t] = (
            tap.before * s.groups * s.columns * s.inner + tap.of * before + tap.place * channels * width
            if tap.place >= 0 else -1)
    while c < end:
        for v in range(width // VL):
            pack_run(source + v * VL * s.outer_stride, s.outer_stride, run * s.taps, live - v * VL, target + v * VL,
                     s.taps, offset, width)
        c += run
        source += run * s.inner_stride
        target += run * width


cdef inline void pack_run(const real* source, Py_ssize_t stride, Py_ssize_t elements, Py_ssize_t live, real* target,
                          Py_ssize_t taps, const Py_ssize_t* offset, Py_ssize_t channel) noexcept nogil:
    """Transpose weights [output][channel][tap] of `live` outputs into vectors whose lanes are outputs.

    Args:
        stride: elements of the source from one output to the next.
        elements: number of contiguous elements (channels x taps) of each output.
        offset: for each tap, where its vector goes, in elements from `target`; -1 if no output reads the tap.
        channel: elements of the target from one channel to the next.
    """
    cdef Py_ssize_t done = 0, count, j, t = 0
    cdef vf turned[LANES]
    while done < elements:
        count = min(<Py_ssize_t>VL, elements - done)
        load_turned(source + done, stride, live, count, turned)
        for j in range(count):
            if offset[t] >= 0:
                vstore(target + offset[t], turned[j])
            t += 1
            if t == taps:
                t = 0
                target += channel
        done += count


LOOPS = {
    "gather": <uintptr_t>gather,
    "pack": <uintptr_t>pack,
}
