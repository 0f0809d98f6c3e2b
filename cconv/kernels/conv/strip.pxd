# A strip is the piece of an input that a block of outputs reads, copied to a buffer of the thread. Its zero border is
# written out, so the loops that multiply need no bounds tests. Neighbouring pixels of the buffer lie a distance apart
# that does not map to the same cache sets. strip_loops.pxd copies.
#
# Layout: [panel][image][plane][row][column][pixel_stride], with one plane per tap along depth. An axis with one tap
# keeps only the elements that are read, however large the stride. A panel holds `panel` channels. If the loops run
# along a pixel's channels, one panel holds all channels. If they run along the pixels, a panel holds the rows of one
# register tile, and its pixels are one run of memory.

cdef struct Axis:
    Py_ssize_t input                # size of the axis that is read
    Py_ssize_t output               # outputs along it
    Py_ssize_t step                 # input elements per output
    Py_ssize_t pad
    Py_ssize_t load_step            # input elements per strip element
    Py_ssize_t strip_step           # strip elements per output
    Py_ssize_t span                 # strip elements that one output reads
    Py_ssize_t out_step, out_start  # output o is position o * out_step + out_start of the target

cdef struct Strip:
    Axis axis[3]
    const Py_ssize_t* planes        # offset of each plane along depth
    Py_ssize_t plane_count
    Py_ssize_t rows, columns        # size of a plane in the buffer
    Py_ssize_t pixel_stride         # elements between columns in the buffer
    Py_ssize_t input_stride         # elements between pixels of the input: its channels
    Py_ssize_t panel                # channels of a panel
    Py_ssize_t panel_size           # elements between panels in the buffer


cdef inline int fill_axes(Strip* s, part) except -1:
    """The axes of a gather (three geometry.AxisWalk). An axis with one tap is stored without the elements that its
    stride skips."""
    for a, walk in enumerate(part):
        one = len(walk.offsets) == 1
        s.axis[a].input = walk.input
        s.axis[a].output = walk.output
        s.axis[a].step = walk.step
        s.axis[a].pad = walk.pad
        s.axis[a].load_step = walk.step if one else 1
        s.axis[a].strip_step = 1 if one else walk.step
        s.axis[a].span = walk.span
        s.axis[a].out_step = walk.out_step
        s.axis[a].out_start = walk.out_start
    return 0
