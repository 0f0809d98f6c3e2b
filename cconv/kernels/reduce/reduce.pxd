# What the class of reduce.pyx tells the loops of reduce_loops.pyx.

cdef enum:
    MAX_AXES = 8
    COLUMNS = 1024   # columns of a chunk: the totals take 4 KiB of L1
    ROWS = 512       # rows (or folded rows) of a segment

cdef struct reduce_arguments:
    int operation                             # row of the table of reduce.h
    Py_ssize_t kept_size[MAX_AXES]
    Py_ssize_t kept_source[MAX_AXES]
    Py_ssize_t kept_target[MAX_AXES]
    Py_ssize_t summed_size[MAX_AXES]
    Py_ssize_t summed_source[MAX_AXES]
    int kept_axes, summed_axes
    Py_ssize_t kept, columns, column_target, column_blocks
    Py_ssize_t rows, row_stride               # the fastest summed axis
    Py_ssize_t all_rows                       # rows along all summed axes
    Py_ssize_t fold, segment, segments, per_chunk, jobs
