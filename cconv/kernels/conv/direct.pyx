"""Direct convolution: forward pass and input gradient.

Both passes are gathers (geometry.py): every output pixel is a sum, over taps, of an input pixel's channels times a
matrix [channels x output channels]. The loops, outermost first:

    job      A block of output pixels and some blocks of output channels. Jobs run in parallel, any job on any thread.
             Each output is summed in one job, in a fixed order.
    channels Blocks of input channels, so that the weights of a block stay in L2. The input pixels of the job (its
    strip,
             see strip.pxd) are copied to the thread's buffer with their zero border. A pointwise convolution needs no
             copy, because its pixels are one long row.
    outputs  Blocks of tile_columns output channels.
    tiles    Up to tile_rows pixels of a row, or two short rows, times tile_columns output channels. A tile stays in
             registers and is summed over all taps and the block's channels (tile.h).

The input gradient of a strided convolution is several gathers, one per residue of the position (Part in direct.pxd).

Pack stores the weights in the order in which the tiles read them:
    [part][group][output block][channel block][tap][channel][column of the block]
"""

import numpy as np

from libc.stdint cimport uintptr_t

from cconv.kernels.conv.derivative cimport find_derivative
from cconv.kernels.conv.direct cimport PIECE, SLICE_CHANNELS, Part, Tap, gather_arguments, pack_arguments
from cconv.kernels.conv.strip cimport Strip, fill_axes
from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step

from cconv.kernels.conv.geometry import forward_part, input_gradient_parts, is_pointwise, one_row
from cconv.kernels.schedule import settings


def role_parts(geometry, str role):
    """The gathers (geometry.Part) that make up a pass; role is "forward" or "input_gradient"."""
    return [forward_part(geometry)] if role == "forward" else input_gradient_parts(geometry)


def channel_block(Py_ssize_t channels, Py_ssize_t taps):
    """Number of input channels per block: all channels if they are few, else blocks of about equal size."""
    most = settings.DIRECT_BLOCK_CHANNELS_ONE_TAP if taps == 1 else settings.DIRECT_BLOCK_CHANNELS
    if channels <= most * 3 // 2:
        return max(1, channels)
    blocks = ceil_div(channels, most)
    return ceil_div(channels, blocks * SLICE_CHANNELS) * SLICE_CHANNELS


def packed_size(Build build, geometry, str role):
    """Number of elements of the packed weights."""
    inner, outer = channels_of(geometry, role)
    taps = sum(tap_count(part) for part in role_parts(geometry, role))
    return geometry.groups * inner * taps * build.packed_columns(outer)


def channels_of(geometry, str role):
    """Channels per group: (number summed over, number produced)."""
    c, k = geometry.channels // geometry.groups, geometry.outputs // geometry.groups
    return (c, k) if role == "forward" else (k, c)


def tap_count(part):
    return len(part[0].offsets) * len(part[1].offsets) * len(part[2].offsets)


def row_share(Build build, Py_ssize_t pixels, Py_ssize_t most):
    """Number of pixels per job, at most `most`, if all pixels are one row.

    If there are only a few jobs, they have equal sizes and their number is rounded up to a power of two, so that all
    threads finish together.
    """
    jobs = ceil_div(pixels, most)
    if jobs < settings.CONV_LEAST_JOBS:
        jobs = max(2, 1 << (int(jobs) - 1).bit_length()) if pixels >= 2 * build.tile_rows else 1
        most = ceil_div(pixels, jobs)
    return min(pixels, most)


cdef class Gather(Step):
    """A direct convolution: forward pass or input gradient.

    Parallel over blocks of output pixels, groups and shares of the output channels. Neighbouring jobs read the same
    weights, which stay in the shared cache.

    Args:
        build: the Build whose compiled loops run.
        geometry: ConvGeometry.
        role: "forward" (x to y) or "input_gradient" (dy to dx).
        bias: whether a bias is added to each output channel.
        residual: whether a tensor of the target's shape is added.
        clamp: (low, high); the result is clamped to this interval, after all else. None: no clamp.

    Operands: source (N, spatial, channels), packed weights, bias or none, residual or none, target, workspace (unused).
    Feature maps are channels-last. The target may be the residual's memory. After `add_statistics` there is also
    partials (blocks, 2, channels) double. After `add_parameter_sums` there are partials and then x, mean, inverse,
    scale, bias and y of the normalisation. If the normalisation has an activation, either y or all of inverse, scale
    and bias must be given; without an activation, none of these four is read.
    """

    cdef gather_arguments sizes
    cdef Build build
    cdef object part_memory
    cdef Py_ssize_t part_count
    cdef bint pointwise                  # each output pixel reads only its own input pixel, so all pixels are one row
    cdef readonly Py_ssize_t workspace   # elements; always 0

    def __init__(self, Build build, geometry, str role="forward", bint bias=False, bint residual=False, clamp=None):
        cdef gather_arguments* s = &self.sizes
        geometry = one_row(geometry)
        self.build = build
        self.work = geometry.flops / (FLOPS_PER_LANE * build.lanes)
        self.operands = 6
        self.loop = build.loop("direct", "gather")
        self.arguments = s
        s.biased = bias
        s.residual = residual
        s.clamped = clamp is not None
        if s.clamped:
            s.low, s.high = clamp
        s.groups = geometry.groups
        s.inner, s.outer = channels_of(geometry, role)
        s.source_channels = s.inner * s.groups
        s.target_channels = s.outer * s.groups
        s.batch = geometry.batch
        s.columns = build.packed_columns(s.outer)
        s.column_blocks = ceil_div(s.outer, build.tile_columns)
        s.block = channel_block(s.inner, geometry.taps)
        s.blocks = ceil_div(s.inner, s.block) if s.inner else 1
        for axis, size in enumerate(geometry.output if role == "forward" else geometry.input):
            s.target[axis] = size

        parts = role_parts(geometry, role)
        # Find where the packed weights of each part begin. A part without outputs also has weights, but no jobs.
        weights, starts = 0, []
        for part in parts:
            starts.append(weights)
            weights += s.groups * s.inner * tap_count(part) * s.columns
        live = [(part, start) for part, start in zip(parts, starts) if all(walk.output > 0 for walk in part)]
        if not s.batch:
            live = []

        self.pointwise = len(parts) == 1 and is_pointwise(parts[0])
        s.in_place = self.pointwise and s.source_channels < settings.CONFLICTING_CHANNELS
        s.merged = (
            not self.pointwise and s.inner <= 8 and s.groups == 1
            and all(part[2].offsets == tuple(range(len(part[2].offsets))) for part, _ in live)
        )
        self.part_count = len(live)
        self.part_memory = np.zeros(max(1, len(live)) * sizeof(Part), np.uint8)
        s.parts = <Part*><uintptr_t>self.part_memory.ctypes.data
        strip_bytes = 0
        for i, (part, start) in enumerate(live):
            strip_bytes = max(strip_bytes, self.lay_out(&s.parts[i], part, start))
            self.chunks += s.parts[i].jobs
        s.strip_bytes = self.scratch_bytes = 0 if s.in_place else ceil_div(strip_bytes, 64) * 64

    def add_statistics(self):
        """Enable the statistics epilogue: for each block of output pixels, compute each channel's mean and sum of
        squared deviations while the values are in registers. norm.Statistics reads them as partial results.

        Returns:
            The number of pixels of each block. None if the step cannot compute statistics, because several gathers make
            up the target or `add_statistics` was called before.
        """
        cdef gather_arguments* s = &self.sizes
        cdef Part* p = s.parts
        if s.with_statistics or self.part_count != 1 or any(s.target[i] != p.strip.axis[i].output for i in range(3)):
            return None
        s.with_statistics = True
        self.operands = 7
        self.scratch_bytes = s.strip_bytes + 3 * s.columns * self.build.itemsize
        return [
            min(p.images, s.batch - n * p.images) * min(p.rows, p.strip.axis[1].output - h * p.rows)
            * min(p.columns, p.strip.axis[2].output - w * p.columns)
            for n in range(p.jobs_n) for _ in range(p.jobs_d) for h in range(p.jobs_h) for w in range(p.jobs_w)
        ]

    def add_residual(self):
        """Enable the addition of a residual: a tensor of the target's shape is added to the result.

        Returns:
            The index of the residual's operand. None if the step already has a residual, a clamp, statistics or
            parameter sums.
        """
        cdef gather_arguments* s = &self.sizes
        if s.residual or s.clamped or s.with_statistics or s.applies_derivative:
            return None
        s.residual = True
        return 3

    def add_parameter_sums(self, activation):
        """Enable the first part of a normalisation's backward pass as an epilogue of this input gradient.

        The step's result is the gradient dy of y = f(z), where z is the output of a normalisation. The epilogue turns
        dy into dz = dy * f'(z) and computes the sums that norm.ParameterGradient otherwise computes from dz. Each tile
        is processed while it is in the cache.

        Args:
            activation: f as (name, a, b), see norm.pyx; None: no activation, y = z.

        Returns:
            The number of blocks of pixels; each has partial sums of its own. None if the step cannot compute them,
            because of its sizes, the activation, a clamp or statistics.
        """
        cdef gather_arguments* s = &self.sizes
        cdef Build build = self.build
        if s.clamped or s.with_statistics or s.applies_derivative or s.outer % build.lanes or not self.part_count:
            return None
        if not find_derivative(activation, &s.derivative):
            return None
        s.applies_derivative = True
        self.operands = 13
        self.scratch_bytes = s.strip_bytes + (2 * s.columns + build.tile_rows * build.tile_columns) * build.itemsize
        s.in_pieces = self.pointwise and s.blocks == 1 and s.inner % PIECE == 0
        if s.in_pieces:
            s.parts.segments = s.inner // PIECE
            s.parts.offset = self.longs([i * PIECE * build.itemsize for i in range(s.inner // PIECE)])
        return sum(s.parts[i].pixel_blocks for i in range(self.part_count))

    cdef Py_ssize_t lay_out(self, Part* p, part, Py_ssize_t weights) except -1:
        """Fill in the sizes of one part, whose packed weights begin at `weights`. Returns the bytes of its strip."""
        cdef gather_arguments* s = &self.sizes
        cdef Strip* strip = &p.strip
        cdef Build build = self.build
        sizes = [walk.output for walk in part]
        fill_axes(strip, part)
        p.weights = weights
        p.taps = tap_count(part)

        # If rows are short, a job takes several whole rows. If images are small, it takes several whole images.
        pixels = max(4 * build.tile_rows, min(
            settings.DIRECT_JOB_PIXELS, settings.DIRECT_JOB_ELEMENTS // (s.block + build.line)))
        p.columns = min(sizes[2], pixels // build.tile_rows * build.tile_rows)
        if self.pointwise:
            p.columns = row_share(build, sizes[2], p.columns)
        p.rows = max(1, min(sizes[1], pixels // p.columns))
        whole = p.columns == sizes[2] and p.rows == sizes[1] and sizes[0] == 1
        p.images = max(1, min(s.batch, pixels // (p.rows * p.columns))) if whole else 1
        p.jobs_n = ceil_div(s.batch, p.images)
        p.jobs_d = sizes[0]
        p.jobs_h = ceil_div(sizes[1], p.rows)
        p.jobs_w = ceil_div(sizes[2], p.columns)
        p.pixel_blocks = p.jobs_n * p.jobs_d * p.jobs_h * p.jobs_w
        jobs = p.pixel_blocks * s.groups
        p.jobs_k = max(1, min(s.column_blocks, ceil_div(settings.CONV_LEAST_JOBS, jobs)))
        p.jobs = jobs * p.jobs_k
        p.by_outputs = self.pointwise and s.outer > sizes[2]
        p.weights_ahead = s.outer * p.taps > s.batch * sizes[0] * sizes[1] * sizes[2]

        strip.plane_count = len(part[0].offsets)
        strip.rows = (p.rows - 1) * strip.axis[1].strip_step + strip.axis[1].span
        strip.columns = (p.columns - 1) * strip.axis[2].strip_step + strip.axis[2].span
        strip.input_stride = s.source_channels
        strip.panel = s.block
        strip.panel_size = 0
        if s.in_place:
            strip.pixel_stride = s.source_channels
        elif s.merged:
            strip.pixel_stride = s.inner
        else:
            strip.pixel_stride = s.block + build.line
        strip.planes = self.longs(part[0].offsets)
        taps_w = part[2].offsets[:1] if s.merged else part[2].offsets
        offsets = [
            ((plane * strip.rows + h) * strip.columns + w) * strip.pixel_stride * build.itemsize
            for plane in range(strip.plane_count)
            for h in (part[1].offsets if strip.axis[1].load_step == 1 else [0])
            for w in (taps_w if strip.axis[2].load_step == 1 else [0])
        ]
        if p.taps == 0:
            offsets = []
        p.segments = len(offsets)
        p.offset = self.longs(offsets)
        # One vector of slack at the end: tiles read only their pixels, but the copy to the strip writes whole vectors.
        elements = p.images * strip.plane_count * strip.rows * strip.columns * strip.pixel_stride + build.lanes
        return elements * build.itemsize

    cdef int run(self) noexcept nogil:
        cdef gather_arguments* s = &self.sizes
        cdef Py_ssize_t itemsize = self.build.itemsize
        cdef Py_ssize_t pixels = s.batch * s.target[0] * s.target[1] * s.target[2]
        # With several blocks of input channels, each block adds to the target, which should then stay in the caches.
        s.streamed = s.blocks == 1 and self.streams_to(
            4, pixels * s.target_channels * itemsize, s.outer * itemsize, self.build.tile_columns * itemsize)
        self.run_chunks(self.loop, self.chunks)
        return OK


cdef class Pack(Step):
    """Packs weights (K, C/groups, taps) from ONNX's order into the order in which Gather reads them.

    Parallel over pieces of the source, so that each chunk reads contiguous memory: blocks of output channels for a
    forward pass, some channels of dy for an input gradient.

    Args:
        build: the Build whose compiled loops run.
        geometry, role: as those of Gather.

    Operands: weights, packed (packed_size elements).
    """

    cdef pack_arguments sizes

    def __init__(self, Build build, geometry, str role="forward"):
        cdef pack_arguments* s = &self.sizes
        self.operands = 2
        self.loop = build.loop("direct", "pack")
        self.arguments = s
        s.groups = geometry.groups
        s.inner, s.outer = channels_of(geometry, role)
        s.taps = geometry.taps
        c = geometry.channels // geometry.groups
        s.group_stride = s.inner * s.outer * s.taps
        s.forward = role == "forward"
        if s.forward:
            s.outer_stride, s.inner_stride = c * s.taps, s.taps
        else:
            s.outer_stride, s.inner_stride = s.taps, c * s.taps
        s.block = channel_block(s.inner, s.taps)
        s.columns = build.packed_columns(s.outer)
        s.column_blocks = ceil_div(s.outer, build.tile_columns)
        s.slices = s.column_blocks if s.forward else ceil_div(s.inner, SLICE_CHANNELS)
        self.chunks = s.groups * s.slices
        self.scratch_bytes = ceil_div(s.taps * sizeof(Py_ssize_t), 64) * 64
        taps = [(0, 0, -1)] * s.taps
        before = 0
        for d, h, w in role_parts(geometry, role):
            order = [
                (i * geometry.kernel[1] + j) * geometry.kernel[2] + k
                for i in d.kernel for j in h.kernel for k in w.kernel
            ]
            for place, t in enumerate(order):
                taps[t] = before, len(order), place
            before += len(order)
        s.tap = <const Tap*>self.longs([field for tap in taps for field in tap])
