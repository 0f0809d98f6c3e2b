"""Normalisation over channels-last rows: x (rows, channels), rows being batch and spatial axes together.

With `batch` the same for each of several samples, x (batch, rows, channels), with statistics of its own: instance
normalisation, and with channels grouped, group normalisation. Scale and bias are per channel all the same.

Statistics. Each chunk (a block of rows, a block of channels, small enough to stay in L2) first finds its mean,
then sums deviations from that mean and their squares. The first sum may be rough, since the second corrects
it; the sum of squares of deviations has no large mean in it to cancel. Chunks are combined pairwise in double,
in the order of the rows (Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing
sample variances", 1979). So x is read from memory once, and a mean of 1e4 standard deviations costs no digits
beyond those that float32 has lost in x itself. Of a convolution's result the chunks are its jobs, which measure it
while it is in registers (moments.h), and x is not read at all.

Sums run over PART rows in `real` and from there on in double. The rows of a part are read a FEW at a time, their sums
going back to scratch in between: down 32 rows at once, vector by vector, the processor's prefetching does not follow
(ParameterGradient of 51 MB a tensor, one thread: 8.9 -> 5.6 ms). Parallel over chunks; what a chunk finds goes to
a place of its own in `partials` and is combined in the order of the row blocks, so the bits do not depend on
the number of threads.

What follows a normalisation costs no pass of its own: the steps that write y add a residual and apply an activation
f, y = f(z + residual) with z the normalised x, while the value is in a register; the steps that read dy take f's
derivative there, from z, which they compute again of the x they read anyway, or from y. An activation is
(name, a, b), one of ACTIVATIONS with the parameters of its loop in elementwise.h, or None. Sums over dy, too, can have
been found by the convolution that made it (gradient_sums.h).
"""

import numpy as np

from libc.math cimport sqrt
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.core.simd cimport VL, real, stream_end, vf, vload, vload_n, vset, vstore, vstore_n, vzero
from cconv.kernels.core.step cimport OK, Step

cdef extern from "norm.h" nogil:
    ctypedef struct norm_terms:
        const real* mean
        const real* inverse
        const real* scale
        const real* bias
        const real* dscale
        const real* dbias
        real a, b, share
        bint grouped, stream
    ctypedef struct norm_loops:
        const char* name
        void (*apply)(const norm_terms* t, const real* x, const real* residual, real* y, Py_ssize_t stride,
                      Py_ssize_t rows, Py_ssize_t channels) noexcept nogil
        void (*sums)(const norm_terms* t, const real* dy, const real* x, const real* y, real* dz, Py_ssize_t stride,
                     Py_ssize_t rows, Py_ssize_t channels, real* scales, real* biases) noexcept nogil
        void (*input)(const norm_terms* t, const real* dy, const real* x, real* dx, Py_ssize_t stride,
                      Py_ssize_t rows, Py_ssize_t channels) noexcept nogil
        int either
    real* past(const real* p, Py_ssize_t i)
    const norm_loops activation_rows[1]
    const int activation_count
    const int FEW    # rows that are read before sums go back to memory, see below

cdef enum:
    PART = 32       # rows summed in `real` before the sum goes to a double
    LEAST_ROWS = 128

# Elements of a chunk.
CHUNK = 32768

# Activations by name: rows of the table. Of those in FROM_EITHER the derivative can be told from f(z) as well as from z
# (LeakyRelu's for a >= 0).
ACTIVATIONS = {activation_rows[i].name.decode(): i for i in range(activation_count)}
FROM_EITHER = tuple(name for name, i in ACTIVATIONS.items() if activation_rows[i].either)


cdef inline vf load(const real* p, Py_ssize_t n) noexcept nogil:
    return vload(p) if n == VL else vload_n(p, n)


cdef inline void store(real* p, vf v, Py_ssize_t n) noexcept nogil:
    if n == VL:
        vstore(p, v)
    else:
        vstore_n(p, v, n)


cdef inline void flush(double* total, real* part, Py_ssize_t n) noexcept nogil:
    """total += part; part = 0. Both have n elements, and part room for whole vectors."""
    cdef Py_ssize_t i
    for i in range(n):
        total[i] += part[i]
    memset(part, 0, (n + VL - 1) // VL * VL * sizeof(real))


def row_blocks_of(Py_ssize_t rows, Py_ssize_t channels):
    """Blocks of rows that steps over (rows, channels) cut; `partials` has 2 * channels doubles for each."""
    block = Rows(rows, channels).row_block
    return (rows + block - 1) // block


cdef class Rows(Step):
    """Base of steps over (batch, rows, channels), cut into samples, blocks of rows, and blocks of channels.

    Args:
        rows, channels: sizes of the axes.
        least: rows that the arithmetic needs.
        activation: (name, a, b) of what follows the normalisation, or None.
        batch: size of the first axis. Where it is not 1, statistics and sums are (batch, channels), not (channels,).

    Raises:
        ValueError: fewer rows than that; an activation that is not in ACTIVATIONS.
    """

    cdef readonly Py_ssize_t batch, rows, channels, row_block, channel_block
    cdef Py_ssize_t row_blocks, channel_blocks
    cdef norm_loops loops
    cdef real a, b

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, Py_ssize_t least=0, activation=None,
                 Py_ssize_t batch=1):
        if rows < least:
            raise ValueError(f"{type(self).__name__}: needs at least {least} rows; found {rows}")
        name, self.a, self.b = activation or ("none", 0, 0)
        if name not in ACTIVATIONS:
            raise ValueError(f"{type(self).__name__}: activation is one of {', '.join(ACTIVATIONS)}; found {name!r}")
        self.loops = activation_rows[ACTIVATIONS[name]]
        self.batch, self.rows, self.channels = batch, rows, channels
        self.row_block = max(LEAST_ROWS, CHUNK // max(1, channels) // PART * PART)
        self.channel_block = CHUNK // LEAST_ROWS
        self.row_blocks = (rows + self.row_block - 1) // self.row_block
        self.channel_blocks = (channels + self.channel_block - 1) // self.channel_block

    cdef Py_ssize_t jobs(self, int phase) noexcept nogil:
        """Chunks of the first phase, over all rows, or of a later one, over what these have found."""
        return self.batch * (self.row_blocks if phase == 0 else 1) * self.channel_blocks

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t c = i % self.channel_blocks * self.channel_block
        cdef Py_ssize_t sample = i // self.channel_blocks, block = 0
        if phase == 0:
            block = sample % self.row_blocks
            sample = sample // self.row_blocks
        self.block(phase, sample, block, self.length(block), c, min(self.channel_block, self.channels - c), thread)

    cdef inline norm_terms terms(
        self, int mean, int inverse, int scale, int bias, Py_ssize_t own, Py_ssize_t c) noexcept nogil:
        """What the loops are given: these operands (-1: none), from channel c on; `own` is the sample's first one."""
        cdef norm_terms t
        t.mean = NULL if mean < 0 else past(<real*>self.operand[mean], own + c)
        t.inverse = NULL if inverse < 0 else past(<real*>self.operand[inverse], own + c)
        t.scale = NULL if scale < 0 else past(<real*>self.operand[scale], c)
        t.bias = NULL if bias < 0 else past(<real*>self.operand[bias], c)
        t.dscale = t.dbias = NULL
        t.a, t.b = self.a, self.b
        t.share = <real>(1.0 / <double>self.rows)
        t.grouped = t.stream = False
        return t

    cdef inline bint streams_rows_to(self, int target) noexcept nogil:
        """Whether what is written to this operand, row after row, goes past the caches."""
        cdef Py_ssize_t row = self.channels * sizeof(real)
        return self.streams_to(target, self.batch * self.rows * row, row, row)

    cdef inline Py_ssize_t first(self, Py_ssize_t sample, Py_ssize_t block) noexcept nogil:
        """The first element of a block of rows."""
        return (sample * self.rows + block * self.row_block) * self.channels

    cdef inline double* found(self, int operand, Py_ssize_t sample, Py_ssize_t block) noexcept nogil:
        """The place of a block of rows in `partials`, which is this operand."""
        return <double*>self.operand[operand] + 2 * (sample * self.row_blocks + block) * self.channels

    cdef Py_ssize_t length(self, Py_ssize_t block) noexcept nogil:
        """Rows of a block of rows."""
        return min(self.row_block, self.rows - block * self.row_block)

    cdef void block(self, int phase, Py_ssize_t sample, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c,
                    Py_ssize_t channels, int thread) noexcept nogil:
        """Work on the sample's rows block * row_block .. + rows - 1, channels c .. c + channels - 1."""


cdef class Statistics(Rows):
    """mean, variance = those of each channel (population variance); inverse = 1 / sqrt(variance + epsilon).

    Args:
        groups: number of groups of neighbouring channels that share them; 0: each channel has its own.
        measured: the rows of each block whose mean and sum of squared deviations `partials` already has; x is then absent.

    Attributes:
        measures: whether x is read.

    Operands: x (rows, channels), partials (row_blocks_of(rows, channels), 2, channels) double,
    mean, variance, inverse (channels,); of all, one for each sample. Variance may be absent.

    Raises:
        ValueError: channels that do not make so many groups; measured blocks that are not the rows.
    """

    cdef double epsilon
    cdef Py_ssize_t groups
    cdef readonly bint measures
    cdef object lengths
    cdef const Py_ssize_t* measured    # the lengths of blocks that have been measured

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, double epsilon, Py_ssize_t batch=1,
                 Py_ssize_t groups=0, measured=None):
        Rows.__init__(self, rows, channels, 1, batch=batch)
        if groups and channels % groups:
            raise ValueError(f"Statistics: {channels} channels do not make {groups} groups")
        self.measures = measured is None
        if not self.measures:
            if batch != 1 or sum(measured) != rows:
                raise ValueError(f"Statistics: measured blocks are all of {rows} rows; found {measured} of {batch} samples")
            self.lengths = np.array(measured, np.intp)
            self.measured = <const Py_ssize_t*><uintptr_t>self.lengths.ctypes.data
            self.row_blocks = len(measured)
        self.operands = 5
        self.epsilon = epsilon
        self.groups = groups
        self.scratch_bytes = 3 * self.channel_block * sizeof(real)

    cdef int run(self) noexcept nogil:
        if self.measures:
            self.parallel(0, self.jobs(0))
        self.parallel(1, self.jobs(1))
        if self.groups:
            self.parallel(2, self.batch)
        return OK

    cdef Py_ssize_t length(self, Py_ssize_t block) noexcept nogil:
        return Rows.length(self, block) if self.measures else self.measured[block]

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        if phase == 2:
            self.share(i)
        else:
            Rows.chunk(self, phase, i, thread)

    cdef void block(self, int phase, Py_ssize_t sample, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c,
                    Py_ssize_t channels, int thread) noexcept nogil:
        if phase == 0:
            self.measure(sample, block, rows, c, channels, <real*>self.scratch_of(thread))
        else:
            self.combine(sample, c, channels)

    cdef void measure(self, Py_ssize_t sample, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                      real* rough) noexcept nogil:
        """Mean and sum of squared deviations of one block, into its place in `partials`.

        rough, and behind it sums and squared sums of a part, have channel_block elements each.
        """
        cdef const real* x = <const real*>self.operand[0] + self.first(sample, block) + c
        cdef double* mean = self.found(1, sample, block) + c
        cdef double* squares = mean + self.channels
        cdef real* sums = rough + self.channel_block
        cdef real* squared = sums + self.channel_block
        cdef Py_ssize_t group, r, v, n, i, groups = (rows + FEW - 1) // FEW
        cdef const real* p
        cdef vf s, q, m, d
        memset(mean, 0, channels * sizeof(double))
        memset(squares, 0, channels * sizeof(double))
        memset(sums, 0, 2 * self.channel_block * sizeof(real))
        for group in range(groups):
            for v in range((channels + VL - 1) // VL):
                n = min(<Py_ssize_t>VL, channels - v * VL)
                p = x + group * FEW * self.channels + v * VL
                s = vload(sums + v * VL)
                for r in range(min(<Py_ssize_t>FEW, rows - group * FEW)):
                    s = s + load(p, n)
                    p += self.channels
                vstore(sums + v * VL, s)
            if (group + 1) % (PART // FEW) == 0 or group + 1 == groups:
                flush(mean, sums, channels)
        for i in range(channels):
            rough[i] = <real>(mean[i] / rows)
            mean[i] = 0
        # From here on mean and squares are sums of x - rough and of its square.
        for group in range(groups):
            for v in range((channels + VL - 1) // VL):
                n = min(<Py_ssize_t>VL, channels - v * VL)
                p = x + group * FEW * self.channels + v * VL
                m = load(rough + v * VL, n)
                s = vload(sums + v * VL)
                q = vload(squared + v * VL)
                for r in range(min(<Py_ssize_t>FEW, rows - group * FEW)):
                    d = load(p, n) - m
                    s = s + d
                    q = q + d * d
                    p += self.channels
                vstore(sums + v * VL, s)
                vstore(squared + v * VL, q)
            if (group + 1) % (PART // FEW) == 0 or group + 1 == groups:
                flush(mean, sums, channels)
                flush(squares, squared, channels)
        for i in range(channels):
            squares[i] -= mean[i] * mean[i] / rows
            mean[i] = rough[i] + mean[i] / rows

    cdef void combine(self, Py_ssize_t sample, Py_ssize_t c, Py_ssize_t channels) noexcept nogil:
        """All blocks' partials into the first one's place, and the channels' statistics out of that."""
        cdef double* mean = self.found(1, sample, 0) + c
        cdef double* squares = mean + self.channels
        cdef double* other = mean
        cdef Py_ssize_t block, i, done = self.length(0), rows
        cdef double share, weight, delta
        for block in range(1, self.row_blocks):
            other += 2 * self.channels
            rows = self.length(block)
            share = <double>rows / <double>(done + rows)
            weight = share * <double>done
            for i in range(channels):
                delta = other[i] - mean[i]
                mean[i] += delta * share
                squares[i] += other[self.channels + i] + delta * delta * weight
            done += rows
        if self.groups == 0:
            for i in range(channels):
                self.store(sample * self.channels + c + i, mean[i], squares[i] / self.rows)

    cdef void share(self, Py_ssize_t sample) noexcept nogil:
        """The groups' statistics out of their channels'."""
        cdef double* mean = self.found(1, sample, 0)
        cdef double* squares = mean + self.channels
        cdef Py_ssize_t size = self.channels // self.groups, g, c
        cdef double middle, total
        for g in range(self.groups):
            middle, total = 0, 0
            for c in range(g * size, (g + 1) * size):
                middle += mean[c] / size
            for c in range(g * size, (g + 1) * size):
                total += squares[c] + self.rows * (mean[c] - middle) * (mean[c] - middle)
            for c in range(g * size, (g + 1) * size):
                self.store(sample * self.channels + c, middle, total / (self.rows * size))

    cdef inline void store(self, Py_ssize_t at, double mean, double variance) noexcept nogil:
        variance = 0 if variance < 0 else variance
        (<real*>self.operand[2])[at] = <real>mean
        if self.operand[3] != NULL:
            (<real*>self.operand[3])[at] = <real>variance
        (<real*>self.operand[4])[at] = <real>(1 / sqrt(variance + self.epsilon))


cdef class Normalize(Rows):
    """y = f((x - mean) * (inverse * scale) + bias + residual).

    The mean is subtracted before the product: with a large mean, folding it into the bias would cancel.

    Operands: x (rows, channels), mean, inverse, scale, bias (channels,), residual, y (rows, channels); residual may
    be absent (zero), y may be x or residual.
    """

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, activation=None, Py_ssize_t batch=1):
        Rows.__init__(self, rows, channels, activation=activation, batch=batch)
        self.operands = 7

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.jobs(0))
        return OK

    cdef void block(self, int phase, Py_ssize_t sample, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c,
                    Py_ssize_t channels, int thread) noexcept nogil:
        cdef Py_ssize_t start = self.first(sample, block) + c
        cdef norm_terms t = self.terms(1, 2, 3, 4, sample * self.channels, c)
        t.stream = self.streams_rows_to(6)
        self.loops.apply(&t, <real*>self.operand[0] + start, past(<real*>self.operand[5], start),
                         <real*>self.operand[6] + start, self.channels, rows, channels)
        stream_end()


cdef class Fold(Step):
    """factor = scale * inverse, shift = bias - mean * factor, inverse = 1 / sqrt(variance + epsilon).

    Computed in double and rounded once; not parallel, there is one value per channel.

    Operands: scale, bias, mean, variance, factor, shift, inverse, all (channels,); inverse may be absent.
    """

    cdef Py_ssize_t channels
    cdef double epsilon

    def __init__(self, Py_ssize_t channels, double epsilon):
        self.operands = 7
        self.channels = channels
        self.epsilon = epsilon

    cdef int run(self) noexcept nogil:
        cdef real** v = <real**>self.operand
        cdef Py_ssize_t c
        cdef double inverse, factor
        for c in range(self.channels):
            inverse = 1 / sqrt(<double>v[3][c] + self.epsilon)
            factor = v[0][c] * inverse
            v[4][c] = <real>factor
            v[5][c] = <real>(v[1][c] - v[2][c] * factor)
            if v[6] != NULL:
                v[6][c] = <real>inverse
        return OK


cdef class FoldConvolution(Step):
    """A convolution's weights and bias with the normalisation of its output folded in, inverse as in Fold:

        weight' = weight * scale * inverse        bias' = (bias - mean) * scale * inverse + shift

    Computed in double and rounded once. Parallel over the output channels.

    Args:
        groups, repeats, channels, inner: sizes of weight's axes, of which `groups` and `channels` together are the
            output channels: (1, 1, K, C/groups * taps) of a Conv, (groups, C/groups, K/groups, taps) of a
            ConvTranspose.

    Operands: weight (groups, repeats, channels, inner), bias, scale, shift, mean, variance, weight', bias', those of
    rank 1 (groups * channels,); bias may be absent (zero).
    """

    cdef Py_ssize_t groups, repeats, channels, inner
    cdef double epsilon

    def __init__(self, Py_ssize_t groups, Py_ssize_t repeats, Py_ssize_t channels, Py_ssize_t inner, double epsilon):
        self.operands = 8
        self.groups, self.repeats, self.channels, self.inner = groups, repeats, channels, inner
        self.epsilon = epsilon

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.groups * self.channels)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t k, int thread) noexcept nogil:
        cdef real** v = <real**>self.operand
        cdef double factor = v[2][k] / sqrt(<double>v[5][k] + self.epsilon)
        cdef double bias = 0 if v[1] == NULL else v[1][k]
        cdef Py_ssize_t g = k // self.channels, repeat, i, at
        v[7][k] = <real>((bias - v[4][k]) * factor + v[3][k])
        for repeat in range(self.repeats):
            at = ((g * self.repeats + repeat) * self.channels + k - g * self.channels) * self.inner
            for i in range(self.inner):
                v[6][at + i] = <real>(v[0][at + i] * factor)


cdef class Affine(Rows):
    """y = f(x * factor + shift + residual).

    Operands: x (rows, channels), factor, shift (channels,), residual, y (rows, channels); shift and residual may be
    absent (zero), y may be x or residual.
    """

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, activation=None):
        Rows.__init__(self, rows, channels, activation=activation)
        self.operands = 5

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.jobs(0))
        return OK

    cdef void block(self, int phase, Py_ssize_t sample, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c,
                    Py_ssize_t channels, int thread) noexcept nogil:
        cdef Py_ssize_t start = self.first(sample, block) + c
        cdef norm_terms t = self.terms(-1, 1, -1, 2, 0, c)
        t.stream = self.streams_rows_to(4)
        self.loops.apply(&t, <real*>self.operand[0] + start, past(<real*>self.operand[3], start),
                         <real*>self.operand[4] + start, self.channels, rows, channels)
        stream_end()


cdef class ParameterGradient(Rows):
    """dbias = sum of dz, dscale = sum of dz * (x - mean) * inverse, over the rows; dz = dy * f'.

    f' is taken from y if that is given, else from z = (x - mean) * (inverse * scale) + bias, by the formula of
    Normalize. dz is stored if it has a place: where a residual was added it is that one's gradient.

    Args:
        measured: the number of blocks whose sums, of dz * (x - mean) and of dz, `partials` already has; 0: none.

    Operands: dy, x (rows, channels), mean, inverse, scale, bias (channels,), y, dz (rows, channels),
    partials (row_blocks_of(rows, channels), 2, channels) double, dscale, dbias (channels,). scale and bias are read
    with an activation and no y, and may be absent otherwise; so may y and dz always. dz may be dy. With measured blocks
    inverse and partials alone are read.

    Attributes:
        measures: whether dy and x are read.
    """

    cdef readonly bint measures

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, activation=None, Py_ssize_t batch=1, Py_ssize_t measured=0):
        Rows.__init__(self, rows, channels, 1, activation, batch)
        self.measures = measured == 0
        if not self.measures:
            self.row_blocks = measured
        self.operands = 11
        self.scratch_bytes = 2 * self.channel_block * sizeof(real)

    cdef int run(self) noexcept nogil:
        if self.measures:
            self.parallel(0, self.jobs(0))
        self.parallel(1, self.jobs(1))
        return OK

    cdef void block(self, int phase, Py_ssize_t sample, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c,
                    Py_ssize_t channels, int thread) noexcept nogil:
        if phase == 0:
            self.measure(sample, block, rows, c, channels, <real*>self.scratch_of(thread))
        else:
            self.combine(sample, c, channels)

    cdef void measure(self, Py_ssize_t sample, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                      real* scales) noexcept nogil:
        """Both sums over one block, into its place in `partials`. scales, the sums of a part, has 2 * channel_block
        elements."""
        cdef Py_ssize_t start = self.first(sample, block) + c
        cdef const real* dy = <const real*>self.operand[0]
        cdef const real* x = <const real*>self.operand[1]
        cdef const real* y = <const real*>self.operand[6]
        cdef real* dz = <real*>self.operand[7]
        cdef double* scale = self.found(8, sample, block) + c
        cdef double* bias = scale + self.channels
        cdef bint again = self.operand[4] != NULL and y == NULL
        cdef norm_terms t = self.terms(2, 3 if again else -1, 4, 5 if again else -1, sample * self.channels, c)
        cdef real* biases = scales + self.channel_block
        cdef Py_ssize_t part, at
        memset(scale, 0, channels * sizeof(double))
        memset(bias, 0, channels * sizeof(double))
        memset(scales, 0, 2 * self.channel_block * sizeof(real))
        for part in range((rows + PART - 1) // PART):
            at = start + part * PART * self.channels
            self.loops.sums(&t, dy + at, x + at, past(y, at), past(dz, at), self.channels,
                            min(<Py_ssize_t>PART, rows - part * PART), channels, scales, biases)
            flush(scale, scales, channels)
            flush(bias, biases, channels)

    cdef void combine(self, Py_ssize_t sample, Py_ssize_t c, Py_ssize_t channels) noexcept nogil:
        """Add all blocks' partials to the first one's."""
        cdef Py_ssize_t own = sample * self.channels + c
        cdef const real* inverse = <const real*>self.operand[3] + own
        cdef double* scale = self.found(8, sample, 0) + c
        cdef double* bias = scale + self.channels
        cdef double* other = scale
        cdef Py_ssize_t block, i
        for block in range(1, self.row_blocks):
            other += 2 * self.channels
            for i in range(channels):
                scale[i] += other[i]
                bias[i] += other[self.channels + i]
        for i in range(channels):
            (<real*>self.operand[9])[own + i] = <real>(scale[i] * inverse[i])
            (<real*>self.operand[10])[own + i] = <real>bias[i]


cdef class InputGradient(Rows):
    """The gradient through batch statistics. With u = (x - mean) * inverse, z = u * scale + bias, dz = dy * f'(z),

        dx = scale * inverse * (dz - dbias / rows - u * dscale / rows)

    since mean(dz) = dbias / rows and mean(dz * u) = dscale / rows are what the mean and the variance hand back. Where
    channels are grouped, they hand back the means over the group of dz * scale and dz * scale * u:

        dx = inverse * (dz * scale - dbias / rows - u * dscale / rows)

    with dbias and dscale the means, over the group's channels, of what ParameterGradient gives times scale.

    Args:
        grouped: whether it is that.

    Operands: dy, x (rows, channels), mean, inverse, scale, bias, dscale, dbias (channels,), dx (rows, channels);
    bias is read with an activation and may be absent without, dx may be dy or x.
    """

    cdef bint grouped

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, activation=None, Py_ssize_t batch=1, bint grouped=False):
        Rows.__init__(self, rows, channels, 1, activation, batch)
        self.operands = 9
        self.grouped = grouped

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.jobs(0))
        return OK

    cdef void block(self, int phase, Py_ssize_t sample, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c,
                    Py_ssize_t channels, int thread) noexcept nogil:
        cdef Py_ssize_t start = self.first(sample, block) + c, own = sample * self.channels
        cdef norm_terms t = self.terms(2, 3, 4, 5, own, c)
        t.dscale = <real*>self.operand[6] + own + c
        t.dbias = <real*>self.operand[7] + own + c
        t.grouped, t.stream = self.grouped, self.streams_rows_to(8)
        self.loops.input(&t, <real*>self.operand[0] + start, <real*>self.operand[1] + start,
                         <real*>self.operand[8] + start, self.channels, rows, channels)
        stream_end()


cdef class RunningAverage(Step):
    """new = old * momentum + batch * (1 - momentum), for mean and variance.

    Not parallel, there is one value per channel.

    Operands: batch_mean, batch_variance, old_mean, old_variance, new_mean, new_variance, all (channels,); the
    new ones may be the old ones.
    """

    cdef Py_ssize_t channels
    cdef double momentum

    def __init__(self, Py_ssize_t channels, double momentum):
        self.operands = 6
        self.channels = channels
        self.momentum = momentum

    cdef int run(self) noexcept nogil:
        cdef real** v = <real**>self.operand
        cdef double keep = self.momentum, take = 1 - self.momentum
        cdef Py_ssize_t c
        for c in range(self.channels):
            v[4][c] = <real>(v[2][c] * keep + v[0][c] * take)
            v[5][c] = <real>(v[3][c] * keep + v[1][c] * take)
        return OK
