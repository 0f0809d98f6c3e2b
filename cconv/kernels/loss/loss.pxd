# The arguments that the classes of loss.pyx hand to the loops of loss_loops.pyx.

from libc.stdint cimport int64_t

cdef enum:
    CHUNK = 8192   # elements that a chunk should at least handle: some tens of microseconds

# A denominator, two doubles: the weight of a batch, and its reciprocal, which is 0 if the weight is 0.
cdef enum:
    WEIGHT = 0
    RECIPROCAL = 1

cdef struct cross_entropy_arguments:
    Py_ssize_t rows, classes
    Py_ssize_t per_chunk           # rows of a chunk
    int64_t ignore_index
    double smoothing

cdef struct elementwise_arguments:
    Py_ssize_t size
    double a, b          # parameters of the loss
    void* loop           # elementwise_loss_loop of elementwise_loss.h
