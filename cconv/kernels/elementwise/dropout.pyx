"""Dropout: y = x / (1 - ratio) for a random choice of elements, 0 for the others.

Whether an element is kept is a function of (seed, step, node, its position in memory), computed by philox.h. The
backward pass does the same to dy. It computes the choice again and keeps nothing from the forward pass, so the choice
takes no memory between the two.

Parallel over flat chunks, which are independent of each other.
"""

import numpy as np

from libc.stdint cimport uintptr_t

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport Step
from cconv.kernels.elementwise.dropout cimport CHUNK, LANES, dropout_arguments, philox_arguments


def philox_words(Build build, unsigned long long block, unsigned int counter2, unsigned int counter3,
                 unsigned long long seed):
    """The words (4, LANES) uint32 of the counters block..block + LANES - 1; for tests."""
    cdef philox_arguments arguments
    arguments.block, arguments.counter2, arguments.counter3, arguments.seed = block, counter2, counter3, seed
    words = np.empty((4, LANES), np.uint32)
    cdef char* operand = <char*><uintptr_t>words.ctypes.data
    build.loop("dropout", "philox_words")(&arguments, &operand, 0, NULL)
    return words


cdef class Dropout(Step):
    """y = x * scale where an element is kept, else 0. An infinite or NaN element that is dropped is 0, too.

    Args:
        build: whose loops run.
        size: elements.
        ratio: probability that an element is dropped, 0 <= ratio < 1; scale is 1 / (1 - ratio).
        node: number that makes this node's random choice independent of other nodes'.

    Operands: x (size,), control, y (size,), mask (size,) uint8, 1 where an element is kept. y may be x; mask may be
    absent.

    Raises:
        ValueError: ratio is out of its range.
    """

    cdef dropout_arguments sizes

    def __init__(self, Build build, Py_ssize_t size, double ratio, unsigned int node):
        if not 0 <= ratio < 1:
            raise ValueError(f"Dropout: the ratio lies in 0 <= ratio < 1; found {ratio}")
        self.operands = 4
        self.loop = build.loop("dropout", "dropout")
        self.arguments = &self.sizes
        self.sizes.size = size
        self.sizes.drop_below = min(round(ratio * 2.0**32), 2**32 - 1)
        self.sizes.node = node
        self.sizes.scale = 1 / (1 - ratio)
        self.chunks = ceil_div(size, CHUNK)
