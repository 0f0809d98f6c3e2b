/* moments.h: mean and squared deviations of each channel, found from values that are in registers anyway.
 *
 * The sums are of deviations from a pivot, the first value of a channel. The pivot is near enough to the mean that the
 * sum of squares holds no large mean that would cancel. Memory has three rows, `apart` elements from one to the next:
 * pivot, sum, sum of squares.
 */
#ifndef CCONV_MOMENTS_H
#define CCONV_MOMENTS_H

#include "simd.h"

typedef struct {
    vf pivot, sum, squares;
} moments;

/* Load the moments of a vector of channels. With `begin` there are none yet, and `first` becomes the pivot. */
INLINE moments moments_open(const real *at, ptrdiff_t apart, int begin, vf first)
{
    const vi fresh = (vi){0} - (lane)(begin != 0);
    return (moments){vselect(fresh, first, vload(at)), vselect(fresh, vzero(), vload(at + apart)),
                     vselect(fresh, vzero(), vload(at + 2 * apart))};
}
INLINE void moments_take(moments *m, vf value)
{
    const vf d = value - m->pivot;
    m->sum += d;
    m->squares += d * d;
}
INLINE void moments_close(real *at, ptrdiff_t apart, moments m)
{
    vstore(at, m.pivot);
    vstore(at + apart, m.sum);
    vstore(at + 2 * apart, m.squares);
}

/* Mean and sum of squared deviations from it, of `count` values of each channel. */
__attribute__((unused)) static void moments_found(const real *at, ptrdiff_t apart, ptrdiff_t channels, ptrdiff_t count,
                                                  double *mean, double *squares)
{
    for (ptrdiff_t c = 0; c < channels; c++) {
        const double sum = at[apart + c];
        mean[c] = at[c] + sum / count;
        squares[c] = at[2 * apart + c] - sum * sum / count;
    }
}

#endif
