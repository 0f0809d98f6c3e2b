# A strip is the piece of an input that a block of outputs reads, copied to a buffer of the thread. The copy includes
# the zero padding, so the loops that multiply need no bounds tests. The distance between neighbouring pixels in the
# buffer is chosen so that they do not map to the same cache sets. strip_loops.pxd does the copying.
#
# Layout: [panel][image][plane][row][column][pixel_stride], with one plane per tap along depth. If an axis has one tap,
# only the elements that are read are stored, however large the stride. A panel holds `panel` channels. If the loops
# sum over a pixel's channels, one panel holds all channels. If they sum over the pixels (weight gradient), a panel
# holds the channels that are the rows of one register tile, and its pixels are contiguous.

cdef struct Axis:
    Py_ssize_t input                # size of the axis that is read
    Py_ssize_t output               # number of outputs along the axis
    Py_ssize_t step                 # stride: input elements per output
    Py_ssize_t pad                  # zeros before the first input element
    Py_ssize_t load_step            # input elements per strip element
    Py_ssize_t strip_step           # strip elements per output
    Py_ssize_t span                 # strip elements from the first to the last tap of an output
    Py_ssize_t out_step, out_start  # output o is position o * out_step + out_start of the target

cdef struct Strip:
    Axis axis[3]
    const Py_ssize_t* planes        # offset of each plane along depth, in input elements
    Py_ssize_t plane_count
    Py_ssize_t rows, columns        # size of a plane in the buffer
    Py_ssize_t pixel_stride         # elements between columns in the buffer
    Py_ssize_t input_stride         # elements between pixels of the input: its number of channels
    Py_ssize_t panel                # number of channels of a panel
    Py_ssize_t panel_size           # elements between panels in the buffer


cdef inline int fill_axes(Strip* s, part) except -1:
    """Fill in the axes of a strip from the three geometry.AxisWalks of a gather. If an axis has one tap, the strip
    leaves out the elements that the stride skips."""
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
