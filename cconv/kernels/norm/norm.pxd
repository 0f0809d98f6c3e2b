# What the classes of norm.pyx tell the loops of norm_loops.pyx.

cdef enum:
    PART = 32             # rows that are summed in `real` before the sum goes to a double
    LEAST_ROWS = 128      # rows of a block at least
    CHANNEL_BLOCK = 256   # channels of a block: with LEAST_ROWS they make up CHUNK elements

# How x (batch, rows, channels) is cut into samples, blocks of rows and blocks of channels.
cdef struct row_arguments:
    Py_ssize_t rows, channels
    Py_ssize_t row_block, row_blocks   # rows of a block; blocks of a sample
    Py_ssize_t channel_blocks
    const Py_ssize_t* block_rows       # Statistics: rows of each block, if `partials` has them already; else NULL
    Py_ssize_t groups                  # Statistics: groups of channels; 0: each channel has statistics of its own
    double epsilon                     # Statistics
    const void* activation             # its row of the table in norm.h
    double a, b                        # its parameters
    bint grouped                       # InputGradient: dscale and dbias are means over groups of channels
    bint stream                        # the result bypasses the caches; set in each run

cdef struct fold_arguments:
    Py_ssize_t groups, repeats, channels, inner
    double epsilon

cdef struct average_arguments:
    Py_ssize_t channels
    double momentum

cdef struct check_arguments:
    Py_ssize_t channels
    bint finite          # written by the loop
