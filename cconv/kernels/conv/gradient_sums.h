/* gradient_sums.h: the first part of a normalisation's gradient, computed from rows of dy that are in the cache anyway.
 *
 * These are the sums of norm.pyx's ParameterGradient. With y = f(z + residual) and
 * z = (x - mean) * (inverse * scale) + bias,
 *
 *     dz = (dy + addend) * f'        scales += dz * (x - mean)        biases += dz
 *
 * The derivative of f is 1 in an interval and 0 elsewhere. The addend is the gradient that reaches y on other paths.
 */
#ifndef CCONV_GRADIENT_SUMS_H
#define CCONV_GRADIENT_SUMS_H

#include "simd.h"

/* Where f' is read from: nowhere, because it is 1 everywhere; from y; or from z, which is recomputed. */
enum slope { SLOPE_ONE, SLOPE_OF_Y, SLOPE_OF_Z };

typedef struct {
    enum slope slope;
    real low, high;                            /* f' is 1 between them */
    ptrdiff_t x, y, addend;                    /* bytes from an element of dz to these */
    int adds;                                  /* whether there is an addend */
    const real *mean, *inverse, *scale, *bias; /* [channels]; all but the mean are for SLOPE_OF_Z only */
    int stream;                                /* whether dz is stored past the caches */
} gradient_terms;

INLINE void gradient_sums_of(const enum slope slope, const int vectors, const gradient_terms *t, ptrdiff_t c,
                             const real *dy, ptrdiff_t dy_stride, real *dz, ptrdiff_t stride, ptrdiff_t rows,
                             real *scales, real *biases)
{
#define AT(offset) vload((const real *)((const char *)p + t->offset))
    const vf low = vset(t->low), high = vset(t->high);
    vf mean[2], factor[2], bias[2], s[2], b[2];
    UNROLL for (int v = 0; v < vectors; v++) {
        const ptrdiff_t at = c + v * VL;
        mean[v] = vload(t->mean + at);
        s[v] = vload(scales + at);
        b[v] = vload(biases + at);
        if (slope == SLOPE_OF_Z) {
            factor[v] = vload(t->inverse + at) * vload(t->scale + at);
            bias[v] = vload(t->bias + at);
        }
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            real *p = dz + r * stride + c + v * VL;
            vf g = vload(dy + r * dy_stride + c + v * VL);
            const vf d = AT(x) - mean[v];
            if (t->adds) g += AT(addend);
            if (slope == SLOPE_OF_Y) {
                const vf y = AT(y);
                g = vselect((y > low) & (y < high), g, vzero());
            } else if (slope == SLOPE_OF_Z) {
                const vf z = d * factor[v] + bias[v];
                g = vselect((z > low) & (z < high), g, vzero());
            }
            s[v] += g * d;
            b[v] += g;
            if (t->stream) vstream(p, g);
            else vstore(p, g);
        }
    }
    UNROLL for (int v = 0; v < vectors; v++) {
        vstore(scales + c + v * VL, s[v]);
        vstore(biases + c + v * VL, b[v]);
    }
#undef AT
}

/* For rows of whole vectors of channels. Strides are in elements. dz may be dy. */
__attribute__((unused)) static void gradient_sums(const gradient_terms *t, ptrdiff_t channels, const real *dy,
                                                  ptrdiff_t dy_stride, real *dz, ptrdiff_t stride, ptrdiff_t rows,
                                                  real *scales, real *biases)
{
#define EACH_PAIR(slope)                                                                                          \
    {                                                                                                             \
        ptrdiff_t c = 0;                                                                                          \
        for (; c + 2 * VL <= channels; c += 2 * VL)                                                               \
            gradient_sums_of(slope, 2, t, c, dy, dy_stride, dz, stride, rows, scales, biases);                    \
        if (c < channels) gradient_sums_of(slope, 1, t, c, dy, dy_stride, dz, stride, rows, scales, biases);      \
    }
    if (t->slope == SLOPE_OF_Y) EACH_PAIR(SLOPE_OF_Y)
    else if (t->slope == SLOPE_OF_Z) EACH_PAIR(SLOPE_OF_Z)
    else EACH_PAIR(SLOPE_ONE)
#undef EACH_PAIR
}

#endif
