# What the classes of copy.pyx tell the loops of copy_loops.pyx.

cdef enum:
    MAX_AXES = 8
    TILE = 16   # rows and columns of the tile that a transposition copies at a time

# Strides and offsets are in elements.
cdef struct copy_arguments:
    int itemsize
    int outer                                              # axes besides row and column
    Py_ssize_t size[MAX_AXES]                              # of these axes, slowest in the target first
    Py_ssize_t source_stride[MAX_AXES]
    Py_ssize_t target_stride[MAX_AXES]
    Py_ssize_t rows, source_row, target_row                # the row axis: its size and strides
    Py_ssize_t columns, source_column, target_column       # likewise the column axis
    Py_ssize_t source_offset, target_offset                # of the first element
    Py_ssize_t row_block, column_block                     # rows and columns of a job
    Py_ssize_t row_blocks, column_blocks                   # how many jobs they make
    Py_ssize_t jobs, per_chunk                             # in all; of a chunk

cdef struct fill_arguments:
    Py_ssize_t size
    int itemsize
    char value[8]
