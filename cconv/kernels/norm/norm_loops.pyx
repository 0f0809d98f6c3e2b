"""Loops of normalisation; norm.pyx gives the formulas, the operands and the numerics."""

from libc.math cimport isfinite, sqrt
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.core.simd cimport VL, ceil_div, load_part, real, stream_end, vf, vload, vstore
from cconv.kernels.norm.norm cimport (
    CHANNEL_BLOCK, PART, average_arguments, check_arguments, fold_arguments, row_arguments,
)

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
    ctypedef struct activation_row:
        const char* name
        void (*apply)(const norm_terms* t, const real* x, const real* residual, real* y, Py_ssize_t stride,
                      Py_ssize_t rows, Py_ssize_t channels) noexcept nogil
        void (*sums)(const norm_terms* t, const real* dy, const real* x, const real* y, real* dz, Py_ssize_t stride,
                     Py_ssize_t rows, Py_ssize_t channels, real* scales, real* biases) noexcept nogil
        void (*input)(const norm_terms* t, const real* dy, const real* x, real* dx, Py_ssize_t stride,
                      Py_ssize_t rows, Py_ssize_t channels) noexcept nogil
        int either
    real* past(const real* p, Py_ssize_t i)
    const activation_row activation_rows[1]
    const int activation_count
    const int FEW    # rows that are read before sums go back to memory

# Where a chunk lies: rows block * row_block .. + rows - 1 of a sample, channels c .. c + channels - 1.
cdef struct place:
    Py_ssize_t sample, block, rows, c, channels


cdef inline Py_ssize_t rows_of(const row_arguments* s, Py_ssize_t block) noexcept nogil:
    """Rows of a block of rows."""
    return s.block_rows[block] if s.block_rows != NULL else min(s.row_block, s.rows - block * s.row_block)


cdef inline place place_of(const row_arguments* s, Py_ssize_t i, Py_ssize_t row_blocks) noexcept nogil:
    """Chunk i of a loop over all blocks of rows; with row_blocks = 1, of a loop over their partials, at block 0."""
    cdef place p
    p.c = i % s.channel_blocks * CHANNEL_BLOCK
    p.channels = min(<Py_ssize_t>CHANNEL_BLOCK, s.channels - p.c)
    p.block = i // s.channel_blocks % row_blocks
    p.sample = i // s.channel_blocks // row_blocks
    p.rows = rows_of(s, p.block)
    return p


cdef inline Py_ssize_t first_of(const row_arguments* s, const place* p) noexcept nogil:
    """The chunk's first element in arrays like x."""
    return (p.sample * s.rows + p.block * s.row_block) * s.channels + p.c


cdef inline double* partial_of(const row_arguments* s, const place* p, char* partials) noexcept nogil:
    """The chunk's first channel in its block's place in `partials`; its second row begins s.channels elements later."""
    return <double*>partials + 2 * (p.sample * s.row_blocks + p.block) * s.channels + p.c


cdef inline const activation_row* activation_of(const row_arguments* s) noexcept nogil:
    return <const activation_row*>s.activation


cdef inline norm_terms terms_of(const row_arguments* s, const place* p, char** operand, int mean, int inverse,
                                int scale, int bias) noexcept nogil:
    """Arguments of the loops in norm.h: these operands (-1: none) from the chunk's first channel on. Mean and inverse
    are the sample's."""
    cdef norm_terms t
    cdef Py_ssize_t own = p.sample * s.channels + p.c
    t.mean = NULL if mean < 0 else past(<real*>operand[mean], own)
    t.inverse = NULL if inverse < 0 else past(<real*>operand[inverse], own)
    t.scale = NULL if scale < 0 else past(<real*>operand[scale], p.c)
    t.bias = NULL if bias < 0 else past(<real*>operand[bias], p.c)
    t.dscale = t.dbias = NULL
    t.a, t.b = <real>s.a, <real>s.b
    t.share = <real>(1.0 / <double>s.rows)
    t.grouped, t.stream = s.grouped, s.stream
    return t


cdef inline void flush(double* total, real* part, Py_ssize_t n) noexcept nogil:
    """total += part; part = 0. Both have n elements, and part has room for whole vectors."""
    cdef Py_ssize_t i
    for i in range(n):
        total[i] += part[i]
    memset(part, 0, ceil_div(n, VL) * VL * sizeof(real))


cdef void measure(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    """Mean and sum of squared deviations of one block, into its place in `partials`."""
    cdef const row_arguments* s = <const row_arguments*>arguments
    cdef place p = place_of(s, chunk, s.row_blocks)
    cdef Py_ssize_t stride = s.channels, rows = p.rows, channels = p.channels
    cdef const real* x = <const real*>operand[0] + first_of(s, &p)
    cdef double* mean = partial_of(s, &p, operand[1])
    cdef double* squares = mean + stride
    cdef real* rough = <real*>scratch
    cdef real* sums = rough + CHANNEL_BLOCK
    cdef real* squared = sums + CHANNEL_BLOCK
    cdef Py_ssize_t group, r, v, n, i, groups = ceil_div(rows, FEW)
    cdef const real* at
    cdef vf total, q, m, d
    memset(mean, 0, channels * sizeof(double))
    memset(squares, 0, channels * sizeof(double))
    memset(sums, 0, 2 * CHANNEL_BLOCK * sizeof(real))
    for group in range(groups):
        for v in range(ceil_div(channels, VL)):
            n = min(<Py_ssize_t>VL, channels - v * VL)
            at = x + group * FEW * stride + v * VL
            total = vload(sums + v * VL)
            for r in range(min(<Py_ssize_t>FEW, rows - group * FEW)):
                total = total + load_part(at, n)
                at += stride
            vstore(sums + v * VL, total)
        if (group + 1) % (PART // FEW) == 0 or group + 1 == groups:
            flush(mean, sums, channels)
    for i in range(channels):
        rough[i] = <real>(mean[i] / rows)
        mean[i] = 0
    # From here on mean and squares are sums of x - rough and of its square.
    for group in range(groups):
        for v in range(ceil_div(channels, VL)):
            n = min(<Py_ssize_t>VL, channels - v * VL)
            at = x + group * FEW * stride + v * VL
            m = load_part(rough + v * VL, n)
            total = vload(sums + v * VL)
            q = vload(squared + v * VL)
            for r in range(min(<Py_ssize_t>FEW, rows - group * FEW)):
                d = load_part(at, n) - m
                total = total + d
                q = q + d * d
                at += stride
            vstore(sums + v * VL, total)
            vstore(squared + v * VL, q)
        if (group + 1) % (PART // FEW) == 0 or group + 1 == groups:
            flush(mean, sums, channels)
            flush(squares, squared, channels)
    for i in range(channels):
        squares[i] -= mean[i] * mean[i] / rows
        mean[i] = rough[i] + mean[i] / rows


cdef inline void store_statistics(const row_arguments* s, char** operand, Py_ssize_t at, double mean,
                                  double variance) noexcept nogil:
    variance = 0 if variance < 0 else variance
    (<real*>operand[2])[at] = <real>mean
    if operand[3] != NULL:
        (<real*>operand[3])[at] = <real>variance
    (<real*>operand[4])[at] = <real>(1 / sqrt(variance + s.epsilon))


cdef void combine_statistics(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    """The partials of all row blocks into the place of the first one; from there the channels' statistics."""
    cdef const row_arguments* s = <const row_arguments*>arguments
    cdef place p = place_of(s, chunk, 1)
    cdef Py_ssize_t stride = s.channels, channels = p.channels
    cdef double* mean = partial_of(s, &p, operand[1])
    cdef double* squares = mean + stride
    cdef double* other = mean
    cdef Py_ssize_t block, i, done = p.rows, rows
    cdef double share, weight, delta
    for block in range(1, s.row_blocks):
        other += 2 * stride
        rows = rows_of(s, block)
        share = <double>rows / <double>(done + rows)
        weight = share * <double>done
        for i in range(channels):
            delta = other[i] - mean[i]
            mean[i] += delta * share
            squares[i] += other[stride + i] + delta * delta * weight
        done += rows
    if s.groups == 0:
        for i in range(channels):
            store_statistics(s, operand, p.sample * stride + p.c + i, mean[i], squares[i] / s.rows)


cdef void share_statistics(const void* arguments, char** operand, Py_ssize_t sample, char* scratch) noexcept nogil:
    """The statistics of a sample's groups from those of its channels."""
    cdef const row_arguments* s = <const row_arguments*>arguments
    cdef double* mean = <double*>operand[1] + 2 * sample * s.row_blocks * s.channels
    cdef double* squares = mean + s.channels
    cdef Py_ssize_t size = s.channels // s.groups, g, c
    cdef double middle, total
    for g in range(s.groups):
        middle, total = 0, 0
        for c in range(g * size, (g + 1) * size):
            middle += mean[c] / size
        for c in range(g * size, (g + 1) * size):
            total += squares[c] + s.rows * (mean[c] - middle) * (mean[c] - middle)
        for c in range(g * size, (g + 1) * size):
            store_statistics(s, operand, sample * s.channels + c, middle, total / (s.rows * size))


cdef void normalize(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    cdef const row_arguments* s = <const row_arguments*>arguments
    cdef place p = place_of(s, chunk, s.row_blocks)
    cdef Py_ssize_t start = first_of(s, &p)
    cdef norm_terms t = terms_of(s, &p, operand, 1, 2, 3, 4)
    activation_of(s).apply(&t, <real*>operand[0] + start, past(<real*>operand[5], start), <real*>operand[6] + start,
                           s.channels, p.rows, p.channels)
    stream_end()


cdef void affine(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    cdef const row_arguments* s = <const row_arguments*>arguments
    cdef place p = place_of(s, chunk, s.row_blocks)
    cdef Py_ssize_t start = first_of(s, &p)
    cdef norm_terms t = terms_of(s, &p, operand, -1, 1, -1, 2)
    activation_of(s).apply(&t, <real*>operand[0] + start, past(<real*>operand[3], start), <real*>operand[4] + start,
                           s.channels, p.rows, p.channels)
    stream_end()


cdef void fold(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    cdef const fold_arguments* s = <const fold_arguments*>arguments
    cdef real** v = <real**>operand
    cdef Py_ssize_t c
    cdef double inverse, factor
    for c in range(s.channels):
        inverse = 1 / sqrt(<double>v[3][c] + s.epsilon)
        factor = v[0][c] * inverse
        v[4][c] = <real>factor
        v[5][c] = <real>(v[1][c] - v[2][c] * factor)
        if v[6] != NULL:
            v[6][c] = <real>inverse


cdef void fold_convolution(const void* arguments, char** operand, Py_ssize_t k, char* scratch) noexcept nogil:
    """Output channel k."""
    cdef const fold_arguments* s = <const fold_arguments*>arguments
    cdef real** v = <real**>operand
    cdef const real* weight = v[0]
    cdef real* folded = v[6]
    cdef double factor = v[2][k] / sqrt(<double>v[5][k] + s.epsilon)
    cdef double bias = 0 if v[1] == NULL else v[1][k]
    cdef Py_ssize_t g = k // s.channels, inner = s.inner, repeat, i, at
    v[7][k] = <real>((bias - v[4][k]) * factor + v[3][k])
    for repeat in range(s.repeats):
        at = ((g * s.repeats + repeat) * s.channels + k - g * s.channels) * inner
        for i in range(inner):
            folded[at + i] = <real>(weight[at + i] * factor)


cdef void sum_gradients(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    """Sums of dz * (x - mean) and of dz over one block, into its place in `partials`."""
    cdef const row_arguments* s = <const row_arguments*>arguments
    cdef place p = place_of(s, chunk, s.row_blocks)
    cdef Py_ssize_t stride = s.channels, start = first_of(s, &p)
    cdef const real* dy = <const real*>operand[0]
    cdef const real* x = <const real*>operand[1]
    cdef const real* y = <const real*>operand[6]
    cdef real* dz = <real*>operand[7]
    cdef double* scale = partial_of(s, &p, operand[8])
    cdef double* bias = scale + stride
    cdef bint recompute = operand[4] != NULL and y == NULL   # z, from which f' is computed
    cdef norm_terms t = terms_of(s, &p, operand, 2, 3 if recompute else -1, 4, 5 if recompute else -1)
    cdef real* scales = <real*>scratch   # the sums of a part
    cdef real* biases = scales + CHANNEL_BLOCK
    cdef Py_ssize_t part, at
    memset(scale, 0, p.channels * sizeof(double))
    memset(bias, 0, p.channels * sizeof(double))
    memset(scales, 0, 2 * CHANNEL_BLOCK * sizeof(real))
    for part in range(ceil_div(p.rows, PART)):
        at = start + part * PART * stride
        activation_of(s).sums(&t, dy + at, x + at, past(y, at), past(dz, at), stride,
                              min(<Py_ssize_t>PART, p.rows - part * PART), p.channels, scales, biases)
        flush(scale, scales, p.channels)
        flush(bias, biases, p.channels)


cdef void combine_gradients(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    """The partials of all row blocks, added to the first one's; from there dscale and dbias."""
    cdef const row_arguments* s = <const row_arguments*>arguments
    cdef place p = place_of(s, chunk, 1)
    cdef Py_ssize_t stride = s.channels, channels = p.channels, own = p.sample * stride + p.c
    cdef const real* inverse = <const real*>operand[3] + own
    cdef double* scale = partial_of(s, &p, operand[8])
    cdef double* bias = scale + stride
    cdef double* other = scale
    cdef real* dscale = <real*>operand[9] + own
    cdef real* dbias = <real*>operand[10] + own
    cdef Py_ssize_t block, i
    for block in range(1, s.row_blocks):
        other += 2 * stride
        for i in range(channels):
            scale[i] += other[i]
            bias[i] += other[stride + i]
    for i in range(channels):
        dscale[i] = <real>(scale[i] * inverse[i])
        dbias[i] = <real>bias[i]


cdef void input_gradient(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    cdef const row_arguments* s = <const row_arguments*>arguments
    cdef place p = place_of(s, chunk, s.row_blocks)
    cdef Py_ssize_t start = first_of(s, &p), own = p.sample * s.channels + p.c
    cdef norm_terms t = terms_of(s, &p, operand, 2, 3, 4, 5)
    t.dscale = <real*>operand[6] + own
    t.dbias = <real*>operand[7] + own
    activation_of(s).input(&t, <real*>operand[0] + start, <real*>operand[1] + start, <real*>operand[8] + start,
                           s.channels, p.rows, p.channels)
    stream_end()


cdef void running_average(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    cdef const average_arguments* s = <const average_arguments*>arguments
    cdef real** v = <real**>operand
    cdef double keep = s.momentum, take = 1 - s.momentum
    cdef Py_ssize_t c
    for c in range(s.channels):
        v[4][c] = <real>(v[2][c] * keep + v[0][c] * take)
        v[5][c] = <real>(v[3][c] * keep + v[1][c] * take)


cdef void check_statistics(const void* arguments, char** operand, Py_ssize_t chunk, char* scratch) noexcept nogil:
    cdef check_arguments* s = <check_arguments*>arguments
    cdef const real** v = <const real**>operand
    cdef Py_ssize_t c
    s.finite = True
    for c in range(s.channels):
        if not (isfinite(v[0][c]) and isfinite(v[1][c]) and isfinite(v[2][c]) and isfinite(v[3][c])):
            s.finite = False
            return


LOOPS = {
    "measure": <uintptr_t>measure,
    "combine_statistics": <uintptr_t>combine_statistics,
    "share_statistics": <uintptr_t>share_statistics,
    "normalize": <uintptr_t>normalize,
    "affine": <uintptr_t>affine,
    "fold": <uintptr_t>fold,
    "fold_convolution": <uintptr_t>fold_convolution,
    "sum_gradients": <uintptr_t>sum_gradients,
    "combine_gradients": <uintptr_t>combine_gradients,
    "input_gradient": <uintptr_t>input_gradient,
    "running_average": <uintptr_t>running_average,
    "check_statistics": <uintptr_t>check_statistics,
}

# Addresses of the rows of norm.h's table by the activation's name; the names of those whose derivative can be computed
# from f(z) as well as from z.
ACTIVATIONS = {activation_rows[i].name.decode(): <uintptr_t>&activation_rows[i] for i in range(activation_count)}
FROM_EITHER = tuple(activation_rows[i].name.decode() for i in range(activation_count) if activation_rows[i].either)
