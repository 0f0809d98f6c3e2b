# What the classes of quantize.pyx tell the loops of quantize_loops.pyx.

cdef enum:
    # How a whole number is stored.
    I8 = 0
    U8 = 1
    I16 = 2
    U16 = 3
    I32 = 4

cdef struct scaled_arguments:
    Py_ssize_t n, inner, block, blocks, rows, per_chunk
    int stored_as, shift
    double lowest, highest

cdef struct block_arguments:
    Py_ssize_t n, inner, block, blocks, rows, per_chunk
