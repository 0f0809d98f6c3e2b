"""Compiled loops of depthwise convolutions; depthwise.pyx explains jobs, runs and groups."""

from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.conv.depthwise cimport (
    depthwise_arguments, depthwise_axis, depthwise_pack_arguments, depthwise_part, depthwise_weight_arguments,
)
from cconv.kernels.conv.gradient_sums cimport bound_terms, gradient_sums, gradient_terms, slope, sums_found
from cconv.kernels.core.moments cimport moments_found
from cconv.kernels.core.simd cimport ceil_div, real, stream_end

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
    MOST_TAPS = 7    # longest kernel row that has a specialised loop in depthwise.h
    MOST_STEP = 2    # largest stride that has a specialised loop
    FEW_PIXELS = 8   # pixels per call of gradient_sums, which handles all channels


cdef inline bint inside(const depthwise_axis* a, Py_ssize_t o, Py_ssize_t tap) noexcept nogil:
    """Whether this tap of output o lies inside of the input, not in the padding."""
    cdef Py_ssize_t i = o * a.step - a.pad + a.offset[tap]
    return 0 <= i < a.input


cdef inline void taps_of(const depthwise_axis* a, Py_ssize_t o, Py_ssize_t* begin, Py_ssize_t* end) noexcept nogil:
    """Find the taps begin..end-1 of output o that lie inside of the input: one range, because offsets ascend."""
    begin[0] = 0
    while begin[0] < a.taps and o * a.step - a.pad + a.offset[begin[0]] < 0:
        begin[0] += 1
    end[0] = begin[0]
    while end[0] < a.taps and inside(a, o, end[0]):
        end[0] += 1


cdef void pack(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const depthwise_pack_arguments* s = <const depthwise_pack_arguments*>arguments
    cdef const real* w = <const real*>operand[0]
    cdef real* packed = <real*>operand[1]
    cdef Py_ssize_t c, t, tap, channels = s.channels, taps = s.taps
    for t in range(s.packed_taps):
        tap = s.order[t]
        for c in range(channels):
            packed[t * channels + c] = w[c * taps + tap]


cdef void gather(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Compute the rows of the target that belong to job i."""
    cdef const depthwise_arguments* s = <const depthwise_arguments*>arguments
    cdef const depthwise_part* p = s.parts
    cdef Py_ssize_t row, first, end
    cdef real* found = <real*>(scratch + s.pointer_bytes)
    cdef double* partial = <double*>operand[6] + 2 * i * s.channels
    while i >= ceil_div(p.rows, s.job_rows):
        i -= ceil_div(p.rows, s.job_rows)
        p += 1
    first, end = i * s.job_rows, min((i + 1) * s.job_rows, p.rows)
    if s.applies_derivative:
        memset(found, 0, 2 * s.channels * sizeof(real))
    for row in range(first, end):
        gather_row(s, operand, p, row, <const real**>scratch, found, row == first)
    stream_end()
    if s.with_statistics:
        moments_found(found, s.padded, s.channels, (end - first) * p.axis[2].output, partial, partial + s.channels)
    elif s.applies_derivative:
        sums_found(found, found + s.channels, s.channels, partial, s.channels)


cdef void gather_row(const depthwise_arguments* s, char** operand, const depthwise_part* p, Py_ssize_t row,
                     const real** pointers, real* found, bint begins) noexcept nogil:
    """Compute all pixels of one row of a part.

    Args:
        pointers: room for the addresses of inputs and weights.
        found: the job's moments or gradient sums; after the sums a buffer for a row of dy.
        begins: this is the first row that is added to the moments.
    """
    cdef const depthwise_axis* d = &p.axis[0]
    cdef const depthwise_axis* h = &p.axis[1]
    cdef const depthwise_axis* w = &p.axis[2]
    cdef Py_ssize_t y = row % h.output, z = row // h.output % d.output, n = row // (h.output * d.output)
    cdef Py_ssize_t x = 0, run, tap, last, interior
    cdef bint has_loops = p.neighbours and w.taps <= MOST_TAPS and w.step <= MOST_STEP
    cdef depthwise_fn loop
    cdef depthwise_job job
    job.x = pointers
    job.w = pointers + s.taps
    job.channels = s.channels
    job.step = w.step
    job.ahead = h.step * w.input * s.channels
    job.y_step = w.out_step * s.channels
    job.bias = <const real*>operand[2] if s.biased else NULL
    job.residual = operand[3] - operand[4]
    job.add_residual = s.residual
    job.clamped = s.clamped
    job.stream = s.stream
    job.low = <real>s.low
    job.high = <real>s.high
    job.moments = found if s.with_statistics else NULL
    job.moments_apart = s.padded
    job.begins = begins
    job.y = <real*>operand[4] + s.channels * (
        ((n * s.target[0] + z * d.out_step + d.out_start) * s.target[1] + y * h.out_step + h.out_start)
        * s.target[2] + w.out_start)
    cdef real* target = job.y
    if s.applies_derivative:
        job.y, job.y_step = found + 2 * s.channels, s.channels
        job.add_residual = job.stream = False
    # For outputs before this one, the last tap lies inside of the input.
    interior = w.output
    if w.taps:
        interior = min(w.output, ceil_div(w.input + w.pad - w.offset[w.taps - 1], w.step))
    while x < w.output:
        taps_of(w, x, &tap, &last)
        run = max(<Py_ssize_t>1, interior - x) if tap == 0 and last == w.taps else 1
        loop = depthwise_table[last - tap][w.step - 1] if has_loops else NULL
        job.rows = place(s, operand, &job, p, n, z, y, x, tap, last, loop == NULL)
        if loop == NULL:
            loop = depthwise_table[1][0]
        loop(&job, run)
        job.begins = False
        job.y += run * job.y_step
        x += run
    if s.applies_derivative:
        pass_back(s, operand, target, w.out_step * s.channels, w.output, found)


cdef void pass_back(const depthwise_arguments* s, char** operand, real* target, Py_ssize_t stride, Py_ssize_t pixels,
                    real* found) noexcept nogil:
    """Compute a row of dz from the row of dy in the buffer after the sums, and add it to the sums."""
    cdef Py_ssize_t x = 0
    cdef gradient_terms t
    t.slope, t.low, t.high = <slope>s.slope, <real>s.slope_low, <real>s.slope_high
    t.adds, t.stream = s.residual, s.stream
    t = bound_terms(t, operand, 0)
    while x < pixels:
        gradient_sums(&t, s.channels, found + (2 + x) * s.channels, s.channels, target + x * stride, stride,
                      min(<Py_ssize_t>FEW_PIXELS, pixels - x), found, found + s.channels)
        x += FEW_PIXELS


cdef Py_ssize_t place(const depthwise_arguments* s, char** operand, depthwise_job* job, const depthwise_part* p,
                      Py_ssize_t n, Py_ssize_t z, Py_ssize_t y, Py_ssize_t x, Py_ssize_t tap, Py_ssize_t last,
                      bint apart) noexcept nogil:
    """Set the job's addresses of the inputs and weights for taps tap..last-1 of a pixel, in all rows of its kernel.

    There is one address per kernel row, or one per tap if `apart`. Returns the number of addresses.
    """
    cdef const depthwise_axis* d = &p.axis[0]
    cdef const depthwise_axis* h = &p.axis[1]
    cdef const depthwise_axis* w = &p.axis[2]
    cdef Py_ssize_t i, j, k, i0, i1, j0, j1, count = 0, line
    taps_of(d, z, &i0, &i1)
    taps_of(h, y, &j0, &j1)
    for i in range(i0, i1):
        for j in range(j0, j1):
            line = (n * d.input + z * d.step - d.pad + d.offset[i]) * h.input + y * h.step - h.pad + h.offset[j]
            for k in range(tap, last if apart else min(tap + 1, last)):
                job.x[count] = <const real*>operand[0] + s.channels * (
                    line * w.input + x * w.step - w.pad + w.offset[k])
                job.w[count] = <const real*>operand[1] + p.weights + s.channels * (
                    (i * h.taps + j) * w.taps + k)
                count += 1
    return count


cdef void sum_rows(const void* arguments, char** operand, Py_ssize_t share, char* scratch) noexcept nogil:
    """Partial sums of dw, as [tap][channel], over one share of the rows of dy."""
    cdef const depthwise_weight_arguments* s = <const depthwise_weight_arguments*>arguments
    cdef real* partial = <real*>operand[2] + share * s.taps * s.channels
    cdef Py_ssize_t row
    memset(partial, 0, s.taps * s.channels * sizeof(real))
    for row in range(s.part.rows * share // s.shares, s.part.rows * (share + 1) // s.shares):
        add_row(s, operand, row, partial)


cdef void add_shares(const void* arguments, char** operand, Py_ssize_t tap, char* scratch) noexcept nogil:
    """Compute one tap of dw: add the partial sums of all shares in a fixed order."""
    cdef const depthwise_weight_arguments* s = <const depthwise_weight_arguments*>arguments
    cdef Py_ssize_t c, share, channels = s.channels, taps = s.taps, shares = s.shares
    cdef const real* partial = <const real*>operand[2] + tap * channels
    cdef real* dw = <real*>operand[3]
    cdef real total
    for c in range(channels):
        total = 0
        for share in range(shares):
            total += partial[share * taps * channels + c]
        dw[c * taps + tap] = total


cdef void add_row(const depthwise_weight_arguments* s, char** operand, Py_ssize_t row, real* partial) noexcept nogil:
    """Add the products of one row of dy with the inputs that its outputs read, for all taps, to the partial sums."""
    cdef const depthwise_axis* d = &s.part.axis[0]
    cdef const depthwise_axis* h = &s.part.axis[1]
    cdef const depthwise_axis* w = &s.part.axis[2]
    cdef Py_ssize_t y = row % h.output, z = row // h.output % d.output, n = row // (h.output * d.output)
    cdef const real* dy = <const real*>operand[1] + row * w.output * s.channels
    cdef const real* line
    cdef real* sums
    cdef Py_ssize_t i, j, k, i0, i1, j0, j1, first, last, lo = 0, hi = 0
    if s.part.neighbours and w.taps <= MOST_TAPS and depthwise_sums[w.taps] != NULL:
        # For outputs lo..hi-1, all taps of a kernel row lie inside of the input.
        lo = min(w.output, ceil_div(w.pad, w.step))
        hi = max(lo, min(w.output, ceil_div(w.input + w.pad - w.offset[w.taps - 1], w.step)))
    taps_of(d, z, &i0, &i1)
    taps_of(h, y, &j0, &j1)
    for i in range(i0, i1):
        for j in range(j0, j1):
            line = <const real*>operand[0] + s.channels * w.input * (
                (n * d.input + z * d.step - d.pad + d.offset[i]) * h.input + y * h.step - h.pad + h.offset[j])
            sums = partial + (i * h.taps + j) * w.taps * s.channels
            if lo < hi:
                depthwise_sums[w.taps](line + (lo * w.step - w.pad) * s.channels, dy + lo * s.channels, hi - lo,
                                       s.channels, w.step, sums)
            for k in range(w.taps):
                # The remaining outputs x whose tap lies inside: 0 <= x * step + offset - pad < input, without lo..hi-1.
                first = min(w.output, ceil_div(w.pad - w.offset[k], w.step))
                last = max(first, min(w.output, ceil_div(w.input + w.pad - w.offset[k], w.step)))
                if lo < hi:
                    add_tap(s, line, dy, first, lo, k, sums)
                    add_tap(s, line, dy, hi, last, k, sums)
                else:
                    add_tap(s, line, dy, first, last, k, sums)


cdef void add_tap(const depthwise_weight_arguments* s, const real* line, const real* dy, Py_ssize_t first,
                  Py_ssize_t last, Py_ssize_t tap, real* sums) noexcept nogil:
    """Add the products of one tap for outputs first..last-1 of a row."""
    cdef const depthwise_axis* w = &s.part.axis[2]
    if first < last:
        depthwise_sums[1](line + (first * w.step - w.pad + w.offset[tap]) * s.channels, dy + first * s.channels,
                          last - first, s.channels, w.step, sums + tap * s.channels)


LOOPS = {
    "pack": <uintptr_t>pack,
    "gather": <uintptr_t>gather,
    "sum_rows": <uintptr_t>sum_rows,
    "add_shares": <uintptr_t>add_shares,
}
