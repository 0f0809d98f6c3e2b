# Elements of arrays, as loops tell them apart that work for several dtypes.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

# Elements that are moved and not computed with: only their size matters.
ctypedef fused item:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

# Elements that are computed with. element.py has the names that constructors take, in the same order.
cdef enum Kind:
    REAL    # float32 or float64, as the build
    INT32
    INT64
