/* turn.h: matrix transposition, VL x VL elements at a time in registers.
 *
 * In ONNX's order, each output channel's weights are a row. Kernels read weights with output channels as vector lanes.
 * A copy element by element takes 1.5 cycles per element, these transposed squares 0.5 to 1 cycle.
 */
#ifndef CCONV_TURN_H
#define CCONV_TURN_H

#include "simd.h"

enum { LANES = VECTOR_BYTES / sizeof(real) }; /* VL as a constant, usable as an array length */

#if defined(__GNUC__) && !defined(__clang__)
/* One stage of the transposition, for a power of two s and row pairs (i, i + s) where i has bit s clear. Row i's lanes
 * with bit s set are exchanged with row i + s's lanes with bit s clear. After all stages the rows are the columns. */
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

/* Load and transpose: lane i of to[j] = element j of row i, for j < count. Rows are `stride` elements apart. Only
 * `live` rows are read; lanes from `live` on are 0. */
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

/* Transpose and store: element j of row i = lane i of from[j]. Writes `count` elements of each of `live` rows, which
 * are `stride` elements apart. */
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
