# What the classes of elementwise.pyx and broadcast.pyx tell the loops of elementwise_loops.pyx.

cdef enum:
    MAX_AXES = 8

cdef struct flat_arguments:
    Py_ssize_t size
    void* formula           # of elementwise.h
    double a, b             # its parameters, if it has some

cdef struct broadcast_arguments:
    void* formula
    int outer                                  # all axes but the fastest two
    Py_ssize_t sizes[MAX_AXES]
    Py_ssize_t x_stride[MAX_AXES]
    Py_ssize_t y_stride[MAX_AXES]
    Py_ssize_t rows, x_row, y_row              # the second fastest axis
    Py_ssize_t all_rows                        # rows along all axes
    Py_ssize_t columns, x_column, y_column     # the fastest axis
    Py_ssize_t block_rows, block_columns, column_blocks
