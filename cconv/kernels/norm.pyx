"""Batch normalisation over channels-last rows: x (rows, channels), rows being batch and spatial axes together.

Statistics. Each chunk (a block of rows, a block of channels, small enough to stay in L2) first finds its mean,
then sums deviations from that mean and their squares. The first sum may be rough, since the second corrects
it; the sum of squares of deviations has no large mean in it to cancel. Chunks are combined pairwise in double,
in the order of the rows (Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing
sample variances", 1979). So x is read from memory once, and a mean of 1e4 standard deviations costs no digits
beyond those that float32 has lost in x itself.

Sums run over PART rows in `real` and from there on in double. The rows of a part are read a FEW at a time, their sums
going back to scratch in between: down 32 rows at once, vector by vector, the processor's prefetching does not follow
(ParameterGradient of 51 MB a tensor, one thread: 8.9 -> 5.6 ms). Parallel over chunks; what a chunk finds goes to
a place of its own in `partials` and is combined in the order of the row blocks, so the bits do not depend on
the number of threads.

What follows a normalisation costs no pass of its own: the steps that write y add a residual and apply an activation
f, y = f(z + residual) with z the normalised x, while the value is in a register; the steps that read dy take f's
derivative there, from z, which they compute again of the x they read anyway, or from y. An activation is
(name, a, b), one of ACTIVATIONS with the parameters of its loop in elementwise.h, or None.
"""

from libc.math cimport sqrt
from libc.string cimport memset

from cconv.kernels.simd cimport VL, real, vf, vload, vload_n, vset, vstore, vstore_n, vzero
from cconv.kernels.step cimport OK, Step

cdef extern from "elementwise.h" nogil:
    vf relu_of(vf x, vf a, vf b)
    vf leaky_relu_of(vf x, vf a, vf b)
    vf clip_of(vf x, vf a, vf b)
    vf relu_gradient_of(vf dy, vf v, vf a, vf b)
    vf leaky_relu_gradient_of(vf dy, vf v, vf a, vf b)
    vf clip_gradient_of(vf dy, vf v, vf a, vf b)

cdef enum Function:
    NONE
    RELU
    LEAKY_RELU
    CLIP

cdef enum:
    PART = 32       # rows summed in `real` before the sum goes to a double
    FEW = 8         # rows that share one load of the channels' factors and sums; more cost bandwidth, see below
    LEAST_ROWS = 128

# Elements of a chunk.
CHUNK = 32768

# Activations whose derivative can be told from z and from y alike, LeakyRelu's for a >= 0.
ACTIVATIONS = {"relu": RELU, "leaky_relu": LEAKY_RELU, "clip": CLIP}


cdef struct Activation:
    Function function
    vf a, b


cdef inline vf activate(const Activation* f, vf z) noexcept nogil:
    """f(z)"""
    if f.function == RELU:
        return relu_of(z, f.a, f.b)
    if f.function == LEAKY_RELU:
        return leaky_relu_of(z, f.a, f.b)
    if f.function == CLIP:
        return clip_of(z, f.a, f.b)
    return z


cdef inline vf activate_gradient(const Activation* f, vf dy, vf v) noexcept nogil:
    """dy * f'(v), v being z or f(z)"""
    if f.function == RELU:
        return relu_gradient_of(dy, v, f.a, f.b)
    if f.function == LEAKY_RELU:
        return leaky_relu_gradient_of(dy, v, f.a, f.b)
    if f.function == CLIP:
        return clip_gradient_of(dy, v, f.a, f.b)
    return dy


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
    """Base of steps over (rows, channels), cut into blocks of rows times blocks of channels.

    Args:
        rows, channels: sizes of the axes.
        least: rows that the arithmetic needs.
        activation: (name, a, b) of what follows the normalisation, or None.

    Raises:
        ValueError: fewer rows than that; an activation that is not in ACTIVATIONS.
    """

    cdef readonly Py_ssize_t rows, channels, row_block, channel_block
    cdef Py_ssize_t row_blocks, channel_blocks
    cdef Function function
    cdef real a, b

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, Py_ssize_t least=0, activation=None):
        if rows < least:
            raise ValueError(f"{type(self).__name__}: needs at least {least} rows; found {rows}")
        name, self.a, self.b = activation or (None, 0, 0)
        if activation and name not in ACTIVATIONS:
            raise ValueError(f"{type(self).__name__}: activation is one of {', '.join(ACTIVATIONS)}; found {name!r}")
        self.function = ACTIVATIONS[name] if activation else NONE
        self.rows, self.channels = rows, channels
        self.row_block = max(LEAST_ROWS, CHUNK // max(1, channels) // PART * PART)
        self.channel_block = CHUNK // LEAST_ROWS
        self.row_blocks = (rows + self.row_block - 1) // self.row_block
        self.channel_blocks = (channels + self.channel_block - 1) // self.channel_block

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t block = i // self.channel_blocks
        cdef Py_ssize_t c = i % self.channel_blocks * self.channel_block
        self.block(phase, block, self.length(block), c, min(self.channel_block, self.channels - c), thread)

    cdef inline Activation activation(self) noexcept nogil:
        cdef Activation f
        f.function = self.function
        f.a = vset(self.a)
        f.b = vset(self.b)
        return f

    cdef Py_ssize_t length(self, Py_ssize_t block) noexcept nogil:
        """Rows of a block of rows."""
        return min(self.row_block, self.rows - block * self.row_block)

    cdef void block(self, int phase, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                    int thread) noexcept nogil:
        """Work on rows block * row_block .. + rows - 1, channels c .. c + channels - 1."""


cdef class Statistics(Rows):
    """mean, variance = those of each channel (population variance); inverse = 1 / sqrt(variance + epsilon).

    Operands: x (rows, channels), partials (row_blocks_of(rows, channels), 2, channels) double,
    mean, variance, inverse (channels,).
    """

    cdef double epsilon

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, double epsilon):
        Rows.__init__(self, rows, channels, 1)
        self.operands = 5
        self.epsilon = epsilon
        self.scratch_bytes = 3 * self.channel_block * sizeof(real)

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.row_blocks * self.channel_blocks)
        self.parallel(1, self.channel_blocks)
        return OK

    cdef void block(self, int phase, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                    int thread) noexcept nogil:
        if phase == 0:
            self.measure(block, rows, c, channels, <real*>self.scratch_of(thread))
        else:
            self.combine(c, channels)

    cdef void measure(self, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                      real* rough) noexcept nogil:
        """Mean and sum of squared deviations of one block, into its place in `partials`.

        rough, and behind it sums and squared sums of a part, have channel_block elements each.
        """
        cdef const real* x = <const real*>self.operand[0] + block * self.row_block * self.channels + c
        cdef double* mean = <double*>self.operand[1] + 2 * block * self.channels + c
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

    cdef void combine(self, Py_ssize_t c, Py_ssize_t channels) noexcept nogil:
        """All blocks' partials into the first one's place, and the statistics out of that."""
        cdef double* mean = <double*>self.operand[1] + c
        cdef double* squares = mean + self.channels
        cdef double* other = mean
        cdef Py_ssize_t block, i, done = self.length(0), rows
        cdef double share, weight, delta, variance
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
        for i in range(channels):
            variance = squares[i] / self.rows
            variance = 0 if variance < 0 else variance
            (<real*>self.operand[2])[c + i] = <real>mean[i]
            (<real*>self.operand[3])[c + i] = <real>variance
            (<real*>self.operand[4])[c + i] = <real>(1 / sqrt(variance + self.epsilon))


cdef class Normalize(Rows):
    """y = f((x - mean) * (inverse * scale) + bias + residual).

    The mean is subtracted before the product: with a large mean, folding it into the bias would cancel.

    Operands: x (rows, channels), mean, inverse, scale, bias (channels,), residual, y (rows, channels); residual may
    be absent (zero), y may be x or residual.
    """

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, activation=None):
        Rows.__init__(self, rows, channels, activation=activation)
        self.operands = 7

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.row_blocks * self.channel_blocks)
        return OK

    cdef void block(self, int phase, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                    int thread) noexcept nogil:
        cdef Py_ssize_t start = block * self.row_block * self.channels + c
        cdef Py_ssize_t group, r, v, n, at, k
        cdef const real* x = <const real*>self.operand[0]
        cdef const real* residual = <const real*>self.operand[5]
        cdef real* y = <real*>self.operand[6]
        cdef Activation f = self.activation()
        cdef vf mean, factor, bias, z
        for group in range((rows + FEW - 1) // FEW):
            for v in range((channels + VL - 1) // VL):
                n = min(<Py_ssize_t>VL, channels - v * VL)
                k = c + v * VL
                mean = load(<const real*>self.operand[1] + k, n)
                factor = load(<const real*>self.operand[2] + k, n) * load(<const real*>self.operand[3] + k, n)
                bias = load(<const real*>self.operand[4] + k, n)
                at = start + group * FEW * self.channels + v * VL
                for r in range(min(<Py_ssize_t>FEW, rows - group * FEW)):
                    z = (load(x + at, n) - mean) * factor + bias
                    if residual != NULL:
                        z = z + load(residual + at, n)
                    store(y + at, activate(&f, z), n)
                    at += self.channels


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
        self.parallel(0, self.row_blocks * self.channel_blocks)
        return OK

    cdef void block(self, int phase, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                    int thread) noexcept nogil:
        cdef Py_ssize_t start = block * self.row_block * self.channels + c
        cdef Py_ssize_t group, r, v, n, at, k
        cdef const real* x = <const real*>self.operand[0]
        cdef const real* shifts = <const real*>self.operand[2]
        cdef const real* residual = <const real*>self.operand[3]
        cdef real* y = <real*>self.operand[4]
        cdef Activation f = self.activation()
        cdef vf factor, shift, z
        for group in range((rows + FEW - 1) // FEW):
            for v in range((channels + VL - 1) // VL):
                n = min(<Py_ssize_t>VL, channels - v * VL)
                k = c + v * VL
                factor = load(<const real*>self.operand[1] + k, n)
                shift = vzero() if shifts == NULL else load(shifts + k, n)
                at = start + group * FEW * self.channels + v * VL
                for r in range(min(<Py_ssize_t>FEW, rows - group * FEW)):
                    z = load(x + at, n) * factor + shift
                    if residual != NULL:
                        z = z + load(residual + at, n)
                    store(y + at, activate(&f, z), n)
                    at += self.channels


cdef class ParameterGradient(Rows):
    """dbias = sum of dz, dscale = sum of dz * (x - mean) * inverse, over the rows; dz = dy * f'.

    f' is taken from y if that is given, else from z = (x - mean) * (inverse * scale) + bias, by the formula of
    Normalize. dz is stored if it has a place: where a residual was added it is that one's gradient.

    Operands: dy, x (rows, channels), mean, inverse, scale, bias (channels,), y, dz (rows, channels),
    partials (row_blocks_of(rows, channels), 2, channels) double, dscale, dbias (channels,). scale and bias are read
    with an activation and no y, and may be absent otherwise; so may y and dz always. dz may be dy.
    """

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, activation=None):
        Rows.__init__(self, rows, channels, 1, activation)
        self.operands = 11
        self.scratch_bytes = 2 * self.channel_block * sizeof(real)

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.row_blocks * self.channel_blocks)
        self.parallel(1, self.channel_blocks)
        return OK

    cdef void block(self, int phase, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                    int thread) noexcept nogil:
        if phase == 0:
            self.measure(block, rows, c, channels, <real*>self.scratch_of(thread))
        else:
            self.combine(c, channels)

    cdef void measure(self, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                      real* scales) noexcept nogil:
        """Both sums over one block, into its place in `partials`. scales, the sums of a part, has 2 * channel_block
        elements."""
        cdef Py_ssize_t start = block * self.row_block * self.channels + c
        cdef const real* dy = <const real*>self.operand[0]
        cdef const real* x = <const real*>self.operand[1]
        cdef const real* y = <const real*>self.operand[6]
        cdef real* dz = <real*>self.operand[7]
        cdef double* scale = <double*>self.operand[8] + 2 * block * self.channels + c
        cdef double* bias = scale + self.channels
        cdef Activation f = self.activation()
        cdef bint again = f.function != NONE and y == NULL
        cdef real* biases = scales + self.channel_block
        cdef Py_ssize_t group, r, v, n, at, k, groups = (rows + FEW - 1) // FEW
        cdef vf s, b, mean, g, d, factor = vzero(), shift = vzero()
        memset(scale, 0, channels * sizeof(double))
        memset(bias, 0, channels * sizeof(double))
        memset(scales, 0, 2 * self.channel_block * sizeof(real))
        for group in range(groups):
            for v in range((channels + VL - 1) // VL):
                n = min(<Py_ssize_t>VL, channels - v * VL)
                k = c + v * VL
                mean = load(<const real*>self.operand[2] + k, n)
                if again:
                    factor = load(<const real*>self.operand[3] + k, n) * load(<const real*>self.operand[4] + k, n)
                    shift = load(<const real*>self.operand[5] + k, n)
                at = start + group * FEW * self.channels + v * VL
                s = vload(scales + v * VL)
                b = vload(biases + v * VL)
                for r in range(min(<Py_ssize_t>FEW, rows - group * FEW)):
                    g = load(dy + at, n)
                    d = load(x + at, n) - mean
                    if again:
                        g = activate_gradient(&f, g, d * factor + shift)
                    elif y != NULL:
                        g = activate_gradient(&f, g, load(y + at, n))
                    if dz != NULL:
                        store(dz + at, g, n)
                    s = s + g * d
                    b = b + g
                    at += self.channels
                vstore(scales + v * VL, s)
                vstore(biases + v * VL, b)
            if (group + 1) % (PART // FEW) == 0 or group + 1 == groups:
                flush(scale, scales, channels)
                flush(bias, biases, channels)

    cdef void combine(self, Py_ssize_t c, Py_ssize_t channels) noexcept nogil:
        """Add all blocks' partials to the first one's."""
        cdef const real* inverse = <const real*>self.operand[3] + c
        cdef double* scale = <double*>self.operand[8] + c
        cdef double* bias = scale + self.channels
        cdef double* other = scale
        cdef Py_ssize_t block, i
        for block in range(1, self.row_blocks):
            other += 2 * self.channels
            for i in range(channels):
                scale[i] += other[i]
                bias[i] += other[self.channels + i]
        for i in range(channels):
            (<real*>self.operand[9])[c + i] = <real>(scale[i] * inverse[i])
            (<real*>self.operand[10])[c + i] = <real>bias[i]


cdef class InputGradient(Rows):
    """The gradient through batch statistics. With u = (x - mean) * inverse, z = u * scale + bias, dz = dy * f'(z),

        dx = scale * inverse * (dz - dbias / rows - u * dscale / rows)

    since mean(dz) = dbias / rows and mean(dz * u) = dscale / rows are what the mean and the variance hand back.

    Operands: dy, x (rows, channels), mean, inverse, scale, bias, dscale, dbias (channels,), dx (rows, channels);
    bias is read with an activation and may be absent without, dx may be dy or x.
    """

    def __init__(self, Py_ssize_t rows, Py_ssize_t channels, activation=None):
        Rows.__init__(self, rows, channels, 1, activation)
        self.operands = 9

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.row_blocks * self.channel_blocks)
        return OK

    cdef void block(self, int phase, Py_ssize_t block, Py_ssize_t rows, Py_ssize_t c, Py_ssize_t channels,
                    int thread) noexcept nogil:
        cdef Py_ssize_t start = block * self.row_block * self.channels + c
        cdef Py_ssize_t group, r, v, n, at, k
        cdef const real* dy = <const real*>self.operand[0]
        cdef const real* x = <const real*>self.operand[1]
        cdef real* dx = <real*>self.operand[8]
        cdef Activation f = self.activation()
        cdef vf mean, inverse, factor, dy_mean, slope, g, d
        cdef vf shift = vzero(), share = vset(<real>(1.0 / <double>self.rows))
        for group in range((rows + FEW - 1) // FEW):
            for v in range((channels + VL - 1) // VL):
                n = min(<Py_ssize_t>VL, channels - v * VL)
                k = c + v * VL
                mean = load(<const real*>self.operand[2] + k, n)
                inverse = load(<const real*>self.operand[3] + k, n)
                factor = inverse * load(<const real*>self.operand[4] + k, n)
                if f.function != NONE:
                    shift = load(<const real*>self.operand[5] + k, n)
                slope = inverse * load(<const real*>self.operand[6] + k, n) * share
                dy_mean = load(<const real*>self.operand[7] + k, n) * share
                at = start + group * FEW * self.channels + v * VL
                for r in range(min(<Py_ssize_t>FEW, rows - group * FEW)):
                    g = load(dy + at, n)
                    d = load(x + at, n) - mean
                    g = activate_gradient(&f, g, d * factor + shift)
                    store(dx + at, (g - dy_mean - d * slope) * factor, n)
                    at += self.channels


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
