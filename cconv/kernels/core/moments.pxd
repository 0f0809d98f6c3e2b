# Cython declaration of moments.h: mean and squared deviations of channels. Tiles compute them with TILE_MEASURE
# (tile.h).

from cconv.kernels.core.simd cimport real

cdef extern from "moments.h" nogil:
    void moments_found(const real* at, Py_ssize_t apart, Py_ssize_t channels, Py_ssize_t count, double* mean,
                       double* squares)
