"""Loops of scattering with a reduction and of one-hot vectors; index.pyx has those that are the same in all builds."""

from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

from cconv.kernels.core.element cimport INT32, INT64, REAL, item
from cconv.kernels.core.simd cimport number, real
from cconv.kernels.move.index cimport ADD, MINIMUM, MULTIPLY, one_hot_arguments, put_arguments


cdef inline void put_job(const put_arguments* s, const number* x, const int64_t* places, number* y,
                         Py_ssize_t job) noexcept nogil:
    cdef Py_ssize_t o = job // s.blocks, first = job % s.blocks * s.block
    cdef Py_ssize_t groups = s.groups, length = s.length, n = min(s.block, length - first), g, r
    cdef int reduction = s.reduction
    cdef const number* source
    cdef number* target
    x += o * groups * length + first
    y += o * s.stride + first
    if not s.shared:
        places += o * groups
    for g in range(groups):
        source = x + g * length
        target = y + places[g]
        if reduction == ADD:
            for r in range(n):
                target[r] += source[r]
        elif reduction == MULTIPLY:
            for r in range(n):
                target[r] *= source[r]
        elif reduction == MINIMUM:
            for r in range(n):   # a NaN replaces any number, and no number replaces a NaN
                if source[r] < target[r] or isnan(<double>source[r]):
                    target[r] = source[r]
        else:
            for r in range(n):
                if source[r] > target[r] or isnan(<double>source[r]):
                    target[r] = source[r]


cdef void put_reduced(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const put_arguments* s = <const put_arguments*>arguments
    cdef const char* x = operand[0]
    cdef const int64_t* places = <const int64_t*>operand[1]
    cdef char* y = operand[2]
    cdef Py_ssize_t job
    for job in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.outer * s.blocks)):
        if s.kind == REAL:
            put_job(s, <const real*>x, places, <real*>y, job)
        elif s.kind == INT32:
            put_job(s, <const int32_t*>x, places, <int32_t*>y, job)
        else:
            put_job(s, <const int64_t*>x, places, <int64_t*>y, job)


cdef Py_ssize_t index_at(const char* indices, int kind, Py_ssize_t i, Py_ssize_t depth) noexcept nogil:
    """Index i, or `depth` for a real outside of -depth <= value < depth."""
    cdef real value
    if kind == INT64:
        return (<const int64_t*>indices)[i]
    if kind == INT32:
        return (<const int32_t*>indices)[i]
    value = (<const real*>indices)[i]
    # The conversion of a NaN, or of a number that no Py_ssize_t holds, is not defined.
    return <Py_ssize_t>value if -depth <= value < depth else depth


cdef void one_hot_vectors(const one_hot_arguments* s, const char* indices, const item* values, item* y,
                          Py_ssize_t o) noexcept nogil:
    cdef Py_ssize_t depth = s.depth, inner = s.inner, i, d
    cdef int kind = s.kind
    cdef item off = values[0], on = values[1]
    y += o * depth * inner
    for i in range(depth * inner):
        y[i] = off
    for i in range(inner):
        d = index_at(indices, kind, o * inner + i, depth)
        if d < 0:
            d += depth
        if 0 <= d < depth:
            y[d * inner + i] = on


cdef void one_hot(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const one_hot_arguments* s = <const one_hot_arguments*>arguments
    cdef const char* indices = operand[0]
    cdef const char* values = operand[1]
    cdef char* y = operand[2]
    cdef Py_ssize_t o
    for o in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.outer)):
        if s.itemsize == 4:
            one_hot_vectors(s, indices, <const uint32_t*>values, <uint32_t*>y, o)
        elif s.itemsize == 8:
            one_hot_vectors(s, indices, <const uint64_t*>values, <uint64_t*>y, o)
        elif s.itemsize == 1:
            one_hot_vectors(s, indices, <const uint8_t*>values, <uint8_t*>y, o)
        else:
            one_hot_vectors(s, indices, <const uint16_t*>values, <uint16_t*>y, o)


LOOPS = {"put_reduced": <uintptr_t>put_reduced, "one_hot": <uintptr_t>one_hot}
