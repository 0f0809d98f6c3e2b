# Sizes that the classes in scatter.pyx pass to the compiled loops in scatter_loops.pyx.

cdef struct scatter_arguments:
    Py_ssize_t inner, outer              # channels of dy, summed over; channels of dx, produced
    Py_ssize_t kernel_y, kernel_x
    Py_ssize_t span                      # columns of the product: taps of a kernel row x channels of dx
    Py_ssize_t blocks, columns           # number of blocks of TILE_COLS columns; packed columns of all blocks
    # The fields below are only for Gather.
    Py_ssize_t height, width, dy_height, dy_width
    Py_ssize_t stride_y, stride_x, dilation_y, pad_y, pad_x
    Py_ssize_t rows, jobs_y              # rows of dx per job; jobs per image
    Py_ssize_t positions, pitch          # pixels of a row of the buffer; elements from one row to the next
    double low, high                     # limits of the clamp
    bint biased, residual, clamped
