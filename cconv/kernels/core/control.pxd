from libc.stdint cimport int64_t, uint64_t

# The scalars that change between runs of a plan. Must have the same fields, in the same order, as CONTROL in
# control.py.
cdef struct Control:
    double gradient_scale   # factor on every gradient: gradient clipping by norm writes it, weight updates read it
    double loss
    int64_t step            # number of weight updates done so far; 0 in the first update
    uint64_t seed
