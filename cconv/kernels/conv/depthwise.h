/* depthwise.h: the inner loops of depthwise convolutions, over one row of pixels. Vector lanes are channels.
 *
 * A row of outputs reads one row of inputs for each kernel row that lies inside of the image. From each input row,
 * output i reads elements i * step .. i * step + taps - 1. A group is a few neighbouring outputs that are computed
 * together. Because taps and step are compile-time constants, each input and each weight is loaded once for the whole
 * group.
 */
#ifndef CCONV_DEPTHWISE_H
#define CCONV_DEPTHWISE_H

#include "moments.h"

/* Pixels of a group: their accumulators, the weights of a kernel row and one input must fit in the registers. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define DEPTHWISE_GROUP 8
#else
#define DEPTHWISE_GROUP 4
#endif

typedef struct {
    ptrdiff_t rows;          /* number of input rows that are summed over */
    const real **x;          /* [rows] in each input row, the first pixel's first input */
    const real **w;          /* [rows] weights of each kernel row, [tap][channel] */
    ptrdiff_t channels;      /* number of channels; also elements between pixels and between taps */
    ptrdiff_t step;          /* stride; not read by loops that have it as a compile-time constant */
    ptrdiff_t ahead;         /* elements from the last input row to the row that is prefetched */
    real *y;                 /* first output pixel */
    ptrdiff_t y_step;        /* elements between output pixels */
    const real *bias;        /* [channels] or NULL */
    ptrdiff_t residual;      /* bytes from an output to the residual that is added to it */
    int add_residual, clamped;
    int stream;              /* stores bypass the caches; requires whole, aligned vectors */
    real low, high;
    real *moments;           /* per-channel statistics that the outputs are added to (moments.h), or NULL */
    ptrdiff_t moments_apart; /* elements between the rows of `moments` */
    int begins;              /* whether these outputs are the first added to the moments */
} depthwise_job;

typedef void (*depthwise_fn)(const depthwise_job *job, ptrdiff_t pixels);

/* Compute one group: output pixels first..first+width-1, channels c..c+n-1. `whole`: n is VL. */
INLINE void depthwise_group(const int taps, const ptrdiff_t step, const int width, const int whole,
                            const depthwise_job *job, ptrdiff_t first, ptrdiff_t c, ptrdiff_t n)
{
#define LOAD(p) (whole ? vload(p) : vload_n(p, n))
    const ptrdiff_t pixel = job->channels;
    vf acc[DEPTHWISE_GROUP];
    const vf bias = job->bias ? LOAD(job->bias + c) : vzero();
    UNROLL for (int i = 0; i < width; i++) acc[i] = bias;
    for (ptrdiff_t r = 0; r < job->rows; r++) {
        const real *x = job->x[r] + first * step * pixel + c, *w = job->w[r] + c;
        vf weight[8];
        UNROLL for (int k = 0; k < taps; k++) weight[k] = LOAD(w + k * pixel);
        if (taps == 1) {
            UNROLL for (int i = 0; i < width; i++) acc[i] += LOAD(x + i * step * pixel) * weight[0];
        } else {
            UNROLL for (int j = 0; j < (width - 1) * (int)step + taps; j++) {
                const vf value = LOAD(x + j * pixel);
                UNROLL for (int k = 0; k < taps; k++)
                    if (j >= k && (j - k) % (int)step == 0 && (j - k) / (int)step < width)
                        acc[(j - k) / (int)step] += value * weight[k];
            }
        }
        if (whole && r + 1 == job->rows)
            UNROLL for (int i = 0; i < width; i++) __builtin_prefetch(x + i * step * pixel + job->ahead, 0, 2);
    }
    real *const y = job->y + first * job->y_step + c;
    if (job->add_residual)
        UNROLL for (int i = 0; i < width; i++)
            acc[i] += LOAD((const real *)((const char *)(y + i * job->y_step) + job->residual));
    if (job->clamped) {
        const vf low = vset(job->low), high = vset(job->high);
        UNROLL for (int i = 0; i < width; i++) acc[i] = vclamp(acc[i], low, high);
    }
    if (job->moments) {
        moments m = moments_open(job->moments + c, job->moments_apart, job->begins && first == 0, acc[0]);
        UNROLL for (int i = 0; i < width; i++) moments_take(&m, acc[i]);
        moments_close(job->moments + c, job->moments_apart, m);
    }
    UNROLL for (int i = 0; i < width; i++) {
        real *p = y + i * job->y_step;
        if (whole && job->stream) vstream(p, acc[i]);
        else if (whole) vstore(p, acc[i]);
        else vstore_n(p, acc[i], n);
    }
#undef LOAD
}

INLINE void depthwise_pixels(const int taps, const ptrdiff_t step, const int width, const depthwise_job *job,
                             ptrdiff_t first)
{
    ptrdiff_t c = 0;
    for (; c + VL <= job->channels; c += VL) depthwise_group(taps, step, width, 1, job, first, c, VL);
    if (c < job->channels) depthwise_group(taps, step, width, 0, job, first, c, job->channels - c);
}

/* Define one function per number of taps and step, so that both are compile-time constants. */
#define DEPTHWISE(name, taps, step)                                                                          \
    __attribute__((noinline, unused)) static void name(const depthwise_job *job, ptrdiff_t pixels)           \
    {                                                                                                        \
        ptrdiff_t i = 0;                                                                                     \
        for (; i + DEPTHWISE_GROUP <= pixels; i += DEPTHWISE_GROUP)                                          \
            depthwise_pixels(taps, step, DEPTHWISE_GROUP, job, i);                                           \
        for (; i + 2 <= pixels; i += 2) depthwise_pixels(taps, step, 2, job, i);                             \
        for (; i < pixels; i++) depthwise_pixels(taps, step, 1, job, i);                                     \
    }
#define DEPTHWISE_STEPS(taps) DEPTHWISE(depthwise_##taps##_1, taps, 1) DEPTHWISE(depthwise_##taps##_2, taps, 2)

DEPTHWISE(depthwise_1, 1, job->step)
DEPTHWISE_STEPS(2)
DEPTHWISE_STEPS(3)
DEPTHWISE_STEPS(4)
DEPTHWISE_STEPS(5)
DEPTHWISE_STEPS(7)

/* The function for each [taps][step - 1]. NULL: there is none; kernel rows of this length are computed tap by tap. */
__attribute__((unused)) static const depthwise_fn depthwise_table[][2] = {
    {NULL, NULL}, {depthwise_1, depthwise_1}, {depthwise_2_1, depthwise_2_2}, {depthwise_3_1, depthwise_3_2},
    {depthwise_4_1, depthwise_4_2}, {depthwise_5_1, depthwise_5_2}, {NULL, NULL}, {depthwise_7_1, depthwise_7_2}};

/* Weight gradient of one kernel row, from one row of dy:
 * sums[tap][channel] += sum over p < pixels of x[p * step + tap][channel] * dy[p][channel].
 * The sum starts from zero in registers. Even and odd pixels have separate accumulators, which shortens the chains of
 * dependent FMAs. */
INLINE void depthwise_taps(const int taps, const ptrdiff_t step, const int whole, const real *x, const real *dy,
                           ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t n, real *sums)
{
#define LOAD(p) (whole ? vload(p) : vload_n(p, n))
    vf even[8], odd[8];
    UNROLL for (int k = 0; k < taps; k++) even[k] = odd[k] = vzero();
    ptrdiff_t p = 0;
    for (; p + 2 <= pixels; p += 2) {
        const vf a = LOAD(dy), b = LOAD(dy + channels);
        UNROLL for (int k = 0; k < taps; k++) {
            even[k] += LOAD(x + k * channels) * a;
            odd[k] += LOAD(x + (step + k) * channels) * b;
        }
        x += 2 * step * channels;
        dy += 2 * channels;
    }
    if (p < pixels) {
        const vf a = LOAD(dy);
        UNROLL for (int k = 0; k < taps; k++) even[k] += LOAD(x + k * channels) * a;
    }
    UNROLL for (int k = 0; k < taps; k++) {
        real *q = sums + k * channels;
        if (whole) vstore(q, vload(q) + (even[k] + odd[k]));
        else vstore_n(q, vload_n(q, n) + (even[k] + odd[k]), n);
    }
#undef LOAD
}

typedef void (*depthwise_sum_fn)(const real *x, const real *dy, ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t step,
                                 real *sums);

#define DEPTHWISE_SUM(name, taps, step_)                                                                     \
    __attribute__((noinline, unused)) static void name(const real *x, const real *dy, ptrdiff_t pixels,     \
                                                       ptrdiff_t channels, ptrdiff_t step, real *sums)      \
    {                                                                                                        \
        ptrdiff_t c = 0;                                                                                     \
        for (; c + VL <= channels; c += VL)                                                                  \
            depthwise_taps(taps, step_, 1, x + c, dy + c, pixels, channels, VL, sums + c);                   \
        if (c < channels)                                                                                    \
            depthwise_taps(taps, step_, 0, x + c, dy + c, pixels, channels, channels - c, sums + c);         \
    }

DEPTHWISE_SUM(depthwise_sum_1, 1, step)
DEPTHWISE_SUM(depthwise_sum_3, 3, step)
DEPTHWISE_SUM(depthwise_sum_5, 5, step)
DEPTHWISE_SUM(depthwise_sum_7, 7, step)

/* The weight gradient function for each number of taps. NULL: there is none, so taps are computed one by one. */
__attribute__((unused)) static const depthwise_sum_fn depthwise_sums[] = {
    NULL, depthwise_sum_1, NULL, depthwise_sum_3, NULL, depthwise_sum_5, NULL, depthwise_sum_7};

#endif
