"""Depthwise convolution: each channel has one kernel of its own.

Sums run only over the taps, so vector lanes are channels and the loops are memory-bound. The input is read in place.
Taps of a kernel row that fall outside of the input are skipped.

    job     The unit of parallel work: some rows of the target. The input gradient of a strided convolution is several
            gathers (parts), one per residue of the position modulo the stride, see geometry.py. A job belongs to one
            part.
    run     Neighbouring pixels of a row that read the same taps: the whole interior, or a single pixel of the border.
    group   A few pixels x a vector of channels, held in registers and summed over the kernel (depthwise.h).

Weights are packed as [part][tap][channel].
"""

import math

import numpy as np

from libc.stdint cimport uintptr_t

from cconv.kernels.conv.depthwise cimport (
    depthwise_arguments, depthwise_pack_arguments, depthwise_part, depthwise_weight_arguments,
)
from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.loop cimport chunk_loop
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step

from cconv.kernels.conv.activation import derivative_interval
from cconv.kernels.conv.geometry import forward_part, input_gradient_parts
from cconv.kernels.schedule import settings


def role_parts(geometry, str role):
    """The gathers (geometry.Part) that make up a pass; role is "forward" or "input_gradient"."""
    return [forward_part(geometry)] if role == "forward" else input_gradient_parts(geometry)


def packed_size(Build build, geometry, str role):
    """Number of elements of the packed weights."""
    return geometry.channels * geometry.taps


cdef class Depthwise(Step):
    """Base class: checks that the geometry is depthwise.

    Raises:
        ValueError: the convolution is not depthwise.
    """

    def __init__(self, geometry):
        if not geometry.groups == geometry.channels == geometry.outputs:
            raise ValueError(f"not a depthwise convolution: {geometry}")

    cdef int fill(self, depthwise_part* p, part, Py_ssize_t batch) except -1:
        """Fill in the C struct of a part from its three AxisWalks."""
        for a, walk in enumerate(part):
            p.axis[a].input, p.axis[a].output = walk.input, walk.output
            p.axis[a].step, p.axis[a].pad = walk.step, walk.pad
            p.axis[a].out_step, p.axis[a].out_start = walk.out_step, walk.out_start
            p.axis[a].taps = len(walk.offsets)
            p.axis[a].offset = self.longs(walk.offsets)
        depth, height, width = part
        p.rows = batch * depth.output * height.output if width.output else 0
        p.neighbours = width.offsets == tuple(range(len(width.offsets)))
        return 0


cdef class Pack(Depthwise):
    """Packs weights (C, 1, taps) as [part][tap][channel].

    Args:
        build: the Build whose compiled loops run.
        geometry, role: of the convolution.

    Operands: weights, packed.

    Raises:
        ValueError: the convolution is not depthwise.
    """

    cdef depthwise_pack_arguments sizes

    def __init__(self, Build build, geometry, str role="forward"):
        super().__init__(geometry)
        self.operands = 2
        self.loop = build.loop("depthwise", "pack")
        self.arguments = &self.sizes
        self.chunks = 1
        _, height, width = geometry.kernel
        order = [
            (i * height + j) * width + k
            for d, h, w in role_parts(geometry, role) for i in d.kernel for j in h.kernel for k in w.kernel
        ]
        self.sizes.channels, self.sizes.taps = geometry.channels, geometry.taps
        self.sizes.packed_taps, self.sizes.order = len(order), self.longs(order)


cdef class Gather(Depthwise):
    """Depthwise forward pass (x to y) or input gradient (dy to dx).

    Parallel over blocks of rows of the target, in each part. Every pixel is written by exactly one chunk.

    Args:
        build: the Build whose compiled loops run.
        geometry, role, bias, residual, clamp: as those of direct.Gather.

    Attributes:
        workspace: 0, no workspace is needed.

    Operands: source (N, spatial, C), packed weights, bias (C,) or none, residual or none, target, workspace (unused).
    Feature maps are channels-last. The target may be the residual's memory. After `add_statistics` or
    `add_parameter_sums` there are further operands, as in direct.Gather.

    Raises:
        ValueError: the convolution is not depthwise.
    """

    cdef readonly Py_ssize_t workspace
    cdef depthwise_arguments sizes
    cdef object parts              # array that owns the memory of the depthwise_part structs
    cdef Py_ssize_t part_count
    cdef Py_ssize_t itemsize, lanes
    cdef Py_ssize_t target_bytes

    def __init__(self, Build build, geometry, str role="forward", bint bias=False, bint residual=False, clamp=None):
        cdef depthwise_arguments* s = &self.sizes
        cdef depthwise_part* p
        super().__init__(geometry)
        self.operands = 6
        self.loop = build.loop("depthwise", "gather")
        self.arguments = s
        self.itemsize, self.lanes = build.itemsize, build.lanes
        self.work = geometry.flops / (FLOPS_PER_LANE * build.lanes)
        s.channels, s.taps = geometry.channels, geometry.taps
        s.padded = ceil_div(s.channels, build.lanes) * build.lanes
        s.biased, s.residual, s.clamped = bias, residual, clamp is not None
        if s.clamped:
            s.low, s.high = clamp
        sizes = geometry.output if role == "forward" else geometry.input
        for axis, size in enumerate(sizes):
            s.target[axis] = size
        self.target_bytes = geometry.batch * math.prod(sizes) * s.channels * build.itemsize

        parts = role_parts(geometry, role)
        self.part_count = len(parts)
        self.parts = np.zeros(max(1, len(parts)) * sizeof(depthwise_part), np.uint8)
        s.parts = p = <depthwise_part*><uintptr_t>self.parts.ctypes.data
        weights = rows = 0
        for i, part in enumerate(parts):
            self.fill(&p[i], part, geometry.batch)
            p[i].weights = weights * s.channels
            weights += math.prod(len(walk.offsets) for walk in part)
            rows = max(rows, p[i].rows)
        s.job_rows = max(1, min(settings.DEPTHWISE_JOB_ROWS, rows // settings.DEPTHWISE_LEAST_JOBS))
        self.chunks = sum(ceil_div(p[i].rows, s.job_rows) for i in range(self.part_count))
        # Room for two pointers, to inputs and to weights, per kernel row or per tap.
        s.pointer_bytes = self.scratch_bytes = ceil_div(2 * s.taps * sizeof(void*), 64) * 64

    def add_statistics(self):
        """Enable the per-channel statistics of the target; see direct.Gather.add_statistics."""
        cdef depthwise_arguments* s = &self.sizes
        cdef const depthwise_part* p = s.parts
        if s.with_statistics or self.part_count != 1 or any(s.target[i] != p.axis[i].output for i in range(3)):
            return None
        s.with_statistics = True
        self.operands = 7
        self.scratch_bytes = s.pointer_bytes + 3 * s.padded * self.itemsize
        return [min(s.job_rows, p.rows - i * s.job_rows) * p.axis[2].output for i in range(self.chunks)]

    def add_residual(self):
        """Enable the addition of a residual; see direct.Gather.add_residual."""
        if self.sizes.residual or self.sizes.clamped or self.sizes.with_statistics or self.sizes.applies_derivative:
            return None
        self.sizes.residual = True
        return 3

    def add_parameter_sums(self, activation):
        """Enable the sums of a normalisation's backward pass, row by row; see direct.Gather.add_parameter_sums."""
        cdef depthwise_arguments* s = &self.sizes
        if s.clamped or s.with_statistics or s.applies_derivative or s.channels % self.lanes or not self.chunks:
            return None
        interval = derivative_interval(activation)
        if interval is None:
            return None
        s.applies_derivative = True
        s.slope, s.slope_low, s.slope_high = interval
        self.operands = 13
        most = max(s.parts[i].axis[2].output for i in range(self.part_count))
        self.scratch_bytes = s.pointer_bytes + (2 + most) * s.channels * self.itemsize
        return self.chunks

    cdef int run(self) noexcept nogil:
        cdef depthwise_arguments* s = &self.sizes
        s.stream = self.streams_to(4, self.target_bytes, s.channels * self.itemsize, self.lanes * self.itemsize)
        self.run_chunks(self.loop, self.chunks)
        return OK


cdef class WeightGradient(Depthwise):
    """dw[c, t] = sum over images and output pixels o of x[o * stride + t * dilation - pad, c] * dy[o, c].

    The rows of dy are split into shares; the number of shares depends only on the shape. Each share has partial sums of
    its own, which are then added in a fixed order. Parallel over shares, then over taps.

    Args:
        build: the Build whose compiled loops run.
        geometry: of the convolution.

    Attributes:
        partial_size: elements of the third operand, the partial sums.

    Operands: x and dy channels-last; partial sums (partial_size elements, written); dw (C, 1, taps).

    Raises:
        ValueError: the convolution is not depthwise.
    """

    cdef depthwise_weight_arguments sizes
    cdef chunk_loop add_shares
    cdef readonly Py_ssize_t partial_size

    def __init__(self, Build build, geometry):
        cdef depthwise_weight_arguments* s = &self.sizes
        super().__init__(geometry)
        self.operands = 4
        self.loop, self.add_shares = build.loop("depthwise", "sum_rows"), build.loop("depthwise", "add_shares")
        self.arguments = s
        self.work = geometry.flops / (FLOPS_PER_LANE * build.lanes)
        s.channels, s.taps = geometry.channels, geometry.taps
        self.fill(&s.part, forward_part(geometry), geometry.batch)
        s.shares = self.chunks = max(1, min(s.part.rows, settings.DEPTHWISE_MOST_SHARES))
        self.partial_size = s.shares * s.taps * s.channels

    cdef int run(self) noexcept nogil:
        self.run_chunks(self.loop, self.chunks)
        self.run_chunks(self.add_shares, self.sizes.taps)
        return OK
