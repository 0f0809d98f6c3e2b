# Sizes that the classes in direct.pyx pass to the compiled loops in direct_loops.pyx.

from cconv.kernels.conv.derivative cimport Derivative
from cconv.kernels.conv.strip cimport Strip

cdef enum:
    # Channels of a segment if a tile prefetches from several streams: segment s prefetches from stream s. Each of its
    # 16 channel steps prefetches one cache line, so a segment prefetches one line of each of 16 pixels.
    PIECE = 16
    # Channels that one chunk of Pack packs for an input gradient. A channel block is a multiple of it, or all channels.
    SLICE_CHANNELS = 16

# One gather. The input gradient of a strided convolution has several, one per residue of the position.
cdef struct Part:
    Strip strip
    const Py_ssize_t* offset                             # of each segment in the strip, in bytes
    Py_ssize_t segments
    Py_ssize_t taps
    Py_ssize_t weights                                   # element at which the part's packed weights begin
    Py_ssize_t images, rows, columns                     # images, rows and columns of output pixels of a job
    Py_ssize_t jobs_n, jobs_d, jobs_h, jobs_w, jobs_k    # number of jobs along each axis; k: output channels
    Py_ssize_t pixel_blocks                              # jobs_n * jobs_d * jobs_h * jobs_w
    Py_ssize_t jobs                                      # pixel_blocks * groups * jobs_k
    bint by_outputs              # more weights than pixels: consecutive jobs use the same weights, not the same pixels
    bint weights_ahead           # more weights than pixels: tiles prefetch the next block of weights, not pixels

cdef struct gather_arguments:
    Part* parts
    Py_ssize_t batch, groups
    Py_ssize_t inner, outer                        # channels of a group: summed over; produced
    Py_ssize_t source_channels, target_channels    # channels of all groups together
    Py_ssize_t block, blocks                       # input channels of a block; number of blocks
    Py_ssize_t columns, column_blocks              # packed output channels of a group; number of blocks of TILE_COLS
    Py_ssize_t target[3]                           # spatial sizes of the target
    Py_ssize_t strip_bytes                         # bytes of the strip in the scratch memory; sums or moments follow it
    double low, high                               # limits of the clamp
    Derivative derivative                          # of the activation, for `add_parameter_sums`
    bint biased, residual, clamped
    bint in_place                                  # pixels are read from the source itself, without a strip
    bint merged                                    # the taps and channels of a kernel row are contiguous in the strip
    bint with_statistics                           # `add_statistics` was called
    bint applies_derivative                        # `add_parameter_sums` was called
    bint in_pieces                                 # channels are split into segments of PIECE
    bint streamed                                  # stores to the target bypass the caches

# Where Pack puts a tap of the kernel. An input gradient distributes the taps over several parts (gathers).
cdef struct Tap:
    Py_ssize_t before            # number of taps in all parts before the tap's part
    Py_ssize_t of                # number of taps in the tap's part
    Py_ssize_t place             # the tap's index in its part; -1 if no output reads the tap

cdef struct pack_arguments:
    Py_ssize_t groups, inner, outer, taps, block, columns, column_blocks
    Py_ssize_t group_stride, inner_stride, outer_stride    # in elements, of the weights in ONNX's order
    Py_ssize_t slices            # number of chunks per group
    const Tap* tap               # one per tap, by its index in the kernel
    bint forward
