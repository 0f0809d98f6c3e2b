# What the classes of winograd.pyx tell the loops of winograd_loops.pyx, and what these share with winograd_weight.pyx.

cdef enum:
    PLANES = 36          # of a transformed tile
    TAPS = 9
    PACK_CHANNELS = 16   # of a chunk of Pack: what a chunk writes lies side by side

# The tiles of 4x4 outputs of all images, numbered row by row.
cdef struct winograd_tiles:
    Py_ssize_t height, width           # of the image that the 6x6 inputs come from
    Py_ssize_t out_height, out_width
    Py_ssize_t pad_y, pad_x
    Py_ssize_t rows, columns           # tiles of an image
    Py_ssize_t count                   # of all images

cdef struct winograd_arguments:
    winograd_tiles tiles
    Py_ssize_t inner, outer                  # channels that are summed over; channels of the target
    Py_ssize_t inner_stride, outer_stride    # of the weights, elements
    Py_ssize_t column_blocks                 # blocks of TILE_COLS outputs
    int place[TAPS]                          # which tap of the gather each element of ONNX's kernel is
    Py_ssize_t block                         # tiles of a block
    Py_ssize_t current                       # "transform", "planes", "back", "outputs": the block of tiles they work on
    Py_ssize_t parts                         # "tiles": jobs that a block's outputs are cut into
    Py_ssize_t group                         # blocks of outputs whose products M holds at once
    Py_ssize_t v_row, v_plane                # elements between tiles, between planes of V
    Py_ssize_t m_row, m_plane                # of M
    Py_ssize_t sum_channels                  # channels whose products are summed from zero
    Py_ssize_t weight_channels               # "outputs": channels whose weights are transformed at once
    bint biased, residual, clamped, stream
    double low, high


cdef inline winograd_tiles cut_tiles(Py_ssize_t batch, Py_ssize_t height, Py_ssize_t width, Py_ssize_t out_height,
                                     Py_ssize_t out_width, Py_ssize_t pad_y, Py_ssize_t pad_x) noexcept nogil:
    """The tiles that cover `batch` images of outputs."""
    cdef winograd_tiles t
    t.height, t.width, t.out_height, t.out_width, t.pad_y, t.pad_x = height, width, out_height, out_width, pad_y, pad_x
    t.rows, t.columns = (out_height + 3) // 4, (out_width + 3) // 4
    t.count = batch * t.rows * t.columns
    return t
