"""Direct convolution: forward and input gradient.

Both are a gather (geometry.py): every output pixel is a sum over taps of an input pixel's channels times a
matrix [channels x outputs]. The walk, from the outside in:

    job      a block of output pixels, some blocks of output channels; jobs run in parallel, any job on any
             thread, since each output is summed in one job in a fixed order
    channels blocks of input channels, so that a block's weights stay in L2; its strip is copied to the thread's
             buffer with the zero border (strip.pxd), unless all pixels are one long row already
    outputs  blocks of TILE_COLS output channels
    tiles    up to TILE_ROWS pixels of a row, or two short rows, times TILE_COLS outputs in registers, summed
             over all taps and the block's channels (tile.h)

The input gradient of a strided convolution is several gathers, one per residue of the position (Part below).

Weights are packed beforehand (Pack), in the order in which the tiles read them:
    [part][group][output block][channel block][tap][channel][column of the block]
"""

import numpy as np

from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from cconv.kernels.conv.gradient_sums cimport (
    SLOPE_OF_Y, bound_terms, derivative_known, gradient_sums, gradient_terms, sums_found,
)
from cconv.kernels.core.moments cimport moments_found
from cconv.kernels.core.simd cimport (
    CACHE_LINE_REALS, TILE_COLS, TILE_ROWS, VL, ceil_div, real, stream_end, vf, vstore,
)
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step
from cconv.kernels.conv.strip cimport Strip, load_strip
from cconv.kernels.core.tile cimport (
    TILE_ADD, TILE_BEGIN, TILE_BIAS, TILE_CLAMP, TILE_FETCH, TILE_MEASURE, TILE_RESIDUAL, TILE_STORE, TILE_STREAM,
    block_vectors, pad_pixels, tile_across, tile_job,
)
from cconv.kernels.core.turn cimport LANES, load_turned

from cconv.kernels.conv.geometry import CONFLICTING_CHANNELS, forward_part, input_gradient_parts, is_pointwise, one_row

# Output pixels of a job: enough to use each packed block of weights some 30 times, but no more of their input than a
# quarter of a small L2 holds.
JOB_PIXELS, JOB_ELEMENTS = 448, 65536
# Input channels of a block: with 3x3 taps and 32 columns 147 KB of weights, half of a small L2.
BLOCK_CHANNELS, BLOCK_CHANNELS_ONE_TAP = 128, 512
# Channels that a chunk packs for an input gradient; blocks are of so many, or of all.
cdef Py_ssize_t SLICE_CHANNELS = 16
# Channels of a segment where tiles fetch several things, one after the other: a line a channel, so a line of each row.
cdef Py_ssize_t PIECE = 16
# Jobs that a convolution is cut into at the least, if its output channels allow.
LEAST_JOBS = 16


cdef struct Part:
    Strip strip
    const Py_ssize_t* offset       # of each segment in the strip, bytes
    Py_ssize_t segments
    Py_ssize_t taps
    Py_ssize_t weights             # where the part's packed weights begin
    Py_ssize_t images, rows, columns                     # of a job
    Py_ssize_t jobs_n, jobs_d, jobs_h, jobs_w, jobs_k    # jobs along each axis
    Py_ssize_t jobs
    bint by_outputs                # neighbouring jobs are of the same outputs, if these have more to read than pixels
    bint weights_ahead             # weights are more than pixels: they are what tiles fetch for later


def role_parts(geometry, str role):
    """The gathers of "forward" or "input_gradient"."""
    return [forward_part(geometry)] if role == "forward" else input_gradient_parts(geometry)


def widths(Py_ssize_t outputs):
    """Columns of all packed blocks of `outputs` outputs together, with the last one's padding."""
    full, rest = divmod(outputs, TILE_COLS)
    return full * TILE_COLS + (block_vectors(rest) * VL if rest else 0)


def channel_block(Py_ssize_t channels, Py_ssize_t taps):
    """Input channels that one pass over a job sums: all, or equal blocks."""
    most = BLOCK_CHANNELS_ONE_TAP if taps == 1 else BLOCK_CHANNELS
    if channels <= most * 3 // 2:
        return max(1, channels)
    blocks = ceil_div(channels, most)
    return ceil_div(channels, (blocks * 16)) * 16


def packed_size(geometry, str role):
    """Elements of the packed weights."""
    inner, outer = channels_of(geometry, role)
    taps = sum(tap_count(part) for part in role_parts(geometry, role))
    return geometry.groups * inner * taps * widths(outer)


def channels_of(geometry, str role):
    """Channels of a group that are (summed over, produced)."""
    c, k = geometry.channels // geometry.groups, geometry.outputs // geometry.groups
    return (c, k) if role == "forward" else (k, c)


def tap_count(part):
    return len(part[0].offsets) * len(part[1].offsets) * len(part[2].offsets)


def row_share(Py_ssize_t pixels, Py_ssize_t most):
    """Pixels of a job where all are one row, at the most. Few jobs are equal ones, a power of two of them, so that
    threads end together."""
    jobs = ceil_div(pixels, most)
    if jobs < LEAST_JOBS:
        jobs = max(2, 1 << (int(jobs) - 1).bit_length()) if pixels >= 2 * TILE_ROWS else 1
        most = ceil_div(pixels, jobs)
    return min(pixels, most)


cdef inline void fetch_for(const gradient_terms* t, const real* dz, Py_ssize_t ldc, tile_job* job) noexcept nogil:
    """Have a tile fetch what the sums at dz, the tile behind it, read: two lines of each row."""
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


cdef class Gather(Step):
    """A direct convolution pass.

    Args:
        geometry: ConvGeometry.
        role: "forward" (x to y) or "input_gradient" (dy to dx).
        bias: whether a bias is added to each output channel.
        residual: whether a tensor of the target's shape is added.
        clamp: (low, high) that the result is clamped to, last; None: it is not.

    Operands: source (N, spatial, channels) channels-last, packed weights, bias or none, residual or none, target,
    workspace (none is needed); feature maps channels-last. The target may be the residual's memory. And if `measure` was
    called, partials (blocks, 2, channels) double. If `measure_gradient` was, partials and then, of the normalisation, x, mean,
    inverse, scale, bias and y: either y or inverse, scale and bias with an activation, none of them without.
    """

    cdef Part* parts
    cdef Py_ssize_t part_count
    cdef Py_ssize_t batch, groups, inner, outer       # channels of a group: summed over, produced
    cdef Py_ssize_t source_channels, target_channels
    cdef Py_ssize_t block, blocks                     # input channels of a block; how many blocks
    cdef Py_ssize_t columns, column_blocks            # packed columns of a group; blocks of TILE_COLS
    cdef Py_ssize_t target[3]
    cdef readonly Py_ssize_t workspace                # 0
    cdef bint biased, residual, clamped
    cdef real low, high
    cdef bint pointwise                               # all pixels are one row, each its own input's
    cdef bint in_place                                # pixels are read where they are, no strip
    cdef bint merged                                  # a kernel row's taps and channels are one run
    cdef bint measured                                # `measure` was called
    cdef bint passes_back                             # `measure_gradient` was, with these terms
    cdef gradient_terms terms
    cdef bint in_pieces                               # channels are cut into segments of PIECE
    cdef Py_ssize_t strip_bytes
    cdef list keep

    def __cinit__(self, geometry, str role="forward", *args, **kwargs):
        geometry = one_row(geometry)
        parts = role_parts(geometry, role)
        parts = [part for part in parts if all(walk.output > 0 for walk in part)] if geometry.batch else []
        self.part_count = len(parts)
        self.parts = <Part*>calloc(max(1, len(parts)), sizeof(Part))
        if self.parts == NULL:
            raise MemoryError
        self.keep = []

    def __dealloc__(self):
        free(self.parts)

    def __init__(self, geometry, str role="forward", bint bias=False, bint residual=False, clamp=None):
        geometry = one_row(geometry)
        self.work = geometry.flops / (FLOPS_PER_LANE * VL)
        self.operands = 6
        self.biased = bias
        self.residual = residual
        self.clamped = clamp is not None
        if self.clamped:
            self.low, self.high = clamp
        self.groups = geometry.groups
        self.inner, self.outer = channels_of(geometry, role)
        self.source_channels = self.inner * self.groups
        self.target_channels = self.outer * self.groups
        self.batch = geometry.batch
        self.columns = widths(self.outer)
        self.column_blocks = (self.outer + TILE_COLS - 1) // TILE_COLS
        most_taps = geometry.taps
        self.block = channel_block(self.inner, most_taps)
        self.blocks = ceil_div(self.inner, self.block) if self.inner else 1
        for axis, size in enumerate(geometry.output if role == "forward" else geometry.input):
            self.target[axis] = size

        parts = role_parts(geometry, role)
        # Where the weights of each part begin; empty parts have theirs too.
        weights, starts = 0, []
        for part in parts:
            starts.append(weights)
            weights += self.groups * self.inner * tap_count(part) * self.columns
        live = [(part, start) for part, start in zip(parts, starts) if all(walk.output > 0 for walk in part)]
        if not self.batch:
            live = []

        self.pointwise = len(parts) == 1 and is_pointwise(parts[0])
        self.in_place = self.pointwise and self.source_channels < CONFLICTING_CHANNELS
        self.merged = (
            not self.pointwise and self.inner <= 8 and self.groups == 1
            and all(part[2].offsets == tuple(range(len(part[2].offsets))) for part, _ in live)
        )
        strip_bytes = 0
        for i, (part, start) in enumerate(live):
            strip_bytes = max(strip_bytes, self.lay_out(&self.parts[i], part, start))
        self.strip_bytes = self.scratch_bytes = 0 if self.in_place else (strip_bytes + 63) // 64 * 64

    def measure(self):
        """Have it find, for blocks of output pixels, each channel's mean and sum of squared deviations, as norm.Statistics
        takes them: they are found while the values are in registers.

        Returns:
            The number of pixels of each block; None: it finds nothing (several gathers make up the target), or does already.
        """
        cdef Part* p = self.parts
        if self.measured or self.part_count != 1 or any(self.target[i] != p.strip.axis[i].output for i in range(3)):
            return None
        self.measured = True
        self.operands = 7
        self.scratch_bytes = self.strip_bytes + 3 * self.columns * sizeof(real)
        return [
            min(p.images, self.batch - n * p.images) * min(p.rows, p.strip.axis[1].output - h * p.rows)
            * min(p.columns, p.strip.axis[2].output - w * p.columns)
            for n in range(p.jobs_n) for _ in range(p.jobs_d) for h in range(p.jobs_h) for w in range(p.jobs_w)
        ]

    def add_residual(self):
        """Have it add a tensor of the target's shape to its result.

        Returns:
            Which operand that is; None: it adds one already, or does something else to its result.
        """
        if self.residual or self.clamped or self.measured or self.passes_back:
            return None
        self.residual = True
        return 3

    def measure_gradient(self, activation):
        """Have it turn what it computes, a gradient dy of y = f(z), z being normalised, into that of z, dz = dy * f'(z), and
        find the sums that norm.ParameterGradient is for: tile by tile, while it is in the cache.

        Args:
            activation: f as (name, a, b), see norm.pyx; None: there is none.

        Returns:
            The number of blocks of pixels whose sums it finds; None: it does not, or does something else to its result.
        """
        if self.clamped or self.measured or self.passes_back or self.outer % VL or not self.part_count:
            return None
        if not derivative_known(activation, &self.terms):
            return None
        self.passes_back = True
        self.operands = 13
        self.scratch_bytes = self.strip_bytes + (2 * self.columns + TILE_ROWS * TILE_COLS) * sizeof(real)
        self.in_pieces = self.pointwise and self.blocks == 1 and self.inner % PIECE == 0
        if self.in_pieces:
            self.parts.segments = self.inner // PIECE
            self.parts.offset = self.longs([i * PIECE * sizeof(real) for i in range(self.inner // PIECE)])
        return sum(self.parts[i].jobs // self.parts[i].jobs_k // self.groups for i in range(self.part_count))

    cdef Py_ssize_t lay_out(self, Part* p, part, Py_ssize_t weights) except -1:
        """Fill in one part; returns the bytes of its strip."""
        cdef Strip* s = &p.strip
        sizes = [walk.output for walk in part]
        for a, walk in enumerate(part):
            one = len(walk.offsets) == 1
            s.axis[a].input = walk.input
            s.axis[a].output = walk.output
            s.axis[a].step = walk.step
            s.axis[a].pad = walk.pad
            s.axis[a].load_step = walk.step if one else 1
            s.axis[a].strip_step = 1 if one else walk.step
            s.axis[a].span = walk.span
            s.axis[a].out_step = walk.out_step
            s.axis[a].out_start = walk.out_start
        p.weights = weights
        p.taps = tap_count(part)

        # A job: whole rows where they are short, several images where those are small.
        pixels = max(4 * TILE_ROWS, min(JOB_PIXELS, JOB_ELEMENTS // (self.block + CACHE_LINE_REALS)))
        p.columns = min(sizes[2], pixels // TILE_ROWS * TILE_ROWS)
        if self.pointwise:
            p.columns = row_share(sizes[2], p.columns)
        p.rows = max(1, min(sizes[1], pixels // p.columns))
        whole = p.columns == sizes[2] and p.rows == sizes[1] and sizes[0] == 1
        p.images = max(1, min(self.batch, pixels // (p.rows * p.columns))) if whole else 1
        p.jobs_n = ceil_div(self.batch, p.images)
        p.jobs_d = sizes[0]
        p.jobs_h = ceil_div(sizes[1], p.rows)
        p.jobs_w = ceil_div(sizes[2], p.columns)
        jobs = p.jobs_n * p.jobs_d * p.jobs_h * p.jobs_w * self.groups
        p.jobs_k = max(1, min(self.column_blocks, ceil_div(LEAST_JOBS, jobs)))
        p.jobs = jobs * p.jobs_k
        p.by_outputs = self.pointwise and self.outer > sizes[2]
        p.weights_ahead = self.outer * p.taps > self.batch * sizes[0] * sizes[1] * sizes[2]

        s.plane_count = len(part[0].offsets)
        s.rows = (p.rows - 1) * s.axis[1].strip_step + s.axis[1].span
        s.columns = (p.columns - 1) * s.axis[2].strip_step + s.axis[2].span
        s.input_stride = self.source_channels
        s.panel = self.block
        s.panel_size = 0
        if self.in_place:
            s.pixel_stride = self.source_channels
        elif self.merged:
            s.pixel_stride = self.inner
        else:
            s.pixel_stride = self.block + CACHE_LINE_REALS
        s.planes = self.longs(part[0].offsets)
        taps_w = part[2].offsets[:1] if self.merged else part[2].offsets
        offsets = [
            ((plane * s.rows + h) * s.columns + w) * s.pixel_stride * sizeof(real)
            for plane in range(s.plane_count)
            for h in (part[1].offsets if s.axis[1].load_step == 1 else [0])
            for w in (taps_w if s.axis[2].load_step == 1 else [0])
        ]
        if p.taps == 0:
            offsets = []
        p.segments = len(offsets)
        p.offset = self.longs(offsets)
        # + one vector: a tile may broadcast no further than its pixels, but copies go by whole vectors
        return (p.images * s.plane_count * s.rows * s.columns * s.pixel_stride + VL) * <Py_ssize_t>sizeof(real)

    cdef const Py_ssize_t* longs(self, values) except NULL:
        """A C array that lives as long as this step."""
        array = np.array(tuple(values) or (0,), dtype=np.intp)
        self.keep.append(array)
        return <const Py_ssize_t*><uintptr_t>array.ctypes.data

    cdef int run(self) noexcept nogil:
        cdef Py_ssize_t i, jobs = 0
        for i in range(self.part_count):
            jobs += self.parts[i].jobs
        self.parallel(0, jobs)
        return OK

    # Parallel axis: blocks of output pixels x groups x shares of the output channels. Neighbouring jobs read
    # the same weights, which stay in the shared cache.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Part* p = self.parts
        cdef Py_ssize_t k, w, h, d, n, g, b, block = 0
        cdef Py_ssize_t images, rows, columns, channels
        cdef real* buffer = <real*>self.scratch_of(thread)
        cdef real* moments = <real*>(self.scratch_of(thread) + self.strip_bytes)
        cdef const real* source
        while i >= p.jobs:
            i -= p.jobs
            block += p.jobs // p.jobs_k // self.groups
            p += 1
        if p.by_outputs:
            k = i // (p.jobs // p.jobs_k)
            i %= p.jobs // p.jobs_k
        else:
            k = i % p.jobs_k
            i //= p.jobs_k
        block += i % (p.jobs // p.jobs_k // self.groups)
        w = i % p.jobs_w
        i //= p.jobs_w
        h = i % p.jobs_h
        i //= p.jobs_h
        d = i % p.jobs_d
        i //= p.jobs_d
        n = i % p.jobs_n
        g = i // p.jobs_n
        images = min(p.images, self.batch - n * p.images)
        rows = min(p.rows, p.strip.axis[1].output - h * p.rows)
        columns = min(p.columns, p.strip.axis[2].output - w * p.columns)
        if self.passes_back:
            memset(moments, 0, 2 * self.columns * sizeof(real))
        for b in range(self.blocks):
            channels = min(self.block, self.inner - b * self.block)
            if self.in_place:
                source = <real*>self.operand[0] + w * p.columns * self.source_channels + (
                    g * self.inner + b * self.block)
            else:
                source = buffer
                load_strip(&p.strip, <real*>self.operand[0], buffer, n * p.images, images, d, h * p.rows, rows,
                           w * p.columns, columns, g * self.inner + b * self.block, channels)
            self.multiply(p, source, g, b, channels, k, n * p.images, images, d, h * p.rows, rows,
                          w * p.columns, columns, moments)
        stream_end()
        if self.measured or self.passes_back:
            self.report(p, moments, block, g, k, images * rows * columns)

    cdef void report(self, const Part* p, const real* moments, Py_ssize_t block, Py_ssize_t g, Py_ssize_t k,
                     Py_ssize_t pixels) noexcept nogil:
        """What a job found of its outputs to `partials`."""
        cdef Py_ssize_t begin = self.column_blocks * k // p.jobs_k * TILE_COLS
        cdef Py_ssize_t end = min(self.column_blocks * (k + 1) // p.jobs_k * TILE_COLS, self.outer)
        cdef double* found = <double*>self.operand[6] + 2 * block * self.target_channels + g * self.outer + begin
        moments += begin
        if self.measured:
            moments_found(moments, self.columns, end - begin, pixels, found, found + self.target_channels)
        else:
            sums_found(moments, moments + self.columns, end - begin, found, self.target_channels)

    cdef inline bint streamed(self) noexcept nogil:
        """Whether the target goes past the caches. What is summed up block by block is read again."""
        cdef Py_ssize_t pixels = self.batch * self.target[0] * self.target[1] * self.target[2]
        return self.blocks == 1 and self.streams_to(
            4, pixels * self.target_channels * sizeof(real), self.outer * sizeof(real), TILE_COLS * sizeof(real))

    cdef Py_ssize_t following(self, Py_ssize_t nb, Py_ssize_t b, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
        """Where the weights begin, per tap, that come after those of block nb of outputs and block b of channels, in a job of
        outputs first..last-1."""
        if nb + 1 < last:
            nb += 1
        elif b + 1 < self.blocks:
            nb, b = first, b + 1
        else:
            nb, b = last, 0
        return nb * TILE_COLS * self.inner + b * self.block * min(<Py_ssize_t>TILE_COLS, self.columns - nb * TILE_COLS)

    cdef void multiply(
        self, Part* p, const real* source, Py_ssize_t g, Py_ssize_t b, Py_ssize_t channels, Py_ssize_t k,
        Py_ssize_t image, Py_ssize_t images, Py_ssize_t depth, Py_ssize_t row, Py_ssize_t rows,
        Py_ssize_t column, Py_ssize_t columns, real* moments
    ) noexcept nogil:
        """One block of input channels times the job's share k of the output channels."""
        cdef Strip* s = &p.strip
        cdef Py_ssize_t first = self.column_blocks * k // p.jobs_k
        cdef Py_ssize_t last = self.column_blocks * (k + 1) // p.jobs_k
        cdef Py_ssize_t nb, r, n, y, t, tiles, begin, end, half
        cdef Py_ssize_t strip_row = s.axis[1].strip_step * s.columns * s.pixel_stride
        cdef Py_ssize_t strip_image = s.plane_count * s.rows * s.columns * s.pixel_stride
        cdef Py_ssize_t pixel = s.axis[2].strip_step * s.pixel_stride
        cdef Py_ssize_t target_z = depth * s.axis[0].out_step + s.axis[0].out_start
        cdef Py_ssize_t target_y, target_x = column * s.axis[2].out_step + s.axis[2].out_start
        cdef Py_ssize_t ldc = self.target_channels * s.axis[2].out_step
        cdef int vectors
        cdef bint ahead, paired = 2 * columns <= TILE_ROWS
        cdef Py_ssize_t fetched
        cdef const char* a
        cdef const char* other_a = NULL
        cdef real* c
        cdef real* other_c = NULL
        cdef const real* packed
        cdef real* buffer = moments + 2 * self.columns
        cdef gradient_terms terms
        cdef const gradient_terms* back = NULL
        cdef tile_job job
        job.offset = p.offset
        job.segments = p.segments
        job.depth = channels * s.axis[2].span if self.merged else channels
        if self.in_pieces:
            job.depth = PIECE
        job.row = pixel * sizeof(real)
        job.step = sizeof(real)
        job.ldc = ldc
        # The residual goes in with the first block, so that the target may take its memory.
        job.mode = TILE_STORE
        if b > 0:
            job.mode = TILE_ADD
        else:
            job.mode |= (TILE_BIAS if self.biased else 0) | (TILE_RESIDUAL if self.residual else 0)
        if b == self.blocks - 1 and self.clamped:
            job.mode |= TILE_CLAMP
        if self.streamed():
            job.mode |= TILE_STREAM
        if self.passes_back and b == self.blocks - 1:
            back = &terms
            if self.blocks == 1:
                job.mode = TILE_BIAS if self.biased else TILE_STORE
                job.ldc = TILE_COLS
        if b == self.blocks - 1 and self.measured:
            job.mode |= TILE_MEASURE
        job.moments_apart = self.columns
        job.residual = self.operand[3] - self.operand[4]
        job.low = self.low
        job.high = self.high
        packed = <real*>self.operand[1] + p.weights + g * self.inner * p.taps * self.columns
        for nb in range(first, last):
            job.columns = min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS)
            vectors = block_vectors(job.columns)
            job.b = packed + (nb * TILE_COLS * self.inner + b * self.block * vectors * VL) * p.taps
            job.bias = <real*>self.operand[2] + g * self.outer + nb * TILE_COLS
            job.moments = moments + nb * TILE_COLS
            if back != NULL:
                terms = bound_terms(self.terms, self.operand, g * self.outer + nb * TILE_COLS)
                terms.adds = self.residual and self.blocks == 1
                terms.stream = self.streamed()
            job.mode |= TILE_BEGIN
            other_a = NULL
            # Pixels that are read where they are come from memory; each tile fetches the next one's. Where weights are
            # more than pixels, all tiles together fetch those of the block that comes next.
            ahead = self.in_place and nb == first and self.blocks == 1 and not p.weights_ahead
            job.ahead_step = CACHE_LINE_REALS * sizeof(real) if ahead else 0
            job.ahead = <const char*>source
            if p.weights_ahead:
                job.ahead = <const char*>(packed + self.following(nb, b, first, last) * p.taps)
                job.ahead_step = vectors * VL * sizeof(real) // (
                    ceil_div(images * rows, 2) if paired else images * rows * ceil_div(columns, TILE_ROWS))
            fetched = job.ahead_step * job.depth * job.segments if p.weights_ahead else 0
            for r in range(images * rows):
                n = r // rows
                y = r - n * rows
                a = <const char*>(source + n * strip_image + y * strip_row)
                target_y = (row + y) * s.axis[1].out_step + s.axis[1].out_start
                c = <real*>self.operand[4] + g * self.outer + nb * TILE_COLS + self.target_channels * (
                    (((image + n) * self.target[0] + target_z) * self.target[1] + target_y) * self.target[2]
                    + target_x)
                if paired:
                    # Two rows of an image, or of two images, fill the tile together.
                    if other_a == NULL:
                        other_a = a
                        other_c = c
                    else:
                        self.tile(&job, back, buffer, 2 * columns, vectors, other_a, a, other_c, c, ldc)
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
                    if back != NULL and self.in_pieces and nb > first:
                        fetch_for(&terms, c + end * ldc if t + 1 < tiles else c + TILE_COLS, ldc, &job)
                    self.tile(&job, back, buffer, end - begin, vectors, a + begin * job.row,
                              a + (begin + half) * job.row, c + begin * ldc, c + (begin + half) * ldc, ldc)
                    job.ahead += fetched
                    job.mode &= ~TILE_BEGIN
            if other_a != NULL:
                half = (columns + 1) // 2
                self.tile(&job, back, buffer, columns, vectors, other_a, other_a + half * job.row,
                          other_c, other_c + half * ldc, ldc)

    cdef inline void tile(self, const tile_job* job, const gradient_terms* back, real* buffer, Py_ssize_t rows, int vectors,
                          const char* a0, const char* a1, real* c0, real* c1, Py_ssize_t ldc) noexcept nogil:
        """A tile, its halves to c0 and c1; what is passed back by way of the buffer, if the tile alone makes it up."""
        cdef Py_ssize_t half = (rows + 1) // 2
        cdef real* first = c0
        cdef real* second = c1
        if back != NULL and self.blocks == 1:
            first, second = buffer, buffer + half * TILE_COLS
        tile_across[rows][vectors - 1](job, a0, a1, first, second)
        if back != NULL:
            gradient_sums(back, vectors * VL, first, job.ldc, c0, ldc, half, job.moments, job.moments + self.columns)
            gradient_sums(back, vectors * VL, second, job.ldc, c1, ldc, rows - half, job.moments,
                          job.moments + self.columns)


cdef struct Tap:
    # Where a tap of the kernel is packed: taps of all parts before its own, taps of its own, which of these it is; -1 if
    # no output reads it.
    Py_ssize_t before, of, place


cdef class Pack(Step):
    """Weights (K, C/groups, taps) in ONNX's order to the order in which Gather reads them.

    Args:
        geometry, role: as the Gather's.

    Operands: weights, packed (packed_size elements).
    """

    cdef Py_ssize_t groups, inner, outer, taps, block, columns, column_blocks
    cdef Py_ssize_t group_stride, inner_stride, outer_stride
    cdef bint forward
    cdef Py_ssize_t slices                # pieces of a group that chunks are made of
    cdef Tap* tap                         # by index in the kernel

    def __cinit__(self, geometry, str role="forward"):
        self.tap = <Tap*>calloc(max(1, geometry.taps), sizeof(Tap))
        if self.tap == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.tap)

    def __init__(self, geometry, str role="forward"):
        self.operands = 2
        self.groups = geometry.groups
        self.inner, self.outer = channels_of(geometry, role)
        self.taps = geometry.taps
        c = geometry.channels // geometry.groups
        self.group_stride = self.inner * self.outer * self.taps
        self.forward = role == "forward"
        if self.forward:
            self.outer_stride, self.inner_stride = c * self.taps, self.taps
        else:
            self.outer_stride, self.inner_stride = self.taps, c * self.taps
        self.block = channel_block(self.inner, self.taps)
        self.columns = widths(self.outer)
        self.column_blocks = ceil_div(self.outer, TILE_COLS)
        self.slices = self.column_blocks if self.forward else ceil_div(self.inner, SLICE_CHANNELS)
        self.scratch_bytes = ceil_div(self.taps * sizeof(Py_ssize_t), 64) * 64
        before = 0
        for t in range(self.taps):
            self.tap[t].place = -1
        for d, h, w in role_parts(geometry, role):
            order = [
                (i * geometry.kernel[1] + j) * geometry.kernel[2] + k
                for i in d.kernel for j in h.kernel for k in w.kernel
            ]
            for place, t in enumerate(order):
                self.tap[t] = Tap(before, len(order), place)
            before += len(order)

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.groups * self.slices)
        return OK

    # Parallel axis: pieces of the weights as they lie in memory: blocks of outputs (forward) or some channels (input
    # gradient), of which each chunk reads whole rows.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t slice_ = i % self.slices, g = i // self.slices, nb, c, end
        if self.forward:
            c = 0
            while c < self.inner:
                end = min(c + self.block, self.inner)
                self.pack_channels(g, slice_, c, end, <Py_ssize_t*>self.scratch_of(thread))
                c = end
        else:
            c = slice_ * SLICE_CHANNELS
            end = min(c + SLICE_CHANNELS, self.inner)
            for nb in range(self.column_blocks):
                self.pack_channels(g, nb, c, end, <Py_ssize_t*>self.scratch_of(thread))

    cdef void pack_channels(self, Py_ssize_t g, Py_ssize_t nb, Py_ssize_t c, Py_ssize_t end,
                            Py_ssize_t* offset) noexcept nogil:
        """Channels c..end-1, all of one block, of a block of outputs; offset has room for an element a tap."""
        cdef Py_ssize_t start = c // self.block * self.block, channels = min(self.block, self.inner - start), v, t
        cdef Py_ssize_t run = end - c if self.forward else 1  # channels whose taps lie side by side in the weights
        cdef Py_ssize_t live = min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS), width = block_vectors(live) * VL
        cdef Py_ssize_t before = (g * self.columns + nb * TILE_COLS) * self.inner + start * width  # in each tap of a part
        cdef const Tap* tap
        cdef const real* source = <real*>self.operand[0] + (
            g * self.group_stride + c * self.inner_stride + nb * TILE_COLS * self.outer_stride)
        cdef real* target = <real*>self.operand[1] + (c - start) * width
        if self.outer_stride == 1:  # one tap, and the outputs lie side by side already
            if self.tap[0].place == 0:
                pad_pixels(source, self.inner_stride, target + before, width, end - c, live)
            return
        for t in range(self.taps):
            tap = &self.tap[t]
            offset[t] = (
                tap.before * self.groups * self.columns * self.inner + tap.of * before + tap.place * channels * width
                if tap.place >= 0 else -1)
        while c < end:
            for v in range(width // VL):
                self.pack_run(source + v * VL * self.outer_stride, run * self.taps, live - v * VL, target + v * VL,
                              offset, width)
            c += run
            source += run * self.inner_stride
            target += run * width

    cdef void pack_run(self, const real* source, Py_ssize_t elements, Py_ssize_t live, real* target,
                       const Py_ssize_t* offset, Py_ssize_t channel) noexcept nogil:
        """Elements side by side, tap after tap and channel after channel, of `live` outputs to vectors of outputs.

        Args:
            offset: of each tap from the target; -1: nothing reads it.
            channel: elements from one channel to the next.
        """
        cdef Py_ssize_t done = 0, count, j, t = 0
        cdef vf turned[LANES]
        while done < elements:
            count = min(<Py_ssize_t>VL, elements - done)
            load_turned(source + done, self.outer_stride, live, count, turned)
            for j in range(count):
                if offset[t] >= 0:
                    vstore(target + offset[t], turned[j])
                t += 1
                if t == self.taps:
                    t = 0
                    target += channel
            done += count
