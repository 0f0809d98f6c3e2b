# Cython declarations of turn.h: loads and stores that transpose.

from cconv.kernels.core.simd cimport real, vf

cdef extern from "turn.h" nogil:
    enum:
        LANES
    void load_turned(const real* from_, Py_ssize_t stride, Py_ssize_t live, Py_ssize_t count, vf* to)
    void store_turned(const vf* from_, Py_ssize_t live, Py_ssize_t count, real* to, Py_ssize_t stride)
