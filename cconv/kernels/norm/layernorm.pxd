# What the classes of layernorm.pyx tell the loops of layernorm_loops.pyx.

cdef enum:
    COLUMNS = 1024   # columns of a chunk that adds up the blocks' sums

cdef struct row_norm_arguments:
    Py_ssize_t rows, columns
    Py_ssize_t channels            # 0: scale and bias belong to the columns; else row r has channel r mod channels
    Py_ssize_t row_block, blocks   # rows of a block, which is a chunk; how many blocks
    bint centered                  # whether the mean is subtracted
    double epsilon
