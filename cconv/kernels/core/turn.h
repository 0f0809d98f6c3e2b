/* turn.h: rows of a matrix to columns, VL x VL elements at a time in registers.
 *
 * Weights in ONNX's order have their outputs as rows; kernels read them with the outputs as lanes. Element by element
 * a copy takes one and a half cycles an element; by these squares, half of one to one.
 */
#ifndef CCONV_TURN_H
#define CCONV_TURN_H

#include "simd.h"

enum { LANES = VECTOR_BYTES / sizeof(real) }; /* VL as an array's length */

#if defined(__GNUC__) && !defined(__clang__)
/* Rows i and i + s exchange the lanes whose bit s is not theirs; after all s a row is what was a column. */
#define TURN_BY(s)                                                                                                  \
    if ((s) < VL) {                                                                                                 \
        const vi up = (vi)((lanes & (lane)(s)) != 0), low = lanes + (up & (lane)(VL - (s)));                        \
        const vi high = low + (lane)(s);                                                                            \
        UNROLL for (int i = 0; i < VL; i++) if (!(i & (s)))                                                         \
        {                                                                                                           \
            const vf a = r[i], b = r[i + (s)];                                                                      \
            r[i] = __builtin_shuffle(a, b, low);                                                                    \
            r[i + (s)] = __builtin_shuffle(a, b, high);                                                             \
        }                                                                                                           \
    }

INLINE void turn(vf *r)
{
    vi lanes;
    UNROLL for (int i = 0; i < VL; i++) lanes[i] = i;
    TURN_BY(1)
    TURN_BY(2)
    TURN_BY(4)
    TURN_BY(8)
}
#undef TURN_BY
#else
INLINE void turn(vf *r)
{
    for (int i = 0; i < VL; i++)
        for (int j = 0; j < i; j++) {
            const real x = r[i][j];
            r[i][j] = r[j][i];
            r[j][i] = x;
        }
}
#endif

/* r[j] = element j of `live` rows that lie `stride` elements apart, for j < count; lanes of further rows are 0. */
static void load_turned(const real *from, ptrdiff_t stride, ptrdiff_t live, ptrdiff_t count, vf *to)
{
    vf r[LANES];
    if (live >= VL && count >= VL)
        UNROLL for (int i = 0; i < VL; i++) r[i] = vload(from + i * stride);
    else if (live >= VL)
        UNROLL for (int i = 0; i < VL; i++) r[i] = vload_n(from + i * stride, count);
    else
        UNROLL for (int i = 0; i < VL; i++) r[i] = i < live ? vload_n(from + i * stride, count < VL ? count : VL) : vzero();
    turn(r);
    UNROLL for (int i = 0; i < VL; i++) to[i] = r[i];
}

/* The other way: lane i of from[j] is element j of row i. Of `live` rows `count` elements are written. */
static void store_turned(const vf *from, ptrdiff_t live, ptrdiff_t count, real *to, ptrdiff_t stride)
{
    vf r[LANES];
    UNROLL for (int i = 0; i < VL; i++) r[i] = from[i];
    turn(r);
    if (live >= VL && count >= VL)
        UNROLL for (int i = 0; i < VL; i++) vstore(to + i * stride, r[i]);
    else
        UNROLL for (int i = 0; i < VL; i++) if (i < live) vstore_n(to + i * stride, r[i], count < VL ? count : VL);
}

#endif
