"""Loops of dropout; dropout.pyx says what they compute."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t

from cconv.kernels.core.control cimport Control
from cconv.kernels.core.simd cimport ceil_div, real
from cconv.kernels.elementwise.dropout cimport CHUNK, GROUP, LANES, dropout_arguments, philox_arguments

cdef extern from "philox.h" nogil:
    void philox(uint32_t (*word)[LANES], uint64_t block, uint32_t counter2, uint32_t counter3, uint64_t seed)


cdef void dropout(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const dropout_arguments* s = <const dropout_arguments*>arguments
    cdef const Control* control = <const Control*>operand[1]
    cdef const real* x = <const real*>operand[0]
    cdef real* y = <real*>operand[2]
    cdef uint8_t* mask = <uint8_t*>operand[3]
    cdef uint32_t word[4][LANES]
    cdef const uint32_t* words = &word[0][0]
    cdef Py_ssize_t group, start, end = min((i + 1) * CHUNK, s.size), n, k
    cdef real factor[GROUP]
    cdef real scale = <real>s.scale
    cdef uint32_t drop_below = s.drop_below
    for group in range(i * (CHUNK // GROUP), ceil_div(end, GROUP)):
        start = group * GROUP
        n = min(<Py_ssize_t>GROUP, end - start)
        philox(word, <uint64_t>(group * LANES), s.node, <uint32_t>control.step, control.seed)
        for k in range(GROUP):
            factor[k] = scale if words[k] >= drop_below else <real>0
        for k in range(n):
            # A product would make NaN of an infinite or NaN element that is dropped.
            y[start + k] = x[start + k] * factor[k] if factor[k] != 0 else <real>0
        if mask != NULL:
            for k in range(n):
                mask[start + k] = factor[k] != 0


cdef void philox_words(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const philox_arguments* s = <const philox_arguments*>arguments
    philox(<uint32_t (*)[LANES]>operand[0], s.block, s.counter2, s.counter3, s.seed)


LOOPS = {
    "dropout": <uintptr_t>dropout,
    "philox_words": <uintptr_t>philox_words,
}
