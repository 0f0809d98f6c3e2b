/* norm.h: the innermost loops of norm_loops.pyx, one set per activation f.
 *
 * Each activation has functions of its own. A test in one common loop was slower: with six activations GCC leaves the
 * test inside the loop, which then takes up to 1.3 times as long if the data is in the cache.
 */
#ifndef CCONV_NORM_H
#define CCONV_NORM_H

#include "elementwise.h"

#define FEW 8 /* rows that share one load of the channels' factors and sums, see together() */

/* Pointers to one value per channel; z = (x - mean) * (inverse * scale) + bias. A NULL mean or bias counts as 0, a NULL
 * scale as 1. */
typedef struct {
    const real *mean, *inverse, *scale, *bias;
    const real *dscale, *dbias; /* see InputGradient in norm.pyx */
    real a, b;                  /* the activation's parameters */
    real share;                 /* 1 / rows */
    int grouped;
    int stream;                 /* the result bypasses the caches; all its vectors are whole and aligned */
} norm_terms;

INLINE vf lanes(const real *p, ptrdiff_t n) { return n == VL ? vload(p) : vload_n(p, n); }
INLINE void put(real *p, vf v, ptrdiff_t n, int stream)
{
    if (stream) vstream(p, v);
    else if (n == VL) vstore(p, v);
    else vstore_n(p, v, n);
}
INLINE vf factor_of(const norm_terms *t, ptrdiff_t c, ptrdiff_t n)
{
    vf factor = lanes(t->inverse + c, n);
    if (t->scale) factor *= lanes(t->scale + c, n);
    return factor;
}

/* name, f(z; a, b), dy * f'(v; a, b), whether v may be f(z) as well as z */
#define ACTIVATIONS(F)                                                                                              \
    F(none, z, dy, 1)                                                                                               \
    F(relu, relu_of(z, a, b), relu_gradient_of(dy, v, a, b), 1)                                                     \
    F(leaky_relu, leaky_relu_of(z, a, b), leaky_relu_gradient_of(dy, v, a, b), 1) /* for a >= 0 */                  \
    F(clip, clip_of(z, a, b), clip_gradient_of(dy, v, a, b), 1)                                                     \
    F(swish, swish_of(z, a, b), swish_gradient_of(dy, v, a, b), 0)                                                  \
    F(hard_swish, hard_swish_of(z, a, b), hard_swish_gradient_of(dy, v, a, b), 0)

/* Vectors of a row that are processed side by side, so that memory is read in longer runs. Their factors and sums stay
 * in registers (Normalize of 512 rows of 64 channels, in L2: 5.5 us with one vector, 3.6 us with 4; a training step of
 * MobileNetV2: 245 -> 238 ms). */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { ABREAST = 4 };
#else
enum { ABREAST = 2 };
#endif

/* Rows that are processed together. FEW of them keep more memory accesses in flight (InputGradient, 26 MB a tensor, 512
 * channels, 2 threads: 1.2 ms; with one row at a time 2.7 ms). Stores that bypass the caches must fill a line before
 * they begin another. So rows are processed one at a time if the vectors abreast are narrower than a line. */
INLINE ptrdiff_t together(int stream) { return stream && ABREAST * VL < CACHE_LINE_REALS ? 1 : FEW; }

/* Calls loop(t, c, n, vectors, at, few, ...) for each group of rows and each run of `vectors` vectors in it. The run
 * begins at channel c, and its last vector has n lanes. The group has `few` rows; its first element at channel c is
 * `at`. */
#define EACH_GROUP(loop, t, stream, ...)                                                                            \
    for (ptrdiff_t first = 0, group = together(stream); first < rows; first += group) {                             \
        const ptrdiff_t few = rows - first < group ? rows - first : group;                                          \
        ptrdiff_t c = 0;                                                                                            \
        for (; c + ABREAST * VL <= channels; c += ABREAST * VL)                                                     \
            loop(t, c, VL, ABREAST, first * stride + c, few, __VA_ARGS__);                                          \
        if (ABREAST > 2 && c + 2 * VL <= channels) {                                                                \
            loop(t, c, VL, 2, first * stride + c, few, __VA_ARGS__);                                                \
            c += 2 * VL;                                                                                            \
        }                                                                                                           \
        for (; c + VL <= channels; c += VL) loop(t, c, VL, 1, first * stride + c, few, __VA_ARGS__);                \
        if (c < channels) loop(t, c, channels - c, 1, first * stride + c, few, __VA_ARGS__);                        \
    }
#define EACH_ROW for (ptrdiff_t r = 0; r < few; r++, at += stride)
#define EACH_VECTOR UNROLL for (int v = 0; v < vectors; v++)
#define VLOAD(p) lanes((p) + v * VL, n)
#define VLOAD_OR(p, otherwise) ((p) ? VLOAD((p) + c) : (otherwise))

/* y = f(z + residual); residual may be NULL */
typedef void (*apply_loop)(const norm_terms *, const real *x, const real *residual, real *y, ptrdiff_t stride,
                           ptrdiff_t rows, ptrdiff_t channels);
/* scales += dz * (x - mean), biases += dz with dz = dy * f'; f' is computed from y if y is not NULL, else from z. dz is
 * stored if its pointer is not NULL. inverse may be NULL if f' does not need z. scales and biases have room for whole
 * vectors. */
typedef void (*sums_loop)(const norm_terms *, const real *dy, const real *x, const real *y, real *dz, ptrdiff_t stride,
                          ptrdiff_t rows, ptrdiff_t channels, real *scales, real *biases);
/* dx = dz * inverse * scale - (dbias + (x - mean) * inverse * dscale) * share * inverse * scale, the last scale only if
 * not grouped */
typedef void (*input_loop)(const norm_terms *, const real *dy, const real *x, real *dx, ptrdiff_t stride,
                           ptrdiff_t rows, ptrdiff_t channels);

#define DEFINE_ACTIVATION(name, forward, backward, either)                                                          \
    INLINE vf name##_forward(vf z, vf a, vf b) { return forward; }                                                  \
    INLINE vf name##_backward(vf dy, vf v, vf a, vf b) { return backward; }                                         \
    INLINE void name##_apply_few(const norm_terms *t, ptrdiff_t c, ptrdiff_t n, const int vectors, ptrdiff_t at,    \
                                 ptrdiff_t few, const real *x, const real *residual, real *y, ptrdiff_t stride,     \
                                 const int stream)                                                                  \
    {                                                                                                               \
        const vf a = vset(t->a), b = vset(t->b);                                                                    \
        vf mean[ABREAST], factor[ABREAST], bias[ABREAST];                                                           \
        EACH_VECTOR {                                                                                               \
            mean[v] = VLOAD_OR(t->mean, vzero());                                                                   \
            bias[v] = VLOAD_OR(t->bias, vzero());                                                                   \
            factor[v] = factor_of(t, c + v * VL, n);                                                                \
        }                                                                                                           \
        EACH_ROW EACH_VECTOR {                                                                                      \
            vf z = (VLOAD(x + at) - mean[v]) * factor[v] + bias[v];                                                 \
            if (residual) z += VLOAD(residual + at);                                                                \
            put(y + at + v * VL, name##_forward(z, a, b), n, stream);                                               \
        }                                                                                                           \
    }                                                                                                               \
    INLINE void name##_sums_few(const norm_terms *t, ptrdiff_t c, ptrdiff_t n, const int vectors, ptrdiff_t at,     \
                                ptrdiff_t few, const real *dy, const real *x, const real *y, real *dz,              \
                                ptrdiff_t stride, real *scales, real *biases)                                       \
    {                                                                                                               \
        const vf a = vset(t->a), b = vset(t->b);                                                                    \
        vf mean[ABREAST], factor[ABREAST], bias[ABREAST], scale_sum[ABREAST], bias_sum[ABREAST];                    \
        EACH_VECTOR {                                                                                               \
            mean[v] = VLOAD_OR(t->mean, vzero());                                                                   \
            bias[v] = VLOAD_OR(t->bias, vzero());                                                                   \
            factor[v] = t->inverse ? factor_of(t, c + v * VL, n) : vzero();                                         \
            scale_sum[v] = vload(scales + c + v * VL);                                                              \
            bias_sum[v] = vload(biases + c + v * VL);                                                               \
        }                                                                                                           \
        EACH_ROW EACH_VECTOR {                                                                                      \
            const vf d = VLOAD(x + at) - mean[v];                                                                   \
            vf g = VLOAD(dy + at), z = d * factor[v] + bias[v];                                                     \
            if (y) z = VLOAD(y + at);                                                                               \
            g = name##_backward(g, z, a, b);                                                                        \
            if (dz) put(dz + at + v * VL, g, n, 0);                                                                 \
            scale_sum[v] += g * d;                                                                                  \
            bias_sum[v] += g;                                                                                       \
        }                                                                                                           \
        EACH_VECTOR {                                                                                               \
            vstore(scales + c + v * VL, scale_sum[v]);                                                              \
            vstore(biases + c + v * VL, bias_sum[v]);                                                               \
        }                                                                                                           \
    }                                                                                                               \
    INLINE void name##_input_few(const norm_terms *t, ptrdiff_t c, ptrdiff_t n, const int vectors, ptrdiff_t at,    \
                                 ptrdiff_t few, const real *dy, const real *x, real *dx, ptrdiff_t stride,          \
                                 const int stream)                                                                  \
    {                                                                                                               \
        const vf a = vset(t->a), b = vset(t->b);                                                                    \
        vf mean[ABREAST], factor[ABREAST], bias[ABREAST], slope[ABREAST], dy_mean[ABREAST];                         \
        EACH_VECTOR {                                                                                               \
            const vf inverse = VLOAD(t->inverse + c);                                                               \
            mean[v] = VLOAD_OR(t->mean, vzero());                                                                   \
            bias[v] = VLOAD_OR(t->bias, vzero());                                                                   \
            factor[v] = factor_of(t, c + v * VL, n);                                                                \
            const vf outer = vset(t->share) * (t->grouped ? inverse : factor[v]);                                   \
            slope[v] = VLOAD(t->dscale + c) * inverse * outer;                                                      \
            dy_mean[v] = VLOAD(t->dbias + c) * outer;                                                               \
        }                                                                                                           \
        EACH_ROW EACH_VECTOR {                                                                                      \
            const vf d = VLOAD(x + at) - mean[v];                                                                   \
            const vf g = name##_backward(VLOAD(dy + at), d * factor[v] + bias[v], a, b);                            \
            put(dx + at + v * VL, g * factor[v] - (dy_mean[v] + d * slope[v]), n, stream);                          \
        }                                                                                                           \
    }                                                                                                               \
    static void name##_apply(const norm_terms *t, const real *x, const real *residual, real *y, ptrdiff_t stride,   \
                             ptrdiff_t rows, ptrdiff_t channels)                                                    \
    {                                                                                                               \
        if (t->stream) EACH_GROUP(name##_apply_few, t, 1, x, residual, y, stride, 1)                                \
        else EACH_GROUP(name##_apply_few, t, 0, x, residual, y, stride, 0)                                          \
    }                                                                                                               \
    static void name##_sums(const norm_terms *t, const real *dy, const real *x, const real *y, real *dz,            \
                            ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t channels, real *scales, real *biases)       \
    {                                                                                                               \
        EACH_GROUP(name##_sums_few, t, 0, dy, x, y, dz, stride, scales, biases)                                     \
    }                                                                                                               \
    static void name##_input(const norm_terms *t, const real *dy, const real *x, real *dx, ptrdiff_t stride,        \
                             ptrdiff_t rows, ptrdiff_t channels)                                                    \
    {                                                                                                               \
        if (t->stream) EACH_GROUP(name##_input_few, t, 1, dy, x, dx, stride, 1)                                     \
        else EACH_GROUP(name##_input_few, t, 0, dy, x, dx, stride, 0)                                               \
    }
ACTIVATIONS(DEFINE_ACTIVATION)

typedef struct {
    const char *name;
    apply_loop apply;
    sums_loop sums;
    input_loop input;
    int either;
} activation_row;

#define ACTIVATION_ROW(name, forward, backward, either) {#name, name##_apply, name##_sums, name##_input, either},
static const activation_row activation_rows[] = {ACTIVATIONS(ACTIVATION_ROW)};
static const int activation_count = sizeof activation_rows / sizeof *activation_rows;

/* p + i; NULL if p is NULL. */
INLINE real *past(const real *p, ptrdiff_t i) { return p ? (real *)p + i : NULL; }

#endif
