"""Depthwise convolution: each channel with one kernel of its own.

There is nothing to sum over but the taps, so the vectors lie along the channels and the loops are bound by memory. No strip
is copied: of each row of the kernel, the taps that fall outside of the input are left out.

    job     some rows of the target (of one part: the input gradient of a strided convolution is several gathers, one per
            residue of the position, see geometry.py)
    run     pixels of a row that meet the same taps: all of the interior, each pixel of the border
    group   a few pixels x a vector of channels in registers, summed over the kernel (depthwise.h)

Weights are packed as [part][tap][channel].
"""

import math

import numpy as np

from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from cconv.kernels.conv.gradient_sums cimport bound_terms, derivative_known, gradient_sums, gradient_terms, sums_found
from cconv.kernels.core.moments cimport moments_found
from cconv.kernels.core.simd cimport VL, ceil_div, real, stream_end
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step

from cconv.kernels.conv.geometry import forward_part, input_gradient_parts

cdef extern from "depthwise.h" nogil:
    ctypedef struct depthwise_job:
        Py_ssize_t rows
        const real** x
        const real** w
        Py_ssize_t channels
        Py_ssize_t step
        Py_ssize_t ahead
        real* y
        Py_ssize_t y_step
        const real* bias
        Py_ssize_t residual
        int add_residual, clamped, stream
        real low, high
        real* moments
        Py_ssize_t moments_apart
        int begins
    ctypedef void (*depthwise_fn)(const depthwise_job* job, Py_ssize_t pixels) noexcept nogil
    ctypedef void (*depthwise_sum_fn)(const real* x, const real* dy, Py_ssize_t pixels, Py_ssize_t channels,
                                      Py_ssize_t step, real* sums) noexcept nogil
    const depthwise_fn depthwise_table[8][2]
    const depthwise_sum_fn depthwise_sums[8]

cdef enum:
    MOST_TAPS = 7    # of a row of the kernel that has loops of its own
    FEW_PIXELS = 8   # of all whose channels the sums of a gradient are found at once

# Rows of the target that a job takes at the most, so that neighbouring rows meet the same inputs in one core's cache; and
# jobs that there are at the least, if there are rows enough.
cdef Py_ssize_t JOB_ROWS = 8, LEAST_JOBS = 16
# Shares of the weight gradient's rows: at most this many are added at the end.
MOST_SHARES = 64


cdef struct Walk:
    # geometry.AxisWalk
    Py_ssize_t input, output, step, pad, taps, out_step, out_start
    const Py_ssize_t* offset

cdef struct Part:
    Walk axis[3]
    Py_ssize_t weights     # where the part's packed weights begin
    Py_ssize_t rows        # of the target
    bint runs              # a row's taps are neighbours, and there are loops for them


cdef inline bint inside(const Walk* a, Py_ssize_t o, Py_ssize_t tap) noexcept nogil:
    """Whether output o meets tap within the input."""
    cdef Py_ssize_t i = o * a.step - a.pad + a.offset[tap]
    return 0 <= i < a.input


cdef inline void taps_of(const Walk* a, Py_ssize_t o, Py_ssize_t* begin, Py_ssize_t* end) noexcept nogil:
    """Taps begin..end-1 of output o lie inside of the input: one run, since offsets ascend."""
    begin[0] = 0
    while begin[0] < a.taps and o * a.step - a.pad + a.offset[begin[0]] < 0:
        begin[0] += 1
    end[0] = begin[0]
    while end[0] < a.taps and inside(a, o, end[0]):
        end[0] += 1


def role_parts(geometry, str role):
    """The gathers of "forward" or "input_gradient"."""
    return [forward_part(geometry)] if role == "forward" else input_gradient_parts(geometry)


def packed_size(geometry, str role):
    """Elements of the packed weights."""
    return geometry.channels * geometry.taps


cdef class Depthwise(Step):
    """Base: checks the geometry."""

    cdef Py_ssize_t batch, channels, taps
    cdef list keep

    def __init__(self, geometry, *args):
        if not geometry.groups == geometry.channels == geometry.outputs:
            raise ValueError(f"not a depthwise convolution: {geometry}")
        self.batch = geometry.batch
        self.channels = geometry.channels
        self.taps = geometry.taps
        self.keep = []

    cdef const Py_ssize_t* longs(self, values) except NULL:
        """A C array that lives as long as this step."""
        array = np.array(tuple(values) or (0,), dtype=np.intp)
        self.keep.append(array)
        return <const Py_ssize_t*><uintptr_t>array.ctypes.data

    cdef int fill(self, Walk* axis, part) except -1:
        for a, walk in enumerate(part):
            axis[a].input, axis[a].output = walk.input, walk.output
            axis[a].step, axis[a].pad = walk.step, walk.pad
            axis[a].out_step, axis[a].out_start = walk.out_step, walk.out_start
            axis[a].taps = len(walk.offsets)
            axis[a].offset = self.longs(walk.offsets)
        return 0


cdef class Pack(Depthwise):
    """Weights (C, 1, taps) to [part][tap][channel]. Operands: weights, packed."""

    cdef const Py_ssize_t* order      # kernel index of each packed tap
    cdef Py_ssize_t packed_taps       # a tap may belong to a residue that a short axis does not have

    def __init__(self, geometry, str role="forward"):
        super().__init__(geometry)
        self.operands = 2
        _, height, width = geometry.kernel
        order = [
            (i * height + j) * width + k
            for d, h, w in role_parts(geometry, role) for i in d.kernel for j in h.kernel for k in w.kernel
        ]
        self.packed_taps = len(order)
        self.order = self.longs(order)

    cdef int run(self) noexcept nogil:
        cdef const real* w = <real*>self.operand[0]
        cdef real* packed = <real*>self.operand[1]
        cdef Py_ssize_t c, t
        for t in range(self.packed_taps):
            for c in range(self.channels):
                packed[t * self.channels + c] = w[c * self.taps + self.order[t]]
        return OK


cdef class Gather(Depthwise):
    """Forward (x to y) or input gradient (dy to dx).

    Args:
        bias, residual, clamp: as conv_direct.Gather's.

    Operands: source (N, spatial, C) channels-last, packed weights, bias (C,) or none, residual or none, target,
    workspace (none is needed); feature maps channels-last. The target may be the residual's memory. Behind them what
    conv_direct.Gather has there after `measure` or `measure_gradient`.
    """

    cdef readonly Py_ssize_t workspace                # 0
    cdef bint biased, residual, clamped
    cdef real low, high
    cdef Part* parts
    cdef Py_ssize_t part_count, job_rows, jobs
    cdef Py_ssize_t target[3]
    cdef bint measured, passes_back
    cdef gradient_terms terms
    cdef Py_ssize_t pointer_bytes, padded    # of the scratch; channels in whole vectors

    def __cinit__(self, geometry, str role="forward", *args, **kwargs):
        self.part_count = len(role_parts(geometry, role))
        self.parts = <Part*>calloc(max(1, self.part_count), sizeof(Part))
        if self.parts == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.parts)

    def __init__(self, geometry, str role="forward", bint bias=False, bint residual=False, clamp=None):
        cdef Part* p
        super().__init__(geometry)
        self.work = geometry.flops / (FLOPS_PER_LANE * VL)
        self.operands = 6
        self.biased = bias
        self.residual = residual
        self.clamped = clamp is not None
        if self.clamped:
            self.low, self.high = clamp
        for axis, size in enumerate(geometry.output if role == "forward" else geometry.input):
            self.target[axis] = size
        weights = rows = 0
        for i, part in enumerate(role_parts(geometry, role)):
            p = &self.parts[i]
            self.fill(p.axis, part)
            p.weights = weights * self.channels
            p.rows = self.batch * part[0].output * part[1].output if part[2].output else 0
            width = part[2]
            neighbours = width.offsets == tuple(range(len(width.offsets)))
            p.runs = neighbours and len(width.offsets) <= MOST_TAPS and width.step <= 2
            weights += math.prod(len(walk.offsets) for walk in part)
            rows = max(rows, p.rows)
        self.job_rows = max(1, min(JOB_ROWS, rows // LEAST_JOBS))
        self.jobs = 0
        for i in range(self.part_count):
            self.jobs += ceil_div(self.parts[i].rows, self.job_rows)
        # Pointers to the inputs and to the weights of each row of the kernel, or of each tap.
        self.pointer_bytes = self.scratch_bytes = ceil_div(2 * self.taps * sizeof(void*), 64) * 64
        self.padded = ceil_div(self.channels, VL) * VL

    def measure(self):
        """See conv_direct.Gather.measure."""
        cdef Part* p = self.parts
        if self.measured or self.part_count != 1 or any(self.target[i] != p.axis[i].output for i in range(3)):
            return None
        self.measured = True
        self.operands = 7
        self.scratch_bytes = self.pointer_bytes + 3 * self.padded * sizeof(real)
        return [min(self.job_rows, p.rows - i * self.job_rows) * p.axis[2].output for i in range(self.jobs)]

    def add_residual(self):
        """See conv_direct.Gather.add_residual."""
        if self.residual or self.clamped or self.measured or self.passes_back:
            return None
        self.residual = True
        return 3

    def measure_gradient(self, activation):
        """See conv_direct.Gather.measure_gradient; row by row."""
        if self.clamped or self.measured or self.passes_back or self.channels % VL or not self.jobs:
            return None
        if not derivative_known(activation, &self.terms):
            return None
        self.passes_back = True
        self.operands = 13
        most = max(self.parts[i].axis[2].output for i in range(self.part_count))
        self.scratch_bytes = self.pointer_bytes + (2 + most) * self.channels * sizeof(real)
        return self.jobs

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.jobs)
        return OK

    # Parallel axis: blocks of rows of the target, of each part; every pixel is written by one chunk.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Part* p = self.parts
        cdef Py_ssize_t row, first, end
        cdef char* scratch = self.scratch_of(thread)
        cdef real* found = <real*>(scratch + self.pointer_bytes)
        cdef double* partial = <double*>self.operand[6] + 2 * i * self.channels
        while i >= ceil_div(p.rows, self.job_rows):
            i -= ceil_div(p.rows, self.job_rows)
            p += 1
        first, end = i * self.job_rows, min((i + 1) * self.job_rows, p.rows)
        if self.passes_back:
            memset(found, 0, 2 * self.channels * sizeof(real))
        for row in range(first, end):
            self.row(p, row, <const real**>scratch, found, row == first)
        stream_end()
        if self.measured:
            moments_found(found, self.padded, self.channels, (end - first) * p.axis[2].output, partial,
                          partial + self.channels)
        elif self.passes_back:
            sums_found(found, found + self.channels, self.channels, partial, self.channels)

    cdef void row(self, const Part* p, Py_ssize_t row, const real** pointers, real* found, bint begins) noexcept nogil:
        """All pixels of one row of a part. What is found of them, `found` has, with a buffer for a row behind the sums."""
        cdef const Walk* d = &p.axis[0]
        cdef const Walk* h = &p.axis[1]
        cdef const Walk* w = &p.axis[2]
        cdef Py_ssize_t y = row % h.output, z = row // h.output % d.output, n = row // (h.output * d.output)
        cdef Py_ssize_t x = 0, run, tap, last, interior
        cdef depthwise_fn loop
        cdef depthwise_job job
        job.x = pointers
        job.w = pointers + self.taps
        job.channels = self.channels
        job.step = w.step
        job.ahead = h.step * w.input * self.channels
        job.y_step = w.out_step * self.channels
        job.bias = <real*>self.operand[2] if self.biased else NULL
        job.residual = self.operand[3] - self.operand[4]
        job.add_residual = self.residual
        job.clamped = self.clamped
        job.stream = self.streamed()
        job.low = self.low
        job.high = self.high
        job.moments = found if self.measured else NULL
        job.moments_apart = self.padded
        job.begins = begins
        job.y = <real*>self.operand[4] + self.channels * (
            ((n * self.target[0] + z * d.out_step + d.out_start) * self.target[1] + y * h.out_step + h.out_start)
            * self.target[2] + w.out_start)
        cdef real* target = job.y
        if self.passes_back:
            job.y, job.y_step = found + 2 * self.channels, self.channels
            job.add_residual = job.stream = False
        # Outputs below this one meet the last tap inside.
        interior = w.output
        if w.taps:
            interior = min(w.output, ceil_div(w.input + w.pad - w.offset[w.taps - 1], w.step))
        while x < w.output:
            taps_of(w, x, &tap, &last)
            run = max(<Py_ssize_t>1, interior - x) if tap == 0 and last == w.taps else 1
            loop = depthwise_table[last - tap][w.step - 1] if p.runs else NULL
            job.rows = self.place(&job, p, n, z, y, x, tap, last, loop == NULL)
            if loop == NULL:
                loop = depthwise_table[1][0]
            loop(&job, run)
            job.begins = False
            job.y += run * job.y_step
            x += run
        if self.passes_back:
            self.pass_back(target, w.out_step * self.channels, w.output, found)

    cdef void pass_back(self, real* target, Py_ssize_t stride, Py_ssize_t pixels, real* found) noexcept nogil:
        """A row of dy, in the buffer behind the sums, to dz."""
        cdef gradient_terms t = bound_terms(self.terms, self.operand, 0)
        cdef Py_ssize_t x = 0
        t.adds, t.stream = self.residual, self.streamed()
        while x < pixels:
            gradient_sums(&t, self.channels, found + (2 + x) * self.channels, self.channels, target + x * stride, stride,
                          min(FEW_PIXELS, pixels - x), found, found + self.channels)
            x += FEW_PIXELS

    cdef inline bint streamed(self) noexcept nogil:
        """Whether the target goes past the caches."""
        return self.streams_to(
            4, self.batch * self.target[0] * self.target[1] * self.target[2] * self.channels * sizeof(real),
            self.channels * sizeof(real), VL * sizeof(real))

    cdef Py_ssize_t place(self, depthwise_job* job, const Part* p, Py_ssize_t n, Py_ssize_t z, Py_ssize_t y,
                          Py_ssize_t x, Py_ssize_t tap, Py_ssize_t last, bint apart) noexcept nogil:
        """Point the job to the inputs and weights under a pixel's rows of taps tap..last-1, or each tap of them `apart`;
        returns their number."""
        cdef const Walk* d = &p.axis[0]
        cdef const Walk* h = &p.axis[1]
        cdef const Walk* w = &p.axis[2]
        cdef Py_ssize_t i, j, k, i0, i1, j0, j1, count = 0, line
        taps_of(d, z, &i0, &i1)
        taps_of(h, y, &j0, &j1)
        for i in range(i0, i1):
            for j in range(j0, j1):
                line = (n * d.input + z * d.step - d.pad + d.offset[i]) * h.input + y * h.step - h.pad + h.offset[j]
                for k in range(tap, last if apart else min(tap + 1, last)):
                    job.x[count] = <real*>self.operand[0] + self.channels * (
                        line * w.input + x * w.step - w.pad + w.offset[k])
                    job.w[count] = <real*>self.operand[1] + p.weights + self.channels * (
                        (i * h.taps + j) * w.taps + k)
                    count += 1
        return count


cdef class WeightGradient(Depthwise):
    """dw[c, t] = sum over images and output pixels o of x[o * stride + t * dilation - pad, c] * dy[o, c].

    Rows of dy are shared out by the shape; each share sums to a place of its own, and these are added in order.

    Operands: x and dy channels-last; partial sums (partial_size elements, written); dw (C, 1, taps).
    """

    cdef Walk axis[3]
    cdef bint runs
    cdef Py_ssize_t rows, shares
    cdef readonly Py_ssize_t partial_size

    def __init__(self, geometry):
        super().__init__(geometry)
        self.work = geometry.flops / (FLOPS_PER_LANE * VL)
        self.operands = 4
        part = forward_part(geometry)
        self.fill(self.axis, part)
        width = part[2].offsets
        self.runs = width == tuple(range(len(width))) and len(width) <= MOST_TAPS and depthwise_sums[len(width)] != NULL
        self.rows = self.batch * self.axis[0].output * self.axis[1].output
        self.shares = max(1, min(self.rows, MOST_SHARES))
        self.partial_size = self.shares * self.taps * self.channels

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.shares)
        self.parallel(1, self.taps)
        return OK

    # Parallel axis: shares of the rows, then taps.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef real* partial = <real*>self.operand[2]
        cdef Py_ssize_t row
        if phase == 1:
            self.add_shares(i)
            return
        partial += i * self.taps * self.channels
        memset(partial, 0, self.taps * self.channels * sizeof(real))
        for row in range(self.rows * i // self.shares, self.rows * (i + 1) // self.shares):
            self.add_row(row, partial)

    cdef void add_shares(self, Py_ssize_t tap) noexcept nogil:
        cdef const real* partial = <real*>self.operand[2] + tap * self.channels
        cdef real* dw = <real*>self.operand[3]
        cdef Py_ssize_t c, share
        cdef real total
        for c in range(self.channels):
            total = 0
            for share in range(self.shares):
                total += partial[share * self.taps * self.channels + c]
            dw[c * self.taps + tap] = total

    cdef void add_row(self, Py_ssize_t row, real* partial) noexcept nogil:
        """One row of dy times the inputs that each tap meets it with."""
        cdef const Walk* d = &self.axis[0]
        cdef const Walk* h = &self.axis[1]
        cdef const Walk* w = &self.axis[2]
        cdef Py_ssize_t y = row % h.output, z = row // h.output % d.output, n = row // (h.output * d.output)
        cdef const real* dy = <real*>self.operand[1] + row * w.output * self.channels
        cdef const real* line
        cdef real* sums
        cdef Py_ssize_t i, j, k, i0, i1, j0, j1, first, last, lo = 0, hi = 0
        if self.runs:  # outputs lo..hi-1 meet all taps of a row
            lo = min(w.output, ceil_div(w.pad, w.step))
            hi = max(lo, min(w.output, ceil_div(w.input + w.pad - w.offset[w.taps - 1], w.step)))
        taps_of(d, z, &i0, &i1)
        taps_of(h, y, &j0, &j1)
        for i in range(i0, i1):
            for j in range(j0, j1):
                line = <real*>self.operand[0] + self.channels * w.input * (
                    (n * d.input + z * d.step - d.pad + d.offset[i]) * h.input + y * h.step - h.pad + h.offset[j])
                sums = partial + (i * h.taps + j) * w.taps * self.channels
                if lo < hi:
                    depthwise_sums[w.taps](line + (lo * w.step - w.pad) * self.channels, dy + lo * self.channels,
                                           hi - lo, self.channels, w.step, sums)
                for k in range(w.taps):
                    # Outputs x with 0 <= x * step + offset - pad < input, but for those.
                    first = min(w.output, ceil_div(w.pad - w.offset[k], w.step))
                    last = max(first, min(w.output, ceil_div(w.input + w.pad - w.offset[k], w.step)))
                    if lo < hi:
                        self.add_tap(line, dy, first, lo, k, sums)
                        self.add_tap(line, dy, hi, last, k, sums)
                    else:
                        self.add_tap(line, dy, first, last, k, sums)

    cdef void add_tap(self, const real* line, const real* dy, Py_ssize_t first, Py_ssize_t last, Py_ssize_t tap,
                      real* sums) noexcept nogil:
        """One tap's products with outputs first..last-1 of a row."""
        cdef const Walk* w = &self.axis[2]
        if first < last:
            depthwise_sums[1](line + (first * w.step - w.pad + w.offset[tap]) * self.channels, dy + first * self.channels,
                              last - first, self.channels, w.step, sums + tap * self.channels)
