# What the classes of softmax.pyx tell the loops of softmax_loops.pyx.

cdef enum:
    WIDTH = 256   # most columns that are worked on side by side

# An array (outer, n, inner) is cut into jobs: rows if inner is 1, else blocks of WIDTH columns.
cdef struct softmax_arguments:
    Py_ssize_t n, inner
    Py_ssize_t blocks              # of columns, for each index of the outer axis
    Py_ssize_t jobs, per_chunk     # jobs of all chunks; of a chunk
    bint logarithm
