/* gradient_sums.h: the per-channel sums of a normalisation's backward pass, computed while the rows of dy are in the
 * cache.
 *
 * The sums are those of ParameterGradient in norm.pyx. With y = f(z + residual) and
 * z = (x - mean) * (inverse * scale) + bias,
 *
 *     dz = (dy + addend) * f'        scales += dz * (x - mean)        biases += dz
 *
 * The derivative f' of the activation f is 1 in an interval and 0 elsewhere, as for ReLU and Clip. The addend is the
 * gradient that y receives from its other consumers.
 */
#ifndef CCONV_GRADIENT_SUMS_H
#define CCONV_GRADIENT_SUMS_H

#include "simd.h"

/* How the derivative f' of the activation is found. SLOPE_ONE: it is 1 everywhere. SLOPE_OF_Y: from the activation's
 * output y. SLOPE_OF_Z: from its input z, which is recomputed from x. */
enum slope { SLOPE_ONE, SLOPE_OF_Y, SLOPE_OF_Z };

typedef struct {
    enum slope slope;
    real low, high;                            /* f' is 1 between low and high, else 0 */
    ptrdiff_t x, y, addend;                    /* bytes from an element of dz to that of x, y, addend */
    int adds;                                  /* whether the addend is added to dy */
    const real *mean, *inverse, *scale, *bias; /* [channels]; only SLOPE_OF_Z reads the last three */
    int stream;                                /* whether stores of dz bypass the caches */
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

/* Compute dz from `rows` rows (pixels) of dy, and add each channel's sums to `scales` and `biases`. `channels` is a
 * multiple of VL. Strides are in elements. dz may be the memory of dy. */
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
