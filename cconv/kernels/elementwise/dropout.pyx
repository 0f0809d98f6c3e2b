"""Dropout: y = x / (1 - ratio) for a random choice of elements, 0 for the others.

Whether an element stays is a function of (seed, step, node, its place in memory) through philox.h. The
gradient does the same to dy: it computes the choice again rather than keep it from the forward pass, which
would take memory between the two. Parallel over flat chunks; nothing of a chunk depends on another.
"""

import numpy as np

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from cconv.kernels.core.control cimport Control
from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport OK, Step

cdef extern from "philox.h" nogil:
    const int PHILOX_LANES
    void philox(uint32_t (*word)[16], uint64_t block, uint32_t counter2, uint32_t counter3, uint64_t seed)

cdef enum:
    GROUP = 64     # elements that one call of philox decides: element 16 w + l of a group has word[w][l]

cdef Py_ssize_t CHUNK = 256 * GROUP


def philox_words(
    unsigned long long block, unsigned int counter2, unsigned int counter3, unsigned long long seed):
    """The 4 words (4, 16) uint32 of the counters block..block + 15, for tests."""
    cdef uint32_t word[4][16]
    philox(word, block, counter2, counter3, seed)
    return np.array([[word[w][l] for l in range(16)] for w in range(4)], dtype=np.uint32)


cdef class Dropout(Step):
    """y = x * scale where an element is kept, else 0.

    Args:
        size: elements.
        ratio: probability that an element is dropped, 0 <= ratio < 1; scale is 1 / (1 - ratio).
        node: number that tells this node's random choice from other nodes'.

    Operands: x, control, y, mask; y may be x. mask: one byte for each element, 1 where kept; may be absent.

    Raises:
        ValueError: ratio is out of its range.
    """

    cdef Py_ssize_t size
    cdef uint32_t drop_below      # of 2^32 words, how many drop an element
    cdef uint32_t node
    cdef real scale

    def __init__(self, Py_ssize_t size, double ratio, unsigned int node):
        if not 0 <= ratio < 1:
            raise ValueError(f"Dropout: the ratio lies in 0 <= ratio < 1; found {ratio}")
        self.operands = 4
        self.size = size
        self.drop_below = min(round(ratio * 2.0**32), 2**32 - 1)
        self.node = node
        self.scale = <real>(1 / (1 - ratio))

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.size + CHUNK - 1) // CHUNK)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef const Control* control = <const Control*>self.operand[1]
        cdef const real* x = <const real*>self.operand[0]
        cdef real* y = <real*>self.operand[2]
        cdef uint8_t* mask = <uint8_t*>self.operand[3]
        cdef uint32_t word[4][16]
        cdef const uint32_t* words = &word[0][0]
        cdef Py_ssize_t group, start, end = min((i + 1) * CHUNK, self.size), n, k
        cdef real factor[GROUP]
        cdef real scale = self.scale
        cdef uint32_t drop_below = self.drop_below
        for group in range(i * (CHUNK // GROUP), (end + GROUP - 1) // GROUP):
            start = group * GROUP
            n = min(GROUP, end - start)
            philox(word, <uint64_t>(group * PHILOX_LANES), self.node, <uint32_t>control.step, control.seed)
            for k in range(GROUP):
                factor[k] = scale if words[k] >= drop_below else <real>0
            for k in range(n):
                # Not a product: what is dropped is 0 even where x is infinite or NaN.
                y[start + k] = x[start + k] * factor[k] if factor[k] != 0 else <real>0
            if mask != NULL:
                for k in range(n):
                    mask[start + k] = factor[k] != 0
