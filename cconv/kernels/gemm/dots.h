/* dots.h: dot products of a vector with each row of a matrix. The matrix is read in place, once. */
#ifndef CCONV_DOTS_H
#define CCONV_DOTS_H

#include "turn.h"

/* For j < count: c[j] = alpha * sum over k < depth of a[k] * b[j * stride + k] (+ bias[j], unless bias is NULL). Each
 * row j has a vector accumulator; its lane l sums all k with k % VL == l. The lanes are then added in ascending order.
 * */
static void dots(const real *a, const real *b, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t depth, real alpha,
                 const real *bias, real *c)
{
    const ptrdiff_t whole = depth - depth % VL;
    const vf rest = vload_n(a + whole, depth % VL);
    for (ptrdiff_t j = 0; j < count; j += VL, b += VL * stride) {
        const ptrdiff_t live = count - j < VL ? count - j : VL;
        vf sums[LANES] = {{0}};
        if (live == VL) {
            /* Four rows share one base pointer, which saves registers: rows 0 to 3 are at 0 to 3 times the stride. */
            const ptrdiff_t one = stride, two = 2 * stride, three = 3 * stride;
            const real *p[(LANES + 3) / 4];
            UNROLL for (int i = 0; i < (LANES + 3) / 4; i++) p[i] = b + 4 * i * stride;
            for (ptrdiff_t k = 0; k < whole; k += VL) {
                const vf x = vload(a + k);
                UNROLL for (int i = 0; i < VL; i++) {
                    const real *q = p[i / 4] + k + (i % 4 == 0 ? 0 : i % 4 == 1 ? one : i % 4 == 2 ? two : three);
                    sums[i] += x * vload(q);
                }
            }
        } else
            for (int i = 0; i < live; i++)
                for (ptrdiff_t k = 0; k < whole; k += VL) sums[i] += vload(a + k) * vload(b + i * stride + k);
        if (whole < depth)
            for (int i = 0; i < live; i++) sums[i] += rest * vload_n(b + i * stride + whole, depth - whole);
        turn(sums);
        vf total = sums[0];
        UNROLL for (int i = 1; i < VL; i++) total += sums[i];
        total *= vset(alpha);
        if (bias) total += vload_n(bias + j, live);
        vstore_n(c + j, total, live);
    }
}

#endif
