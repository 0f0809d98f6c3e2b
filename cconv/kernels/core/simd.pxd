# What kernels may use of simd.h. Cython is told `float`; in the float64 build C takes `real` as double.
# Write constants as <real>0.5: a bare 0.5 is a double and would widen the whole expression.

from libc.stdint cimport int32_t, int64_t

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vf
    ctypedef int vi
    const int VL                 # lanes of a vector
    const int TILE_ROWS          # rows of the micro-kernel's register tile
    const int TILE_COLS          # its columns: output channels in a packed block
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
    Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b)   # rounded up; 0 for negative a
    Py_ssize_t odd_lines(Py_ssize_t n)                # at least n, an odd number of cache lines

# Elements that a loop computes with if it works for several dtypes; their numbers are `Kind` in element.pxd.
ctypedef fused number:
    real
    int32_t
    int64_t


cdef inline vf load_part(const real* p, Py_ssize_t n) noexcept nogil:
    """The next min(n, VL) elements; the other lanes are 0 and not touched in memory."""
    return vload(p) if n >= VL else vload_n(p, n)


cdef inline void store_part(real* p, vf v, Py_ssize_t n) noexcept nogil:
    """The first min(n, VL) lanes to memory."""
    if n >= VL:
        vstore(p, v)
    else:
        vstore_n(p, v, n)
