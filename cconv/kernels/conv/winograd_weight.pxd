# Sizes that the class in winograd_weight.pyx passes to the compiled loops in winograd_weight_loops.pyx.

from cconv.kernels.conv.winograd cimport winograd_tiles

cdef struct winograd_weight_arguments:
    winograd_tiles tiles
    Py_ssize_t inner, outer       # input channels, output channels
    Py_ssize_t column_blocks      # blocks of TILE_COLS outputs
    Py_ssize_t block              # number of tiles per block
    Py_ssize_t first              # first tile of the block that "transform", "planes", "outputs" work on
    Py_ssize_t sum_tiles          # most tiles of a sum in registers; the sums are then added in memory
    Py_ssize_t shares             # "shares": number of shares that the tiles are split into
    Py_ssize_t pieces             # "outputs": number of pieces that the input channels are split into
    Py_ssize_t back_channels      # "back": input channels per chunk
    Py_ssize_t plane              # elements of a plane of dU
    Py_ssize_t sums               # elements before dU in the operand of partial sums: the V and Y that threads share
    bint own                      # "outputs": each job transforms V and Y for itself
