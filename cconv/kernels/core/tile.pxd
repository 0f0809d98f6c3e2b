# Cython declarations of tile.h: the matrix product of one register tile, and copies into the layouts that it reads.

from cconv.kernels.core.simd cimport real

cdef extern from "tile.h" nogil:
    const int TILE_STORE, TILE_ADD, TILE_BIAS, TILE_RESIDUAL, TILE_CLAMP
    const int TILE_STREAM, TILE_MEASURE, TILE_BEGIN, TILE_FETCH
    ctypedef struct tile_job:
        const Py_ssize_t* offset
        Py_ssize_t segments
        Py_ssize_t depth
        Py_ssize_t row
        Py_ssize_t step
        const real* b
        const real* bias
        Py_ssize_t columns
        Py_ssize_t ldc
        Py_ssize_t residual
        real low, high
        const char* ahead
        Py_ssize_t ahead_step
        Py_ssize_t ahead_row
        const char* stream[6]
        Py_ssize_t streams
        int mode
        real* moments
        Py_ssize_t moments_apart
    ctypedef void (*tile_fn)(const tile_job* job, const char* a0, const char* a1, real* c0, real* c1) noexcept nogil
    # Tables of functions, indexed by [rows][vectors - 1].
    const tile_fn tile_across[15][2]
    const tile_fn tile_along[15][2]
    int block_vectors(Py_ssize_t columns)
    void pad_pixels(const real* source, Py_ssize_t source_stride, real* target, Py_ssize_t width, Py_ssize_t count,
                    Py_ssize_t channels)
    void split_pixels(const real* source, Py_ssize_t source_stride, real* target, Py_ssize_t target_stride,
                      Py_ssize_t count, Py_ssize_t channels, Py_ssize_t panel, Py_ssize_t panel_size)
    void zero_pixels(real* target, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t channels)
