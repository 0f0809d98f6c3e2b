# What the class of winograd_weight.pyx tells the loops of winograd_weight_loops.pyx.

from cconv.kernels.conv.winograd cimport winograd_tiles

cdef struct winograd_weight_arguments:
    winograd_tiles tiles
    Py_ssize_t inner, outer       # channels, outputs
    Py_ssize_t column_blocks      # blocks of TILE_COLS outputs
    Py_ssize_t block              # tiles of a block
    Py_ssize_t first              # "transform", "planes", "outputs": first tile of the block they work on
    Py_ssize_t sum_tiles          # tiles that are summed from zero, at most
    Py_ssize_t shares             # "shares": of the tiles
    Py_ssize_t pieces             # "outputs": of the channels
    Py_ssize_t back_channels      # "back": of a chunk
    Py_ssize_t plane              # elements of a plane of dU
    Py_ssize_t sums               # elements of the partial sums before dU: the V and Y that threads share
    bint own                      # "outputs": each job transforms V and Y for itself
