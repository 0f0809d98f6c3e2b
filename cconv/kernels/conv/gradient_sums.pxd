# A convolution's input gradient that goes on to a normalisation: what the normalisation's gradient begins with is found
# of it at once (gradient_sums.h). Which f' these loops know, and what they are told, for conv_*.Gather.measure_gradient.

from cconv.kernels.core.simd cimport real

cdef extern from "gradient_sums.h" nogil:
    cdef enum slope:
        SLOPE_ONE, SLOPE_OF_Y, SLOPE_OF_Z
    ctypedef struct gradient_terms:
        slope slope
        real low, high
        Py_ssize_t x, y, addend
        bint adds
        const real* mean
        const real* inverse
        const real* scale
        const real* bias
        bint stream
    void gradient_sums(const gradient_terms* t, Py_ssize_t channels, const real* dy, Py_ssize_t dy_stride, real* dz,
                       Py_ssize_t stride, Py_ssize_t rows, real* scales, real* biases)


cdef inline bint derivative_known(activation, gradient_terms* t) except -1:
    """Whether f' of the activation (name, a, b), or of None, is 1 in an interval and 0 elsewhere; which one goes to `t`."""
    t.slope = SLOPE_ONE if activation is None else SLOPE_OF_Z
    if activation is None:
        return True
    name, t.low, t.high = activation
    if name == "relu":
        t.low, t.high = 0, float("inf")
    return name == "relu" or name == "clip"


cdef inline gradient_terms bound_terms(gradient_terms t, char** operand, Py_ssize_t c) noexcept nogil:
    """With the addresses among a Gather's operands, from channel c on; the target is operand 4."""
    t.addend = operand[3] - operand[4]
    t.x, t.y = operand[7] - operand[4], operand[12] - operand[4]
    t.mean, t.inverse = <real*>operand[8] + c, <real*>operand[9] + c
    t.scale, t.bias = <real*>operand[10] + c, <real*>operand[11] + c
    if t.slope != SLOPE_ONE and operand[12] != NULL:
        t.slope = SLOPE_OF_Y
    return t


cdef inline void sums_found(const real* scales, const real* biases, Py_ssize_t channels, double* found,
                            Py_ssize_t apart) noexcept nogil:
    """Sums of a block to its place in ParameterGradient's partials."""
    cdef Py_ssize_t c
    for c in range(channels):
        found[c] = scales[c]
        found[apart + c] = biases[c]
