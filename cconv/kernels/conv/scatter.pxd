# What the classes of scatter.pyx tell the loops of scatter_loops.pyx.

cdef struct scatter_arguments:
    Py_ssize_t inner, outer              # channels that are summed over (of dy), and that are produced (of dx)
    Py_ssize_t kernel_y, kernel_x
    Py_ssize_t span                      # columns: the taps of a kernel row and the channels of each
    Py_ssize_t blocks, columns           # blocks of TILE_COLS of them; all packed columns
    # For the input gradient alone.
    Py_ssize_t height, width, dy_height, dy_width
    Py_ssize_t stride_y, stride_x, dilation_y, pad_y, pad_x
    Py_ssize_t rows, jobs_y              # rows of dx of a job; jobs of an image
    Py_ssize_t positions, pitch          # pixels of a row of the buffer; elements from one row to the next
    double low, high                     # of the clamp
    bint biased, residual, clamped
