# Element types of arrays, for loops that work for several dtypes.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

# Types for loops that only move elements, for which only the size of an element matters.
ctypedef fused item:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

# Types for loops that compute. element.py has their names, which constructors take, in the same order.
cdef enum Kind:
    REAL    # float32 or float64, depending on the build
    INT32
    INT64
