# What dropout.pyx tells the loops of dropout_loops.pyx.

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    LANES = 16            # counters that one call of philox computes side by side
    GROUP = 4 * LANES     # elements that one call decides: element LANES * w + l of a group has word[w][l]
    CHUNK = 256 * GROUP   # elements of a chunk

cdef struct dropout_arguments:
    Py_ssize_t size
    uint32_t drop_below   # of the 2^32 values of a word, how many drop an element
    uint32_t node
    double scale          # factor of the elements that are kept

cdef struct philox_arguments:
    uint64_t block        # the first of the LANES counters
    uint32_t counter2, counter3
    uint64_t seed
