# Sizes that the class in weight.pyx passes to the compiled loops in weight_loops.pyx.

from cconv.kernels.conv.strip cimport Strip

cdef struct weight_arguments:
    Strip strip
    Py_ssize_t batch, groups, inner, outer, taps    # inner, outer: input and output channels of a group
    Py_ssize_t outputs_z                            # output pixels along depth
    Py_ssize_t run_length                           # if merged: taps of a kernel row x channels; else channels
    Py_ssize_t block, blocks                        # input channels of a job; number of blocks
    Py_ssize_t columns, column_blocks               # packed outputs of a group; number of blocks of TILE_COLS
    Py_ssize_t column_jobs                          # number of jobs along the output channels
    Py_ssize_t tile                                 # channels of a register tile and of a panel, at most
    Py_ssize_t images, rows, row_pixels             # size of a pixel block
    Py_ssize_t blocks_n, blocks_h, blocks_w         # number of pixel blocks along each axis
    Py_ssize_t pixel_blocks, shares                 # number of pixel blocks; shares with partial sums of their own
    const Py_ssize_t* tap_offset                    # of each segment in the strip, in elements
    Py_ssize_t segments                             # taps, or kernel rows if merged
    const Py_ssize_t* row_offset                    # of each row of a pixel block in the strip, or in x, in bytes
    Py_ssize_t share_size, strip_size               # in elements
    Py_ssize_t turned                               # channels of dw whose shares one chunk adds up and transposes
    bint merged                                     # the taps and channels of a kernel row are contiguous in the strip
    bint in_place                                   # x is read without a strip: there is one tap and no padding
