# What the classes of index.pyx tell the loops of index_loops.pyx.

cdef enum:
    SET
    ADD
    MULTIPLY
    MINIMUM
    MAXIMUM

cdef struct put_arguments:
    int reduction                       # SET, ADD, ...
    int kind                            # of an element, for all reductions but SET
    int itemsize                        # its bytes, for SET
    bint shared                         # all groups have the same places
    Py_ssize_t outer, groups, length    # sizes of x
    Py_ssize_t stride                   # elements of y from one group of places to the next
    Py_ssize_t block, blocks            # elements of a run that a job writes; jobs of a group
    Py_ssize_t per_chunk                # jobs of a chunk

cdef struct one_hot_arguments:
    int kind                            # of an index
    int itemsize                        # bytes of a value
    Py_ssize_t outer, depth, inner      # sizes of y
    Py_ssize_t per_chunk                # of the `outer`
