from libc.stdint cimport int64_t, uint64_t

# The scalars that change between runs of a plan. The same fields, in the same order, as CONTROL in control.py.
cdef struct Control:
    double gradient_scale   # factor on every gradient: clipping by norm writes it, updates read it
    double loss
    int64_t step            # updates done so far; the first update sees 0
    uint64_t seed
