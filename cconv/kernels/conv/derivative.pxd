# The derivative f' of an activation that Gather.add_parameter_sums was asked to apply. gradient_sums.pxd applies it.

from libc.math cimport INFINITY

cdef struct Derivative:
    bint given           # whether there is an activation; f' is 1 without one
    double low, high     # f' is 1 between them, and 0 elsewhere


cdef inline bint find_derivative(activation, Derivative* f) except -1:
    """Whether f' of the activation (name, a, b), or of None, is 1 in an interval and 0 elsewhere. If so, f' is written
    to `f`."""
    f.given = activation is not None
    if activation is None:
        return True
    name, low, high = activation
    if name == "relu":
        f.low, f.high = 0, INFINITY
    elif name == "clip":
        f.low, f.high = low, high
    else:
        return False
    return True
