/* moments.h: each channel's mean and sum of squared deviations, computed while the values are in registers.
 *
 * Each channel sums deviations from a pivot, the channel's first value, and their squares. The pivot is close to the
 * mean, so subtracting sum * sum / count from the sum of squares at the end causes no large cancellation. The memory of
 * the moments has three rows, `apart` elements from one to the next: pivot, sum, sum of squares.
 */
#ifndef CCONV_MOMENTS_H
#define CCONV_MOMENTS_H

#include "simd.h"

typedef struct {
    vf pivot, sum, squares;
} moments;

/* Load the moments of a vector of channels. If `begin`, start new moments with the pivot `first` instead. */
INLINE moments moments_open(const real *at, ptrdiff_t apart, int begin, vf first)
{
    const vi fresh = (vi){0} - (lane)(begin != 0);
    return (moments){vselect(fresh, first, vload(at)), vselect(fresh, vzero(), vload(at + apart)),
                     vselect(fresh, vzero(), vload(at + 2 * apart))};
}
/* Add one value of each channel to the moments. */
INLINE void moments_take(moments *m, vf value)
{
    const vf d = value - m->pivot;
    m->sum += d;
    m->squares += d * d;
}
/* Store the moments of a vector of channels to memory. */
INLINE void moments_close(real *at, ptrdiff_t apart, moments m)
{
    vstore(at, m.pivot);
    vstore(at + apart, m.sum);
    vstore(at + 2 * apart, m.squares);
}

/* Convert moments of `count` values per channel to the mean and the sum of squared deviations from the mean. */
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
