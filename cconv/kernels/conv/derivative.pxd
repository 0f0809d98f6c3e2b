# The derivative f' of an activation, as Gather.add_parameter_sums stores it for its loops. gradient_sums.pxd applies
# it.

from libc.math cimport INFINITY

cdef struct Derivative:
    bint given           # whether there is an activation; without one, f' is 1 everywhere
    double low, high     # f' is 1 between low and high, and 0 elsewhere


cdef inline bint find_derivative(activation, Derivative* f) except -1:
    """Whether the derivative of an activation is 1 in an interval and 0 elsewhere. If so, write the interval to `f`.

    The activation is (name, a, b), or None for the identity.
    """
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
