# What the class of weight.pyx tells the loops of weight_loops.pyx.

from cconv.kernels.conv.strip cimport Strip

cdef struct weight_arguments:
    Strip strip
    Py_ssize_t batch, groups, inner, outer, taps    # inner, outer: input and output channels of a group
    Py_ssize_t outputs_z                            # output pixels along depth
    Py_ssize_t run_length                           # merged taps x channels, or the channels of a group
    Py_ssize_t block, blocks                        # input channels of a job; number of blocks
    Py_ssize_t columns, column_blocks               # packed columns of a group; blocks of TILE_COLS
    Py_ssize_t column_jobs                          # jobs along the outputs
    Py_ssize_t tile                                 # channels of a tile and of a panel at most
    Py_ssize_t images, rows, row_pixels             # of a pixel block
    Py_ssize_t blocks_n, blocks_h, blocks_w         # pixel blocks along each axis
    Py_ssize_t pixel_blocks, shares
    const Py_ssize_t* tap_offset                    # of each segment in the strip, elements
    Py_ssize_t segments
    const Py_ssize_t* row_offset                    # of each row of a pixel block in the strip, or in x, bytes
    Py_ssize_t share_size, strip_size               # elements
    Py_ssize_t turned                               # channels of dw that a chunk adds up and transposes
    bint merged                                     # the taps and channels of a kernel row are one run of the strip
    bint in_place                                   # x is read where it is: there is one tap, and no border
