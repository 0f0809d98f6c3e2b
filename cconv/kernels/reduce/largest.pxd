# The largest number of a row of logits: softmax and cross-entropy subtract it from each before they take exponentials.

from cconv.kernels.core.simd cimport VL, real, vf, vload, vmax, vset

cdef extern from "vmath.h" nogil:
    real vtop(vf v)


cdef inline real largest(const real* x, Py_ssize_t n) noexcept nogil:
    """The largest of n >= 1 numbers. A NaN may be passed over: it shows when the result is subtracted from it."""
    cdef Py_ssize_t i
    cdef vf best = vset(x[0])
    cdef real result
    for i in range(n // VL):
        best = vmax(vload(x + i * VL), best)
    result = vtop(best)
    for i in range(n - n % VL, n):
        result = max(result, x[i])
    return result
