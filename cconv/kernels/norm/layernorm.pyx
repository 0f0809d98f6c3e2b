"""Normalisation of each row by itself: layer, RMS, and instance normalisation of row-major maps.

    y = (x - mean) * inverse * scale + bias        x (rows, columns)

The mean of a row is computed first, then the sums of deviations from it and of their squares, as in norm.pyx. The row
is then in the nearest cache, so x is read from memory once. Partial sums are taken in `real` and added up in double.

Parallel over blocks of rows. The gradients of scale and bias are summed per block, each block in memory of its own, and
added up in the order of the blocks.

Scale and bias have one value per column, or, if `channels` is not 0, one per channel: row r then has channel
r mod channels.
"""

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.loop cimport chunk_loop
from cconv.kernels.core.step cimport OK, Step, per_chunk
from cconv.kernels.norm.layernorm cimport COLUMNS, row_norm_arguments

cdef enum:
    BLOCKS = 128   # most blocks of rows: each has its own sums of the parameters' gradients


cdef class RowSteps(Step):
    """Base of steps over (rows, columns), cut into blocks of rows.

    Args:
        centered: whether the mean is subtracted; False for RMS normalisation.
        channels: 0, or the number of channels, if scale and bias have one value per channel.

    Raises:
        ValueError: rows without columns, or a number of rows that is no multiple of the channels.
    """

    cdef row_norm_arguments sizes

    cdef int plan(self, Py_ssize_t rows, Py_ssize_t columns, bint centered, Py_ssize_t channels) except -1:
        if columns < 1 or (channels and rows % channels):
            raise ValueError(
                f"{type(self).__name__}: at least one column, and rows of whole channels; "
                f"found {rows} rows of {columns} columns, {channels} channels"
            )
        cdef row_norm_arguments* s = &self.sizes
        self.arguments = s
        s.rows, s.columns, s.centered, s.channels = rows, columns, centered, channels
        s.row_block = max(per_chunk(columns), ceil_div(rows, BLOCKS))
        self.chunks = s.blocks = ceil_div(rows, s.row_block)
        return 0


cdef class RowNorm(RowSteps):
    """y as above, with inverse = 1 / sqrt(variance + epsilon), or without a mean 1 / sqrt(mean of x^2 + epsilon).

    Args:
        build: whose loops run.
        rows, columns: sizes of the axes.
        The others as for RowSteps.

    Operands: x (rows, columns), scale, bias (columns,) or (channels,), y (rows, columns), mean, inverse (rows,). Scale
    and bias may be absent (1 and 0). Mean and inverse may be absent if no step reads them. y may be x.
    """

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t columns, double epsilon, bint centered=True,
                 Py_ssize_t channels=0):
        self.operands = 6
        self.loop = build.loop("layernorm", "normalize")
        self.plan(rows, columns, centered, channels)
        self.sizes.epsilon = epsilon


cdef class RowNormGradient(RowSteps):
    """With u = (x - mean) * inverse and g = dy * scale,

        dx = inverse * (g - mean(g) - u * mean(g * u))     without mean(g) if x is not centered
        dscale = sum of dy * u, dbias = sum of dy          over the rows; with channels, over the columns of each row

    Args:
        build: whose loops run.
        rows, columns: sizes of the axes.
        The others as for RowSteps.

    Operands: dy, x (rows, columns), mean, inverse (rows,), scale, dx (rows, columns), partials (chunks, 2, columns)
    double, dscale, dbias (columns,) or (rows,). These may be absent: mean (0), scale (1), dx, and both of dscale and
    dbias. Partials may be absent if dscale and dbias are, or with channels. dx may be dy or x.
    """

    cdef chunk_loop combine

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t columns, bint centered=True, Py_ssize_t channels=0):
        self.operands = 9
        self.loop = build.loop("layernorm", "gradient")
        self.combine = build.loop("layernorm", "combine")
        self.plan(rows, columns, centered, channels)
        self.scratch_bytes = 0 if channels else 2 * ceil_div(columns, build.lanes) * build.lanes * build.itemsize

    cdef int run(self) noexcept nogil:
        self.run_chunks(self.loop, self.chunks)
        if self.operand[7] != NULL and not self.sizes.channels:
            self.run_chunks(self.combine, ceil_div(self.sizes.columns, COLUMNS))
        return OK
