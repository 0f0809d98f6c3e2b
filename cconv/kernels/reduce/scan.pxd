# What the classes of scan.pyx tell the loops of scan_loops.pyx.

cdef enum:
    BLOCK = 1024   # Cumulative: neighbouring lines whose running results are computed side by side
    WIDTH = 256    # ArgExtreme: neighbouring lines whose best values are kept side by side

# All arrays are (outer, size, inner). A line is all elements along the axis in the middle.

cdef struct cumulative_arguments:
    Py_ssize_t size, inner
    Py_ssize_t blocks               # of lines, for each place of the outer axis
    Py_ssize_t jobs, per_chunk      # blocks in all; of a chunk
    bint exclusive, reverse, product
    int kind

cdef struct window_arguments:
    Py_ssize_t outer, size, inner
    Py_ssize_t before, after        # extent of the window on either side
    Py_ssize_t per_chunk            # places of the outer axis

cdef struct top_arguments:
    Py_ssize_t size, inner, k
    Py_ssize_t lines, per_chunk     # in all; of a chunk
    bint largest
    int kind

cdef struct extreme_arguments:
    Py_ssize_t size, inner
    Py_ssize_t blocks, jobs, per_chunk
    double sign                     # factor that makes the extreme the largest value: 1 or -1
    bint last                       # of equal values the last one counts, else the first one
