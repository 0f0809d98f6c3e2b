"""Loops of the updates: the rules of update.h, and sums of squares."""

from libc.stdint cimport uintptr_t

from cconv.kernels.core.simd cimport real
from cconv.kernels.update.update cimport MOST_SLOTS, UPDATE_CHUNK, square_arguments, update_arguments

cdef extern from "update.h" nogil:
    ctypedef void (*update_prepare)(const double* o, double rate, double t, double* c) noexcept nogil
    ctypedef void (*update_loop)(const double* constants, double factor, const real* gradient, real* weight, real** slots,
                                 Py_ssize_t n) noexcept nogil
    ctypedef struct update_rule:
        const char* name
        int slots
        update_prepare prepare
        update_loop loop
    const update_rule update_rules[1]
    const int update_count

cdef enum:
    # Sums that are kept side by side, so that the compiler may vectorise without reordering any: four vectors and more,
    # since each waits for its last addition (AVX-512, 74,000 elements: 8 sums 13.4 us, 16 6.7, 32 6.4).
    LANES = 32


cdef void update(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const update_arguments* s = <const update_arguments*>arguments
    cdef Py_ssize_t start = i * UPDATE_CHUNK, n = min(<Py_ssize_t>UPDATE_CHUNK, s.size - start)
    cdef real* slots[MOST_SLOTS]
    cdef int k
    for k in range(s.slots):
        slots[k] = <real*>operand[4 + k] + start
    (<update_loop>s.loop)(s.constants, s.factor, <real*>operand[0] + start, <real*>operand[3] + start, slots, n)


cdef void square_sum(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const square_arguments* s = <const square_arguments*>arguments
    cdef Py_ssize_t start = i * UPDATE_CHUNK, n = min(<Py_ssize_t>UPDATE_CHUNK, s.size - start), j, k
    cdef const real* x = <real*>operand[0] + start
    cdef double sums[LANES]
    cdef double total = 0
    for k in range(LANES):
        sums[k] = 0
    for j in range(n // LANES):
        for k in range(LANES):
            sums[k] += <double>x[j * LANES + k] * <double>x[j * LANES + k]
    for j in range(n // LANES * LANES, n):
        total += <double>x[j] * <double>x[j]
    for k in range(LANES):
        total += sums[k]
    (<double*>operand[1])[s.offset + i] = total


LOOPS = {"update": <uintptr_t>update, "square_sum": <uintptr_t>square_sum}
RULES = {
    update_rules[i].name.decode(): (
        update_rules[i].slots, <uintptr_t>update_rules[i].prepare, <uintptr_t>update_rules[i].loop)
    for i in range(update_count)
}
