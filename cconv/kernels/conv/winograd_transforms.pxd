# Cython declarations of the Winograd tile transforms in winograd.h.

from cconv.kernels.core.simd cimport real

cdef extern from "winograd.h" nogil:
    ctypedef struct winograd_epilogue:
        const real* bias
        Py_ssize_t residual
        int add_residual, clamped, stream
        real low, high
    void winograd_pixels(const real* image, Py_ssize_t height, Py_ssize_t width, Py_ssize_t pixel, Py_ssize_t y,
                         Py_ssize_t x, int size, const real* zeros, const real** p)
    void winograd_input(const real* const* p, Py_ssize_t channels, Py_ssize_t pixel, real* v, Py_ssize_t plane)
    void winograd_output(const real* m, Py_ssize_t plane, Py_ssize_t channels, real* y, Py_ssize_t row,
                         Py_ssize_t pixel, int rows, int columns, const winograd_epilogue* e)
    void winograd_weights(const real* g, Py_ssize_t tap, real* u, Py_ssize_t plane)
    void winograd_gradient(const real* const* p, Py_ssize_t channels, Py_ssize_t pixel, real* y, Py_ssize_t plane,
                           Py_ssize_t columns, Py_ssize_t tiles, Py_ssize_t tile)
    void winograd_store_taps(const real* m, Py_ssize_t plane, real* dw, Py_ssize_t output)
