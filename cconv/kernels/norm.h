/* norm.h: the innermost loops of norm.pyx, one set per activation f.
 *
 * A function for each activation, not a test in the loop: with six of them GCC leaves the test inside, and the loops
 * take up to 1.3 times as long where the data is in the cache.
 */
#ifndef CCONV_NORM_H
#define CCONV_NORM_H

#include "elementwise.h"

#define FEW 8 /* rows that share one load of the channels' factors and sums, see together() */

/* One value per channel each; z = (x - mean) * (inverse * scale) + bias. Absent are mean and bias as 0, scale as 1. */
typedef struct {
    const real *mean, *inverse, *scale, *bias;
    const real *dscale, *dbias; /* see InputGradient */
    real a, b;                  /* the activation's parameters */
    real share;                 /* 1 / rows */
    int grouped;
    int stream;                 /* the result is stored past the caches: all its vectors are whole and aligned */
} norm_terms;

INLINE vf lanes(const real *p, ptrdiff_t n) { return n == VL ? vload(p) : vload_n(p, n); }
INLINE vf lanes_or(const real *p, ptrdiff_t c, ptrdiff_t n, vf otherwise) { return p ? lanes(p + c, n) : otherwise; }
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

/* name, f(z; a, b), dy * f'(v; a, b), and whether v may be f(z) as well as z */
#define ACTIVATIONS(F)                                                                                              \
    F(none, z, dy, 1)                                                                                               \
    F(relu, relu_of(z, a, b), relu_gradient_of(dy, v, a, b), 1)                                                     \
    F(leaky_relu, leaky_relu_of(z, a, b), leaky_relu_gradient_of(dy, v, a, b), 1) /* for a >= 0 */                  \
    F(clip, clip_of(z, a, b), clip_gradient_of(dy, v, a, b), 1)                                                     \
    F(swish, swish_of(z, a, b), swish_gradient_of(dy, v, a, b), 0)                                                  \
    F(hard_swish, hard_swish_of(z, a, b), hard_swish_gradient_of(dy, v, a, b), 0)

/* Rows that are read together: FEW at once keep the memory busy (26 MB a tensor, 512 channels, 2 threads: 1.2 ms for
 * dx; one at a time 2.7). Rows multiples of 4 KiB apart would all share the same sets of L1 (1024 channels, 13 MB a
 * tensor: one at a time 0.6 ms, FEW 0.8); and what is stored past the caches must be whole lines. */
INLINE ptrdiff_t together(ptrdiff_t stride, int stream)
{
    return stride * sizeof(real) % 4096 && !(stream && VL < CACHE_LINE_REALS) ? FEW : 1;
}

/* For each group of rows, of whose elements neighbours are `stride` apart, and of these for each vector of channels. */
#define EACH_VECTOR                                                                                                 \
    const vf a = vset(t->a), b = vset(t->b);                                                                        \
    for (ptrdiff_t first = 0, group = together(stride, t->stream); first < rows; first += group)                    \
        for (ptrdiff_t c = 0; c < channels; c += VL)
#define VECTOR                                                                                                      \
    const ptrdiff_t n = channels - c < VL ? channels - c : VL, few = rows - first < group ? rows - first : group;   \
    ptrdiff_t at = first * stride + c;                                                                              \
    const vf mean = lanes_or(t->mean, c, n, vzero()), bias = lanes_or(t->bias, c, n, vzero())

/* y = f(z + residual); residual may be NULL */
typedef void (*apply_loop)(const norm_terms *, const real *x, const real *residual, real *y, ptrdiff_t stride,
                           ptrdiff_t rows, ptrdiff_t channels);
/* scales += dz * (x - mean), biases += dz with dz = dy * f'(z), or f' by y if that is not NULL; dz is stored if it has
 * a place. inverse may be NULL where f' does not need z. scales and biases have room for whole vectors. */
typedef void (*sums_loop)(const norm_terms *, const real *dy, const real *x, const real *y, real *dz, ptrdiff_t stride,
                          ptrdiff_t rows, ptrdiff_t channels, real *scales, real *biases);
/* dx = dz * inverse * scale - (dbias + (x - mean) * inverse * dscale) * share * inverse * scale, the last scale only if
 * not grouped */
typedef void (*input_loop)(const norm_terms *, const real *dy, const real *x, real *dx, ptrdiff_t stride,
                           ptrdiff_t rows, ptrdiff_t channels);

/* loop(t, ..., stream): a constant there, so that no test stands in the loop */
#define BY_STREAM(loop, t, ...) (t->stream ? loop(t, __VA_ARGS__, 1) : loop(t, __VA_ARGS__, 0))

#define DEFINE_ACTIVATION(name, forward, backward, either)                                                          \
    INLINE vf name##_forward(vf z, vf a, vf b) { return forward; }                                                  \
    INLINE vf name##_backward(vf dy, vf v, vf a, vf b) { return backward; }                                         \
    INLINE void name##_apply_by(const norm_terms *t, const real *x, const real *residual, real *y, ptrdiff_t stride,\
                                ptrdiff_t rows, ptrdiff_t channels, const int stream)                               \
    {                                                                                                               \
        EACH_VECTOR {                                                                                               \
            VECTOR;                                                                                                 \
            const vf factor = factor_of(t, c, n);                                                                   \
            for (ptrdiff_t r = 0; r < few; r++, at += stride) {                                                     \
                vf z = (lanes(x + at, n) - mean) * factor + bias;                                                   \
                if (residual) z += lanes(residual + at, n);                                                         \
                put(y + at, name##_forward(z, a, b), n, stream);                                                    \
            }                                                                                                       \
        }                                                                                                           \
    }                                                                                                               \
    static void name##_sums(const norm_terms *t, const real *dy, const real *x, const real *y, real *dz,            \
                            ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t channels, real *scales, real *biases)       \
    {                                                                                                               \
        EACH_VECTOR {                                                                                               \
            VECTOR;                                                                                                 \
            vf factor = vzero();                                                                                    \
            if (t->inverse) factor = factor_of(t, c, n);                                                            \
            vf s = vload(scales + c), total = vload(biases + c);                                                    \
            for (ptrdiff_t r = 0; r < few; r++, at += stride) {                                                     \
                vf g = lanes(dy + at, n), d = lanes(x + at, n) - mean, v = d * factor + bias;                       \
                if (y) v = lanes(y + at, n);                                                                        \
                g = name##_backward(g, v, a, b);                                                                    \
                if (dz) put(dz + at, g, n, 0);                                                                      \
                s += g * d;                                                                                         \
                total += g;                                                                                         \
            }                                                                                                       \
            vstore(scales + c, s);                                                                                  \
            vstore(biases + c, total);                                                                              \
        }                                                                                                           \
    }                                                                                                               \
    INLINE void name##_input_by(const norm_terms *t, const real *dy, const real *x, real *dx, ptrdiff_t stride,     \
                                ptrdiff_t rows, ptrdiff_t channels, const int stream)                               \
    {                                                                                                               \
        EACH_VECTOR {                                                                                               \
            VECTOR;                                                                                                 \
            const vf inverse = lanes(t->inverse + c, n), factor = factor_of(t, c, n);                               \
            vf outer = vset(t->share) * inverse;                                                                    \
            if (!t->grouped) outer = vset(t->share) * factor;                                                       \
            const vf slope = lanes(t->dscale + c, n) * inverse * outer, dy_mean = lanes(t->dbias + c, n) * outer;   \
            for (ptrdiff_t r = 0; r < few; r++, at += stride) {                                                     \
                vf g = lanes(dy + at, n), d = lanes(x + at, n) - mean;                                              \
                g = name##_backward(g, d * factor + bias, a, b);                                                    \
                put(dx + at, g * factor - (dy_mean + d * slope), n, stream);                                        \
            }                                                                                                       \
        }                                                                                                           \
    }                                                                                                               \
    static void name##_apply(const norm_terms *t, const real *x, const real *residual, real *y, ptrdiff_t stride,   \
                             ptrdiff_t rows, ptrdiff_t channels)                                                    \
    {                                                                                                               \
        BY_STREAM(name##_apply_by, t, x, residual, y, stride, rows, channels);                                      \
    }                                                                                                               \
    static void name##_input(const norm_terms *t, const real *dy, const real *x, real *dx, ptrdiff_t stride,        \
                             ptrdiff_t rows, ptrdiff_t channels)                                                    \
    {                                                                                                               \
        BY_STREAM(name##_input_by, t, dy, x, dx, stride, rows, channels);                                           \
    }
ACTIVATIONS(DEFINE_ACTIVATION)

typedef struct {
    const char *name;
    apply_loop apply;
    sums_loop sums;
    input_loop input;
    int either;
} norm_loops;

#define ACTIVATION_ROW(name, forward, backward, either) {#name, name##_apply, name##_sums, name##_input, either},
static const norm_loops activation_rows[] = {ACTIVATIONS(ACTIVATION_ROW)};
static const int activation_count = sizeof activation_rows / sizeof *activation_rows;

/* p + i, where p is there. */
INLINE real *past(const real *p, ptrdiff_t i) { return p ? (real *)p + i : NULL; }

#endif
