# What the classes of pad.pyx tell the loops of pad_loops.pyx.

cdef enum:
    MAX_AXES = 8

# A row is all places along the fastest axis. Tables and sizes of the other axes are slowest first.
cdef struct pad_arguments:
    const Py_ssize_t* table                # of the fastest axis
    Py_ssize_t run_first, run_end          # its longest run of neighbours
    Py_ssize_t source_columns, columns     # sizes of the fastest axis: of the source, of the padded array
    int outer                              # number of other axes
    Py_ssize_t sizes[MAX_AXES]             # of the other axes, in the array that is written
    Py_ssize_t strides[MAX_AXES]           # of the other axes, in the array that is read
    # Of the other axes. Pad: their tables. PadGradient: the places that show source place s, in order, are
    # entries[bounds[s]] to entries[bounds[s + 1] - 1].
    const Py_ssize_t* entries[MAX_AXES]
    const Py_ssize_t* bounds[MAX_AXES]
    Py_ssize_t rows, per_chunk             # of the array that is written; of a chunk
    int itemsize                           # Pad: bytes of an element
    char value[8]                          # Pad: the constant
