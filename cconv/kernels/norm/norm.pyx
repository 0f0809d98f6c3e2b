"""Normalisation over channels-last rows: x (rows, channels), where rows are the batch and spatial axes together.

If `batch` is not 1, x is (batch, rows, channels) and each sample has statistics of its own. That is instance
normalisation, and group normalisation if channels are grouped. Scale and bias have one value per channel all the same.

Statistics. A chunk is a block of rows and a block of channels, small enough to stay in L2. A chunk first computes its
mean. Then it sums the deviations from that mean and their squares. The mean may be rough, since the sum of deviations
corrects it. The sum of squares does not cancel, since the large mean is already subtracted. Chunks are combined
pairwise in double, in the order of the rows (Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances", 1979). So x is read from memory once. A mean of 1e4 standard deviations loses no digits
beyond those that float32 lost in x itself. If x is the result of a convolution, the chunks are the convolution's
jobs. These measure it while it is in registers (moments.h), and x is not read at all.

Sums of PART rows are taken in `real` and added up in double. The rows of a part are read a FEW at a time, and the
sums go back to scratch memory in between. Hardware prefetching does not follow a walk down 32 rows, vector by vector
(ParameterGradient of 51 MB a tensor, one thread: 8.9 -> 5.6 ms).

Parallel over chunks. Each chunk of a reduction writes to its own place in `partials`. The places are combined in the
order of the row blocks, so the bits do not depend on the number of threads.

Residual and activation. The steps that write y add a residual and apply an activation f while the value is in a
register: y = f(z + residual), where z is the normalised x. The steps that read dy multiply it by the derivative of f.
They take the derivative at z, which they recompute from x, as they read x anyway; or they compute it from y. So
neither costs a pass of its own. An activation is (name, a, b): the name is one of `activations`, a and b are the
parameters of its formula in elementwise.h. None stands for no activation. The sums over dy can have been computed by
the convolution that made dy (gradient_sums.h).
"""

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.loop cimport chunk_loop
from cconv.kernels.core.step cimport OK, STATISTICS_NOT_FINITE, Step, per_chunk
from cconv.kernels.norm.norm cimport (
    CHANNEL_BLOCK, LEAST_ROWS, PART, average_arguments, check_arguments, fold_arguments, row_arguments,
)


def activations(Build build):
    """Names of the activations that can follow a normalisation."""
    return tuple(build.table("norm", "ACTIVATIONS"))


def from_either(Build build):
    """Activations whose derivative can be computed from f(z) as well as from z; leaky_relu's if a >= 0."""
    return build.table("norm", "FROM_EITHER")


cdef inline Py_ssize_t row_block_of(Py_ssize_t channels) noexcept nogil:
    """Rows of a block."""
    return max(<Py_ssize_t>LEAST_ROWS, per_chunk(channels) // PART * PART)


def row_blocks_of(Py_ssize_t rows, Py_ssize_t channels):
    """Number of row blocks that steps over (rows, channels) cut; `partials` has 2 * channels doubles for each."""
    return ceil_div(rows, row_block_of(channels))


cdef class Rows(Step):
    """Base of steps over (batch, rows, channels), cut into samples, blocks of rows and blocks of channels.

    Args:
        build: whose loops run.
        rows, channels: sizes of the axes.
        activation: (name, a, b) of the function that follows the normalisation, or None.
        batch: size of the first axis. If it is not 1, statistics and sums are (batch, channels), not (channels,).

    Raises:
        ValueError: fewer rows than `least`, which the arithmetic needs; an activation that is not in `activations`.
    """

    cdef row_arguments sizes
    cdef Py_ssize_t batch
    cdef Py_ssize_t row_bytes

    cdef int plan(self, Build build, Py_ssize_t rows, Py_ssize_t channels, Py_ssize_t least, activation,
                  Py_ssize_t batch) except -1:
        if rows < least:
            raise ValueError(f"{type(self).__name__}: needs at least {least} rows; found {rows}")
        cdef row_arguments* s = &self.sizes
        self.arguments = s
        name, s.a, s.b = activation or ("none", 0, 0)
        if name not in activations(build):
            names = ", ".join(activations(build))
            raise ValueError(f"{type(self).__name__}: activation is one of {names}; found {name!r}")
        s.activation = build.address("norm", "ACTIVATIONS", name)
        s.rows, s.channels = rows, channels
        s.row_block = row_block_of(channels)
        s.row_blocks = ceil_div(rows, s.row_block)
        s.channel_blocks = ceil_div(channels, CHANNEL_BLOCK)
        self.batch = batch
        self.row_bytes = channels * build.itemsize
        self.chunks = batch * s.row_blocks * s.channel_blocks
        return 0

    cdef Py_ssize_t channel_chunks(self) noexcept nogil:
        """Chunks of a loop that combines the row blocks' partials."""
        return self.batch * self.sizes.channel_blocks


cdef class RowMap(Rows):
    """Base of steps that write an array like x, which may bypass the caches."""

    cdef int result   # the operand that is written

    cdef int run(self) noexcept nogil:
        cdef Py_ssize_t row = self.row_bytes
        self.sizes.stream = self.streams_to(self.result, self.batch * self.sizes.rows * row, row, row)
        self.run_chunks(self.loop, self.chunks)
        return OK


cdef class Statistics(Rows):
    """Mean and population variance of each channel; inverse = 1 / sqrt(variance + epsilon).

    Args:
        build: whose loops run.
        rows, channels, batch: as for Rows.
        epsilon: added to the variance.
        groups: number of groups of neighbouring channels that share statistics; 0: each channel has its own.
        block_rows: given if another step writes `partials` (a convolution's statistics epilogue): the number of rows of
            each block. x is then absent. None: this step computes `partials` from x.

    Attributes:
        reads_x: whether x is read.

    Operands: x (rows, channels), partials (row_blocks_of(rows, channels), 2, channels) double,
    mean, variance, inverse (channels,); each of them once per sample. Variance may be absent.

    Raises:
        ValueError: no rows; a number of channels that is no multiple of the groups; `block_rows` that do not add up
            to `rows`, or are given for several samples.
    """

    cdef chunk_loop combine, share
    cdef readonly bint reads_x

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t channels, double epsilon, Py_ssize_t batch=1,
                 Py_ssize_t groups=0, block_rows=None):
        self.plan(build, rows, channels, 1, None, batch)
        if groups and channels % groups:
            raise ValueError(f"Statistics: {channels} channels do not make {groups} groups")
        self.reads_x = block_rows is None
        if not self.reads_x:
            if batch != 1 or sum(block_rows) != rows:
                raise ValueError(
                    f"Statistics: block_rows add up to {rows} rows of one sample; found {block_rows}, {batch} samples"
                )
            self.sizes.block_rows = self.longs(block_rows)
            self.sizes.row_blocks = len(block_rows)
        self.operands = 5
        self.loop = build.loop("norm", "measure")
        self.combine = build.loop("norm", "combine_statistics")
        self.share = build.loop("norm", "share_statistics")
        self.sizes.epsilon, self.sizes.groups = epsilon, groups
        self.scratch_bytes = 3 * CHANNEL_BLOCK * build.itemsize

    cdef int run(self) noexcept nogil:
        if self.reads_x:
            self.run_chunks(self.loop, self.chunks)
        self.run_chunks(self.combine, self.channel_chunks())
        if self.sizes.groups:
            self.run_chunks(self.share, self.batch)
        return OK


cdef class Normalize(RowMap):
    """y = f((x - mean) * (inverse * scale) + bias + residual).

    The mean is subtracted before the product. If it were folded into the bias, a large mean would cancel.

    Args: as for Rows.

    Operands: x (rows, channels), mean, inverse, scale, bias (channels,), residual, y (rows, channels). The residual may
    be absent (zero); y may be x or residual.
    """

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t channels, activation=None, Py_ssize_t batch=1):
        self.operands, self.result = 7, 6
        self.loop = build.loop("norm", "normalize")
        self.plan(build, rows, channels, 0, activation, batch)


cdef class Affine(RowMap):
    """y = f(x * factor + shift + residual).

    Args: as for Rows.

    Operands: x (rows, channels), factor, shift (channels,), residual, y (rows, channels). Shift and residual may be
    absent (zero); y may be x or residual.
    """

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t channels, activation=None):
        self.operands, self.result = 5, 4
        self.loop = build.loop("norm", "affine")
        self.plan(build, rows, channels, 0, activation, 1)


cdef class Fold(Step):
    """factor = scale * inverse, shift = bias - mean * factor, inverse = 1 / sqrt(variance + epsilon).

    Computed in double and rounded once. Not parallel, as there is one value per channel.

    Operands: scale, bias, mean, variance, factor, shift, inverse, all (channels,); inverse may be absent.
    """

    cdef fold_arguments sizes

    def __init__(self, Build build, Py_ssize_t channels, double epsilon):
        self.operands = 7
        self.loop = build.loop("norm", "fold")
        self.arguments = &self.sizes
        self.sizes.channels, self.sizes.epsilon = channels, epsilon
        self.chunks = 1


cdef class FoldConvolution(Step):
    """A convolution's weights and bias with the normalisation of its output folded in; inverse is that of Fold:

        weight' = weight * scale * inverse        bias' = (bias - mean) * scale * inverse + shift

    Computed in double and rounded once. Parallel over the output channels.

    Args:
        build: whose loops run.
        groups, repeats, channels, inner: sizes of weight's axes, of which `groups` and `channels` together are the
            output channels: (1, 1, K, C/groups * taps) of a Conv, (groups, C/groups, K/groups, taps) of a
            ConvTranspose.
        epsilon: added to the variance.

    Operands: weight (groups, repeats, channels, inner), bias, scale, shift, mean, variance (groups * channels,),
    weight' like weight, bias' like bias. Bias may be absent (zero).
    """

    cdef fold_arguments sizes

    def __init__(self, Build build, Py_ssize_t groups, Py_ssize_t repeats, Py_ssize_t channels, Py_ssize_t inner,
                 double epsilon):
        self.operands = 8
        self.loop = build.loop("norm", "fold_convolution")
        self.arguments = &self.sizes
        self.sizes.groups, self.sizes.repeats = groups, repeats
        self.sizes.channels, self.sizes.inner = channels, inner
        self.sizes.epsilon = epsilon
        self.chunks = groups * channels


cdef class ParameterGradient(Rows):
    """dbias = sum of dz, dscale = sum of dz * (x - mean) * inverse, over the rows; dz = dy * f'.

    f' is computed from y if y is given, else from z = (x - mean) * (inverse * scale) + bias, as in Normalize. dz is
    stored if it has an address: it is the gradient of a residual that was added.

    Args:
        build: whose loops run.
        rows, channels, activation, batch: as for Rows.
        blocks: given if another step writes `partials`, the sums of dz * (x - mean) and of dz: their number of blocks.
            0: this step computes `partials` from dy and x.

    Attributes:
        reads_dy: whether dy and x are read.

    Operands: dy, x (rows, channels), mean, inverse, scale, bias (channels,), y, dz (rows, channels), partials
    (row_blocks_of(rows, channels), 2, channels) double, dscale, dbias (channels,). Scale and bias are read with an
    activation and no y, and may be absent otherwise. y and dz may always be absent; dz may be dy. If
    `blocks` is given, only inverse and partials are read.

    Raises:
        ValueError: no rows.
    """

    cdef chunk_loop combine
    cdef readonly bint reads_dy

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t channels, activation=None, Py_ssize_t batch=1,
                 Py_ssize_t blocks=0):
        self.plan(build, rows, channels, 1, activation, batch)
        self.reads_dy = blocks == 0
        if not self.reads_dy:
            self.sizes.row_blocks = blocks
        self.operands = 11
        self.loop = build.loop("norm", "sum_gradients")
        self.combine = build.loop("norm", "combine_gradients")
        self.scratch_bytes = 2 * CHANNEL_BLOCK * build.itemsize

    cdef int run(self) noexcept nogil:
        if self.reads_dy:
            self.run_chunks(self.loop, self.chunks)
        self.run_chunks(self.combine, self.channel_chunks())
        return OK


cdef class InputGradient(RowMap):
    """The gradient through batch statistics. With u = (x - mean) * inverse, z = u * scale + bias, dz = dy * f'(z),

        dx = scale * inverse * (dz - dbias / rows - u * dscale / rows)

    The mean of x contributes mean(dz) = dbias / rows, its variance mean(dz * u) = dscale / rows. If channels are
    grouped, the contributions are the means over the group of dz * scale and of dz * scale * u:

        dx = inverse * (dz * scale - dbias / rows - u * dscale / rows)

    Here dbias and dscale are the means, over the group's channels, of ParameterGradient's results times scale.

    Args:
        build: whose loops run.
        rows, channels, activation, batch: as for Rows.
        grouped: whether the second formula holds.

    Operands: dy, x (rows, channels), mean, inverse, scale, bias, dscale, dbias (channels,), dx (rows, channels). Bias
    is read with an activation and may be absent without one; dx may be dy or x.

    Raises:
        ValueError: no rows.
    """

    def __init__(self, Build build, Py_ssize_t rows, Py_ssize_t channels, activation=None, Py_ssize_t batch=1,
                 bint grouped=False):
        self.operands, self.result = 9, 8
        self.loop = build.loop("norm", "input_gradient")
        self.plan(build, rows, channels, 1, activation, batch)
        self.sizes.grouped = grouped


cdef class RunningAverage(Step):
    """new = old * momentum + batch * (1 - momentum), for mean and variance.

    Not parallel, as there is one value per channel.

    Operands: batch_mean, batch_variance, old_mean, old_variance, new_mean, new_variance, all (channels,); the
    new ones may be the old ones.
    """

    cdef average_arguments sizes

    def __init__(self, Build build, Py_ssize_t channels, double momentum):
        self.operands = 6
        self.loop = build.loop("norm", "running_average")
        self.arguments = &self.sizes
        self.sizes.channels, self.sizes.momentum = channels, momentum
        self.chunks = 1


cdef class CheckStatistics(Step):
    """Status STATISTICS_NOT_FINITE if RunningAverage would write NaN or infinity.

    Runs before the weights are updated, so that the training step changes nothing.

    Operands: batch_mean, batch_variance, old_mean, old_variance, all (channels,).
    """

    cdef check_arguments sizes

    def __init__(self, Build build, Py_ssize_t channels):
        self.operands = 4
        self.loop = build.loop("norm", "check_statistics")
        self.arguments = &self.sizes
        self.sizes.channels = channels
        self.chunks = 1

    cdef int run(self) noexcept nogil:
        self.run_chunks(self.loop, 1)
        return OK if self.sizes.finite else STATISTICS_NOT_FINITE
