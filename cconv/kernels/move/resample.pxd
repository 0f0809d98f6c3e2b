# What the class of resample.pyx tells the loop of resample_loops.pyx.

# Taps of each place along an axis. `bounds` is NULL if the axis stays as it is.
cdef struct resample_table:
    const Py_ssize_t* bounds    # place i has taps bounds[i] to bounds[i + 1] - 1
    const Py_ssize_t* index     # for each tap the place in the source
    const void* weight          # and its weight, a real

cdef struct resample_arguments:
    Py_ssize_t rows, columns, inner            # sizes of the source
    Py_ssize_t target_rows, target_columns     # of the target
    Py_ssize_t jobs, per_chunk                 # rows of the target in all images; of a chunk
    resample_table row_table, column_table
