# What the classes of loss.pyx tell the loops of loss_loops.pyx, and what these tell them.

from libc.stdint cimport int64_t

cdef enum:
    CHUNK = 8192   # elements that a chunk should at least handle: some tens of microseconds

cdef struct cross_entropy_arguments:
    Py_ssize_t rows, classes
    Py_ssize_t per_chunk, chunks   # rows of a chunk; how many chunks
    int64_t ignore_index
    double smoothing
    # Written by the loop `cross_entropy_divisor` in each run.
    bint out_of_range              # a target is no class
    double weight_sum              # of all classes
    double inverse                 # 1 / the sum of all targets' weights; 0 if that sum is 0

cdef struct squared_error_arguments:
    Py_ssize_t size, chunks
