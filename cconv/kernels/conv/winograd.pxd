# Sizes that the classes in winograd.pyx pass to the compiled loops in winograd_loops.pyx. PLANES, TAPS and the tiles
# are also used by winograd_weight.pyx.

cdef enum:
    PLANES = 36          # elements of a transformed 6x6 tile; plane i holds element i of every tile
    TAPS = 9             # taps of a 3x3 kernel
    PACK_CHANNELS = 16   # input channels per chunk of Pack; a chunk's results are contiguous in each plane

# The tiles of 4x4 output pixels that cover all images, numbered row by row.
cdef struct winograd_tiles:
    Py_ssize_t height, width           # of an input image, from which the 6x6 input tiles are read
    Py_ssize_t out_height, out_width   # of an output image
    Py_ssize_t pad_y, pad_x            # zeros above and to the left of the input image
    Py_ssize_t rows, columns           # tiles per image along each axis
    Py_ssize_t count                   # tiles of all images

cdef struct winograd_arguments:
    winograd_tiles tiles
    Py_ssize_t inner, outer                  # input channels, summed over; output channels
    Py_ssize_t inner_stride, outer_stride    # elements between the weights of neighbouring channels
    Py_ssize_t column_blocks                 # blocks of TILE_COLS outputs
    int place[TAPS]                          # for each tap in ONNX's order, its index in the gather
    Py_ssize_t block                         # tiles of a block
    Py_ssize_t current                       # block of tiles that "transform", "planes", "back" and "outputs" work on
    Py_ssize_t parts                         # "tiles": number of jobs that share the output channels of a block
    Py_ssize_t group                         # output blocks whose products are in M at the same time
    Py_ssize_t v_row, v_plane                # in V, elements between tiles, between planes
    Py_ssize_t m_row, m_plane                # in M, elements between tiles, between planes
    Py_ssize_t sum_channels                  # most channels of a sum in registers; the sums are then added to M
    Py_ssize_t weight_channels               # "outputs": channels whose weights are transformed at a time
    bint biased, residual, clamped, stream
    double low, high


cdef inline winograd_tiles cut_tiles(Py_ssize_t batch, Py_ssize_t height, Py_ssize_t width, Py_ssize_t out_height,
                                     Py_ssize_t out_width, Py_ssize_t pad_y, Py_ssize_t pad_x) noexcept nogil:
    """The tiles of 4x4 output pixels that cover `batch` output images."""
    cdef winograd_tiles t
    t.height, t.width, t.out_height, t.out_width, t.pad_y, t.pad_x = height, width, out_height, out_width, pad_y, pad_x
    t.rows, t.columns = (out_height + 3) // 4, (out_width + 3) // 4
    t.count = batch * t.rows * t.columns
    return t
