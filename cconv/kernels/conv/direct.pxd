# What the classes of direct.pyx tell the loops of direct_loops.pyx.

from cconv.kernels.conv.derivative cimport Derivative
from cconv.kernels.conv.strip cimport Strip

cdef enum:
    # Channels of a segment whose tiles fetch several things, one after the other. A step fetches one line, so a segment
    # fetches one line of each of 16 rows.
    PIECE = 16
    # Channels that a chunk packs for an input gradient. Blocks of channels are multiples of it, or all channels.
    SLICE_CHANNELS = 16

# One gather; an input gradient of a strided convolution has several.
cdef struct Part:
    Strip strip
    const Py_ssize_t* offset                             # of each segment in the strip, bytes
    Py_ssize_t segments
    Py_ssize_t taps
    Py_ssize_t weights                                   # where the part's packed weights begin
    Py_ssize_t images, rows, columns                     # pixels of a job along each axis
    Py_ssize_t jobs_n, jobs_d, jobs_h, jobs_w, jobs_k    # jobs along each axis
    Py_ssize_t pixel_blocks                              # jobs_n * jobs_d * jobs_h * jobs_w
    Py_ssize_t jobs                                      # pixel_blocks * groups * jobs_k
    bint by_outputs              # neighbouring jobs share weights instead of pixels, as there are more weights
    bint weights_ahead           # there are more weights than pixels, so tiles fetch the weights that come next

cdef struct gather_arguments:
    Part* parts
    Py_ssize_t batch, groups
    Py_ssize_t inner, outer                        # channels of a group that are summed over, and that are produced
    Py_ssize_t source_channels, target_channels    # of all groups
    Py_ssize_t block, blocks                       # input channels of a block; number of blocks
    Py_ssize_t columns, column_blocks              # packed columns of a group; blocks of TILE_COLS
    Py_ssize_t target[3]                           # spatial sizes of the target
    Py_ssize_t strip_bytes                         # of the scratch; sums and moments come behind it
    double low, high                               # of the clamp
    Derivative derivative                          # for `add_parameter_sums`
    bint biased, residual, clamped
    bint in_place                                  # pixels are read where they are, without a strip
    bint merged                                    # the taps and channels of a kernel row are one run of the strip
    bint with_statistics                           # `add_statistics` was called
    bint applies_derivative                        # `add_parameter_sums` was called
    bint in_pieces                                 # channels are cut into segments of PIECE
    bint streamed                                  # the target is stored past the caches

# Where a tap of the kernel is packed.
cdef struct Tap:
    Py_ssize_t before            # taps of all parts before its part
    Py_ssize_t of                # taps of its part
    Py_ssize_t place             # its index among these; -1 if no output reads the tap

cdef struct pack_arguments:
    Py_ssize_t groups, inner, outer, taps, block, columns, column_blocks
    Py_ssize_t group_stride, inner_stride, outer_stride    # elements, of the weights in ONNX's order
    Py_ssize_t slices            # chunks of a group
    const Tap* tap               # by index in the kernel
    bint forward
