# The per-channel sums of a normalisation's backward pass (gradient_sums.h). The convolution that computes the gradient
# of the normalisation's output computes them, too. The compiled loops use this file if `add_parameter_sums` was called
# on their Gather; the classes use derivative.pxd.

from cconv.kernels.conv.derivative cimport Derivative
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


cdef inline gradient_terms terms_of(const Derivative* f, char** operand, Py_ssize_t c, bint adds,
                                    bint stream) noexcept nogil:
    """Arguments of gradient_sums for the channels from c on, taken from the operand addresses of a Gather.

    Args:
        adds: whether operand 3, the residual, is added to the gradient.
        stream: whether stores to operand 4, the target, bypass the caches.
    """
    cdef gradient_terms t
    t.slope = SLOPE_ONE
    if f.given:
        t.slope = SLOPE_OF_Z if operand[12] == NULL else SLOPE_OF_Y
    t.low, t.high = <real>f.low, <real>f.high
    t.x, t.y, t.addend = operand[7] - operand[4], operand[12] - operand[4], operand[3] - operand[4]
    t.adds, t.stream = adds, stream
    t.mean, t.inverse = <real*>operand[8] + c, <real*>operand[9] + c
    t.scale, t.bias = <real*>operand[10] + c, <real*>operand[11] + c
    return t


cdef inline void sums_found(const real* scales, const real* biases, Py_ssize_t channels, double* found,
                            Py_ssize_t apart) noexcept nogil:
    """Write a block's two sums per channel to the `partials` operand of norm.ParameterGradient, as double."""
    cdef Py_ssize_t c
    for c in range(channels):
        found[c] = scales[c]
        found[apart + c] = biases[c]


# For loops that keep the activation as gradient_terms instead of Derivative, as depthwise_loops.pyx does.

cdef inline bint derivative_known(activation, gradient_terms* t) except -1:
    """Whether the derivative of an activation is 1 in an interval and 0 elsewhere. If so, write the interval to `t`.

    The activation is (name, a, b), or None for the identity.
    """
    t.slope = SLOPE_ONE if activation is None else SLOPE_OF_Z
    if activation is None:
        return True
    name, t.low, t.high = activation
    if name == "relu":
        t.low, t.high = 0, float("inf")
    return name == "relu" or name == "clip"


cdef inline gradient_terms bound_terms(gradient_terms t, char** operand, Py_ssize_t c) noexcept nogil:
    """Fill in the operand addresses of `t` for the channels from c on. Operand 4 of the Gather is the target dz."""
    t.addend = operand[3] - operand[4]
    t.x, t.y = operand[7] - operand[4], operand[12] - operand[4]
    t.mean, t.inverse = <real*>operand[8] + c, <real*>operand[9] + c
    t.scale, t.bias = <real*>operand[10] + c, <real*>operand[11] + c
    if t.slope != SLOPE_ONE and operand[12] != NULL:
        t.slope = SLOPE_OF_Y
    return t
