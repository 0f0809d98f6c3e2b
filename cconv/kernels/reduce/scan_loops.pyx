"""Loops of the kernels along one axis; see scan.pyx."""

from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t, uintptr_t

from cconv.kernels.core.element cimport INT32, REAL
from cconv.kernels.core.simd cimport number, real
from cconv.kernels.reduce.scan cimport (
    BLOCK, WIDTH, cumulative_arguments, extreme_arguments, top_arguments, window_arguments,
)


cdef void accumulate(const cumulative_arguments* s, const number* x, number* y, Py_ssize_t job) noexcept nogil:
    """Running results of a block of lines."""
    cdef Py_ssize_t inner = s.inner, first = job % s.blocks * BLOCK, n = min(<Py_ssize_t>BLOCK, inner - first), i, r
    cdef Py_ssize_t start = job // s.blocks * s.size * inner + first, step = inner
    cdef bint exclusive = s.exclusive, product = s.product
    cdef const number* before   # the results one place earlier
    cdef const number* term
    if s.reverse:
        start += (s.size - 1) * inner
        step = -step
    for i in range(s.size):
        term = x + start + (i - exclusive) * step
        if i == 0:
            for r in range(n):
                y[start + r] = <number>product if exclusive else term[r]
            continue
        before = y + start + (i - 1) * step
        if product:
            for r in range(n):
                y[start + i * step + r] = before[r] * term[r]
        else:
            for r in range(n):
                y[start + i * step + r] = before[r] + term[r]


cdef void cumulative(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const cumulative_arguments* s = <const cumulative_arguments*>arguments
    cdef Py_ssize_t job
    for job in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.jobs)):
        if s.kind == REAL:
            accumulate(s, <const real*>operand[0], <real*>operand[1], job)
        elif s.kind == INT32:
            accumulate(s, <const int32_t*>operand[0], <int32_t*>operand[1], job)
        else:
            accumulate(s, <const int64_t*>operand[0], <int64_t*>operand[1], job)


cdef void window_sum(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    cdef const window_arguments* s = <const window_arguments*>arguments
    cdef Py_ssize_t inner = s.inner, elements = s.size * inner, o, offset, first, end, i
    cdef const real* x
    cdef real* y
    for o in range(chunk * s.per_chunk, min((chunk + 1) * s.per_chunk, s.outer)):
        x = <const real*>operand[0] + o * elements
        y = <real*>operand[1] + o * elements
        for i in range(elements):
            y[i] = x[i]
        for offset in range(-s.before, s.after + 1):
            if offset == 0:
                continue
            first = max(<Py_ssize_t>0, -offset) * inner
            end = min(s.size, s.size - offset) * inner
            for i in range(first, end):
                y[i] += x[i + offset * inner]


cdef inline bint comes_before(const top_arguments* s, const number* x, int64_t i, int64_t j) noexcept nogil:
    """Whether element i of the line at x comes before element j in the result."""
    cdef number a = x[i * s.inner], b = x[j * s.inner]
    cdef bint nan_a = isnan(<double>a), nan_b = isnan(<double>b)
    if a == b or (nan_a and nan_b):
        return i < j
    if nan_a or nan_b:
        return nan_a == s.largest
    return (a > b) == s.largest


cdef void sift_down(const top_arguments* s, const number* x, int64_t* heap, Py_ssize_t count,
                    Py_ssize_t at) noexcept nogil:
    """Restore the order of a heap after a change at `at`. The root comes last in the result."""
    cdef int64_t moved = heap[at]
    cdef Py_ssize_t child = 2 * at + 1
    while child < count:
        if child + 1 < count and comes_before(s, x, heap[child], heap[child + 1]):
            child += 1
        if not comes_before(s, x, moved, heap[child]):
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = moved


cdef void select_line(const top_arguments* s, const number* x, number* values, int64_t* places, Py_ssize_t line,
                      int64_t* heap) noexcept nogil:
    """The first k of a line: keep the best so far in a heap, then take them off it from the last to the first."""
    cdef Py_ssize_t size = s.size, inner = s.inner, k = s.k, o = line // inner, r = line % inner, i, count
    x += o * size * inner + r
    values += o * k * inner + r
    places += o * k * inner + r
    for i in range(k):
        heap[i] = i
    for i in range(k // 2):
        sift_down(s, x, heap, k, k // 2 - 1 - i)
    for i in range(k, size):
        if comes_before(s, x, i, heap[0]):
            heap[0] = i
            sift_down(s, x, heap, k, 0)
    count = k
    while count > 0:   # the root comes last of those that are left
        count -= 1
        places[count * inner] = heap[0]
        values[count * inner] = x[heap[0] * inner]
        heap[0] = heap[count]
        sift_down(s, x, heap, count, 0)


cdef void top_k(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const top_arguments* s = <const top_arguments*>arguments
    cdef int64_t* places = <int64_t*>operand[2]
    cdef int64_t* heap = <int64_t*>scratch
    cdef Py_ssize_t line
    for line in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.lines)):
        if s.kind == REAL:
            select_line(s, <const real*>operand[0], <real*>operand[1], places, line, heap)
        elif s.kind == INT32:
            select_line(s, <const int32_t*>operand[0], <int32_t*>operand[1], places, line, heap)
        else:
            select_line(s, <const int64_t*>operand[0], <int64_t*>operand[1], places, line, heap)


cdef void arg_extreme(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const extreme_arguments* s = <const extreme_arguments*>arguments
    cdef Py_ssize_t inner = s.inner, job, o, first, width, k, c
    cdef real* best = <real*>scratch
    cdef const real* x
    cdef int64_t* y
    cdef real sign = <real>s.sign, value
    cdef bint last = s.last
    for job in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.jobs)):
        o = job // s.blocks
        first = job % s.blocks * WIDTH
        width = min(<Py_ssize_t>WIDTH, inner - first)
        x = <const real*>operand[0] + o * s.size * inner + first
        y = <int64_t*>operand[1] + o * inner + first
        for c in range(width):
            best[c] = sign * x[c]
            y[c] = 0
        for k in range(1, s.size):
            x += inner
            for c in range(width):
                value = sign * x[c]
                # A comparison with a best value of NaN is false. NaN alone differs from itself.
                if value > best[c] or (value != value and (last or best[c] == best[c])) \
                        or (last and value == best[c]):
                    best[c] = value
                    y[c] = k


LOOPS = {
    "cumulative": <uintptr_t>cumulative,
    "window_sum": <uintptr_t>window_sum,
    "top_k": <uintptr_t>top_k,
    "arg_extreme": <uintptr_t>arg_extreme,
}
