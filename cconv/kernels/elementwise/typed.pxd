# What the class of typed.pyx tells the loop of typed_loops.pyx.

cdef enum:
    MAX_AXES = 8
    MOST = 3        # operands

cdef struct map_arguments:
    void* formula                           # of typed.h
    int count, outer                        # operands; all axes but the fastest
    Py_ssize_t bytes[MOST]
    Py_ssize_t result_bytes
    Py_ssize_t sizes[MAX_AXES]
    Py_ssize_t stride[MAX_AXES][MOST]
    Py_ssize_t column_stride[MOST]
    Py_ssize_t rows, columns, block_rows, block_columns, column_blocks
