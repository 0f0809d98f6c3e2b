# Cython declarations of simd.h. They declare `real` as float; in the float64 build the C compiler uses double.
# Write constants as <real>0.5: a bare 0.5 is a double and would make the whole expression double.

from libc.stdint cimport int32_t, int64_t

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vf
    ctypedef int vi
    const int VL                 # number of lanes of a vector
    const int TILE_ROWS          # rows of the micro-kernel's register tile
    const int TILE_COLS          # columns of the register tile: output channels per packed block
    const int CACHE_LINE_REALS
    vf vload(const real* p)
    void vstore(real* p, vf v)
    void stream_end()
    vf vset(real x)
    vf vzero()
    vf vload_n(const real* p, Py_ssize_t n)
    void vstore_n(real* p, vf v, Py_ssize_t n)
    vf vmax(vf a, vf b)
    vf vmin(vf a, vf b)
    vf vclamp(vf x, vf low, vf high)
    real vsum(vf v)
    Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b)   # a / b rounded up; 0 for negative a
    Py_ssize_t odd_lines(Py_ssize_t n)                # n elements, rounded up to an odd number of cache lines

# Element types of loops that compute in several dtypes. The enum `Kind` in element.pxd numbers them.
ctypedef fused number:
    real
    int32_t
    int64_t


cdef inline vf load_part(const real* p, Py_ssize_t n) noexcept nogil:
    """Load the next min(n, VL) elements. The other lanes are 0; memory beyond n elements is not accessed."""
    return vload(p) if n >= VL else vload_n(p, n)


cdef inline void store_part(real* p, vf v, Py_ssize_t n) noexcept nogil:
    """Store the first min(n, VL) lanes; memory beyond n elements is not accessed."""
    if n >= VL:
        vstore(p, v)
    else:
        vstore_n(p, v, n)
