/* tile.h: the micro-kernel, which computes one register tile of a matrix product. All convolutions
 * but depthwise ones use it, and Gemm.
 *
 *     C[i][j] = sum over segments s, steps k of  A(s, i, k) * B[s][k][j]   (+ C[i][j]) (+ bias[j]) (+ R[i][j])
 *
 * R is a residual. The result can also be clamped, as the last operation. So the epilogue of a convolution needs no
 * pass of its own. C has up to TILE_ROWS rows and `vectors` vectors of columns, which stay in registers throughout.
 * Each step k loads two vectors of B and broadcasts each row's A from memory, so 14 x 2 FMAs take 16 loads. Sums start
 * from zero and are added to C at the end. Compared with starting from C this costs nothing and halves the rounding
 * error.
 *
 * The rows of A form two halves with a base address each: rows 0..ceil(n/2)-1 at a0, a0 + row, ...; the others at a1,
 * a1 + row, .... For n neighbouring pixels, a1 = a0 + ceil(n/2) * row. For two short rows of an image, a0 and a1 are
 * independent. A half has at most seven rows, because x86 can address seven rows from one base without spilling
 * registers: 0, 1, 2 and 4 times `row`, 1 and 2 times 3 * row, and 5 * row.
 *
 * `row`, `step` and `offset` are in bytes, so that the compiler needs no shifts in the loop. There are two families of
 * tiles:
 *     across   step is one element: a row is a pixel, steps are its channels (forward, input gradient)
 *     along    row is one element: a row is a channel, steps are pixels (weight gradient, transposed A)
 */
#ifndef CCONV_TILE_H
#define CCONV_TILE_H

#include "moments.h"

/* What is done with a sum before it is stored, in this order. The bits can be combined. */
enum tile_mode { TILE_STORE = 0, TILE_ADD = 1, TILE_BIAS = 2, TILE_RESIDUAL = 4, TILE_CLAMP = 8,
                 TILE_STREAM = 16,  /* stores bypass the caches; requires whole, aligned vectors */
                 TILE_MEASURE = 32, /* add the stored values to the columns' statistics, see moments.h (tile_across) */
                 TILE_BEGIN = 64,   /* with TILE_MEASURE: initialise the statistics with these values */
                 TILE_FETCH = 128 /* prefetch from `stream` instead of `ahead` (tile_across) */ };

enum { TILE_STREAMS = 6 };

typedef struct {
    const ptrdiff_t *offset; /* [segments] bytes from a0 and a1 */
    ptrdiff_t segments;
    ptrdiff_t depth;         /* number of steps k per segment */
    ptrdiff_t row, step;     /* bytes between rows, between steps */
    const real *b;           /* [segments][depth][vectors * VL] */
    const real *bias;        /* [columns], for TILE_BIAS */
    ptrdiff_t columns;       /* number of columns of C, <= vectors * VL */
    ptrdiff_t ldc;           /* elements between rows of C */
    ptrdiff_t residual;      /* bytes from an element of C to the same of R, for TILE_RESIDUAL */
    real low, high;          /* for TILE_CLAMP; a NaN stays NaN */
    const char *ahead;       /* data read after this tile; each step prefetches one cache line of it to L2 */
    ptrdiff_t ahead_step;    /* bytes from one prefetch to the next; 0: prefetch only the first line */
    ptrdiff_t ahead_row;     /* additional bytes after each segment (tile_along) */
    const char *stream[TILE_STREAMS]; /* for TILE_FETCH: where each segment begins to prefetch */
    ptrdiff_t streams;                /* number of streams in use; any further segments use the first */
    int mode;                /* bits of tile_mode */
    real *moments;           /* statistics of the columns, for TILE_MEASURE; see moments.h */
    ptrdiff_t moments_apart; /* elements between the rows of `moments` */
} tile_job;

typedef void (*tile_fn)(const tile_job *job, const char *a0, const char *a1, real *c0, real *c1);

/* Address of row i of a half. r1, r3, r5 are 1, 3 and 5 times the stride between rows, which are in registers. */
INLINE const char *row_at(const char *p, int i, ptrdiff_t r1, ptrdiff_t r3, ptrdiff_t r5)
{
    switch (i) {
    case 0: return p;
    case 1: return p + r1;
    case 2: return p + 2 * r1;
    case 3: return p + r3;
    case 4: return p + 4 * r1;
    case 5: return p + r5;
    default: return p + 2 * r3;
    }
}

/* A loop over all vectors of the tile; the address in C of the current vector; the address of its residual. */
#define EACH_VECTOR UNROLL for (int i = 0; i < n; i++) UNROLL for (int v = 0; v < vectors; v++)
#define PLACE ((i < n0 ? c0 + i * ldc : c1 + (i - n0) * ldc) + v * VL)
#define RESIDUAL ((const real *)((const char *)PLACE + job->residual))

/* Add column vector v of all rows to the columns' statistics. */
INLINE void tile_measure(const int n, const int v, const tile_job *job, vf acc[TILE_ROWS][TILE_VECTORS])
{
    moments m = moments_open(job->moments + v * VL, job->moments_apart, job->mode & TILE_BEGIN, acc[0][v]);
    UNROLL for (int i = 0; i < n; i++) moments_take(&m, acc[i][v]);
    moments_close(job->moments + v * VL, job->moments_apart, m);
}

/* Apply the operations in job->mode to the sums and store them. The last vector of each row has `tail` valid lanes. */
INLINE void tile_finish(const int n, const int vectors, const ptrdiff_t tail, const int measures, const tile_job *job,
                        vf acc[TILE_ROWS][TILE_VECTORS], real *c0, real *c1)
{
    const int n0 = (n + 1) / 2;
    const ptrdiff_t ldc = job->ldc;
#define LOAD(p) (v + 1 < vectors || tail == VL ? vload(p) : vload_n(p, tail))
    if (job->mode & TILE_ADD) EACH_VECTOR acc[i][v] += LOAD(PLACE);
    if (job->mode & TILE_BIAS) EACH_VECTOR acc[i][v] += LOAD(job->bias + v * VL);
    if (job->mode & TILE_RESIDUAL) EACH_VECTOR acc[i][v] += LOAD(RESIDUAL);
    if (job->mode & TILE_CLAMP) {
        const vf low = vset(job->low), high = vset(job->high);
        EACH_VECTOR acc[i][v] = vclamp(acc[i][v], low, high);
    }
    if (measures && job->mode & TILE_MEASURE) {
        tile_measure(n, 0, job, acc);
        if (vectors > 1) tile_measure(n, 1, job, acc);
    }
    if (tail == VL && job->mode & TILE_STREAM) EACH_VECTOR vstream(PLACE, acc[i][v]);
    else EACH_VECTOR if (v + 1 < vectors || tail == VL) vstore(PLACE, acc[i][v]);
    else vstore_n(PLACE, acc[i][v], tail);
#undef LOAD
}

INLINE void tile_body(const int n, const int vectors, const ptrdiff_t row, const ptrdiff_t step, const int measures,
                      const tile_job *job, const char *a0, const char *a1, real *c0, real *c1)
{
    const int n0 = (n + 1) / 2;
    const ptrdiff_t r1 = row, r3 = 3 * row, r5 = 5 * row, ldc = job->ldc;
    const real *b = job->b;
    const char *ahead = job->ahead;
    const ptrdiff_t ahead_step = job->ahead_step;
    vf acc[TILE_ROWS][TILE_VECTORS];
    EACH_VECTOR acc[i][v] = vzero();
    /* C and R are needed at the end. Prefetch their cache lines to L1 now. */
    if (!(job->mode & TILE_STREAM)) EACH_VECTOR __builtin_prefetch(PLACE, 1);
    if (job->mode & TILE_RESIDUAL) EACH_VECTOR __builtin_prefetch(RESIDUAL);

    for (ptrdiff_t s = 0; s < job->segments; s++) {
        const char *p0 = a0 + job->offset[s], *p1 = a1 + job->offset[s];
        if (measures && job->mode & TILE_FETCH) ahead = job->stream[s < job->streams ? s : 0];
        for (ptrdiff_t k = 0; k < job->depth; k++) {
            vf b0 = vload(b), b1 = vectors > 1 ? vload(b + VL) : vzero();
            UNROLL for (int i = 0; i < n; i++) {
                const char *p = i < n0 ? row_at(p0, i, r1, r3, r5) : row_at(p1, i - n0, r1, r3, r5);
                vf a = vset(*(const real *)p);
                acc[i][0] += a * b0;
                if (vectors > 1) acc[i][1] += a * b1;
            }
            __builtin_prefetch(ahead, 0, 2);
            ahead += ahead_step;
            p0 += step;
            p1 += step;
            b += vectors * VL;
        }
        if (!measures) ahead += job->ahead_row;
    }

    if (job->columns == vectors * VL)
        tile_finish(n, vectors, VL, measures, job, acc, c0, c1);
    else
        tile_finish(n, vectors, job->columns - (vectors - 1) * VL, measures, job, acc, c0, c1);
}

#undef EACH_VECTOR
#undef PLACE
#undef RESIDUAL

/* Whether a family of tiles supports TILE_MEASURE and TILE_FETCH. Weight gradients ("along") do not need them. */
enum { measures_across = 1, measures_along = 0 };

/* Define one function per number of rows and vectors, so that all loop bounds are constants: tile_across_14_2, ... */
#define TILE_FUNCTION(family, n, vectors, row, step)                                                         \
    __attribute__((noinline, unused)) static void tile_##family##_##n##_##vectors(                           \
        const tile_job *job, const char *a0, const char *a1, real *c0, real *c1)                              \
    {                                                                                                         \
        tile_body(n, vectors, row, step, measures_##family, job, a0, a1, c0, c1);                                \
    }
#define TILE_PAIR(family, n, row, step) TILE_FUNCTION(family, n, 1, row, step) TILE_FUNCTION(family, n, 2, row, step)
#define TILE_LOW(family, row, step)                                                                           \
    TILE_PAIR(family, 1, row, step) TILE_PAIR(family, 2, row, step) TILE_PAIR(family, 3, row, step)           \
    TILE_PAIR(family, 4, row, step) TILE_PAIR(family, 5, row, step) TILE_PAIR(family, 6, row, step)
#define TILE_HIGH(family, row, step)                                                                          \
    TILE_PAIR(family, 7, row, step) TILE_PAIR(family, 8, row, step) TILE_PAIR(family, 9, row, step)           \
    TILE_PAIR(family, 10, row, step) TILE_PAIR(family, 11, row, step) TILE_PAIR(family, 12, row, step)        \
    TILE_PAIR(family, 13, row, step) TILE_PAIR(family, 14, row, step)
#define TILE_ENTRY(family, n) {tile_##family##_##n##_1, tile_##family##_##n##_2}
#define TILE_TABLE_LOW(family)                                                                                \
    {0, 0}, TILE_ENTRY(family, 1), TILE_ENTRY(family, 2), TILE_ENTRY(family, 3), TILE_ENTRY(family, 4),       \
        TILE_ENTRY(family, 5), TILE_ENTRY(family, 6)
#define TILE_TABLE_HIGH(family)                                                                               \
    TILE_ENTRY(family, 7), TILE_ENTRY(family, 8), TILE_ENTRY(family, 9), TILE_ENTRY(family, 10),              \
        TILE_ENTRY(family, 11), TILE_ENTRY(family, 12), TILE_ENTRY(family, 13), TILE_ENTRY(family, 14)

#define ELEMENT ((ptrdiff_t)sizeof(real))
TILE_LOW(across, job->row, ELEMENT)
TILE_LOW(along, ELEMENT, job->step)
#if TILE_ROWS == 14
TILE_HIGH(across, job->row, ELEMENT)
TILE_HIGH(along, ELEMENT, job->step)
__attribute__((unused)) static const tile_fn tile_across[][2] = {TILE_TABLE_LOW(across), TILE_TABLE_HIGH(across)};
__attribute__((unused)) static const tile_fn tile_along[][2] = {TILE_TABLE_LOW(along), TILE_TABLE_HIGH(along)};
#elif TILE_ROWS == 6
__attribute__((unused)) static const tile_fn tile_across[][2] = {TILE_TABLE_LOW(across)};
__attribute__((unused)) static const tile_fn tile_along[][2] = {TILE_TABLE_LOW(along)};
#else
#error "tile.h: no table for this TILE_ROWS"
#endif

/* Number of vectors per packed row of a block of `columns` columns. */
INLINE int block_vectors(ptrdiff_t columns) { return columns > VL ? 2 : 1; }

/* Copy `count` pixels of `channels` channels each. Strides are in elements. */
INLINE void copy_pixels(const real *source, ptrdiff_t source_stride, real *target, ptrdiff_t target_stride,
                        ptrdiff_t count, ptrdiff_t channels)
{
    if (source_stride == channels && target_stride == channels) {
        memcpy(target, source, count * channels * sizeof(real));
        return;
    }
    for (ptrdiff_t p = 0; p < count; p++) {
        ptrdiff_t c = 0;
        for (; c + VL <= channels; c += VL) vstore(target + c, vload(source + c));
        if (c < channels) vstore_n(target + c, vload_n(source + c, channels - c), channels - c);
        source += source_stride;
        target += target_stride;
    }
}
/* Copy `count` pixels and split their channels into panels of `panel` channels, panel_size elements apart. Each pixel
 * is read as one contiguous piece. In a panel, each pixel has room for whole vectors. */
INLINE void split_pixels(const real *source, ptrdiff_t source_stride, real *target, ptrdiff_t target_stride,
                         ptrdiff_t count, ptrdiff_t channels, ptrdiff_t panel, ptrdiff_t panel_size)
{
    if (panel >= channels) {
        copy_pixels(source, source_stride, target, target_stride, count, channels);
        return;
    }
    for (ptrdiff_t p = 0; p < count; p++, source += source_stride, target += target_stride) {
        real *to = target;
        for (ptrdiff_t c = 0; c < channels; c += panel, to += panel_size)
            for (ptrdiff_t e = 0; e < panel; e += VL) {
                const ptrdiff_t left = channels - c - e;
                vstore(to + e, left >= VL ? vload(source + c + e) : vload_n(source + c + e, left > 0 ? left : 0));
            }
    }
}
/* Set `count` pixels of `channels` channels each to 0. The stride is in elements. */
INLINE void zero_pixels(real *target, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t channels)
{
    if (stride == channels) channels *= count, count = count > 0;
    for (ptrdiff_t p = 0; p < count; p++, target += stride) {
        ptrdiff_t c = 0;
        for (; c + VL <= channels; c += VL) vstore(target + c, vzero());
        if (c < channels) vstore_n(target + c, vzero(), channels - c);
    }
}
/* Copy `count` pixels of `channels` channels each to rows of `width` elements (whole vectors), padded with 0. */
INLINE void pad_pixels(const real *source, ptrdiff_t source_stride, real *target, ptrdiff_t width, ptrdiff_t count,
                       ptrdiff_t channels)
{
    if (channels == TILE_COLS && width == TILE_COLS) {
        for (ptrdiff_t p = 0; p < count; p++, source += source_stride, target += TILE_COLS)
            UNROLL for (int v = 0; v < TILE_VECTORS; v++) vstore(target + v * VL, vload(source + v * VL));
        return;
    }
    for (ptrdiff_t p = 0; p < count; p++, source += source_stride, target += width) {
        ptrdiff_t c = 0;
        for (; c + VL <= channels; c += VL) vstore(target + c, vload(source + c));
        if (c < channels) vstore(target + c, vload_n(source + c, channels - c)), c += VL;
        for (; c < width; c += VL) vstore(target + c, vzero());
    }
}

#endif
