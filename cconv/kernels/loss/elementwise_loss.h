/* elementwise_loss.h: one line for each loss that compares every output element with a target element of its own;
 * loss_loops.pyx compiles the table.
 *
 *     F(name, value, factor, slope)
 *
 * `value` is the loss of one element, in double: an expression of the output `x`, the target `t`, their difference
 * `d = x - t`, and the parameters `a` and `b` of the loss.
 *
 * `factor * slope` is its derivative with respect to x. `slope` is an expression of the same names in `real`; `factor` is a
 * constant, which is multiplied in double by the reciprocal of the batch's weight.
 */
#ifndef CCONV_ELEMENTWISE_LOSS_H
#define CCONV_ELEMENTWISE_LOSS_H

#include <math.h>
#include <stddef.h>

#include "simd.h"

#define ELEMENTWISE_LOSSES(F)                                                                                       \
    F(squared_error, d * d, 2, d)                                                                                   \
    F(absolute_error, fabs(d), 1, (d > 0) - (d < 0))

/* The sum of the losses of n elements. Writes their gradient, too, unless it is NULL. */
typedef double (*elementwise_loss_loop)(const real *output, const real *target, real *gradient, ptrdiff_t n,
                                        double reciprocal, double a, double b);

/* Unused names cost nothing: the compiler drops what a line does not use. */
#define DEFINE_ELEMENTWISE_LOSS(name, value, factor, slope)                                                         \
    static double name##_loop(const real *output, const real *target, real *gradient, ptrdiff_t n,                  \
                              double reciprocal, double a_, double b_)                                              \
    {                                                                                                               \
        double total = 0;                                                                                           \
        {                                                                                                           \
            const double a = a_, b = b_;                                                                            \
            for (ptrdiff_t i = 0; i < n; i++) {                                                                     \
                const double x = output[i], t = target[i], d = x - t;                                               \
                (void)a, (void)b, (void)x, (void)t, (void)d;                                                        \
                total += value;                                                                                     \
            }                                                                                                       \
        }                                                                                                           \
        if (gradient != NULL) {                                                                                     \
            const real scale = (real)(factor * reciprocal), a = (real)a_, b = (real)b_;                             \
            for (ptrdiff_t i = 0; i < n; i++) {                                                                     \
                const real x = output[i], t = target[i], d = x - t;                                                 \
                (void)a, (void)b, (void)x, (void)t, (void)d;                                                        \
                gradient[i] = scale * (slope);                                                                      \
            }                                                                                                       \
        }                                                                                                           \
        return total;                                                                                               \
    }
ELEMENTWISE_LOSSES(DEFINE_ELEMENTWISE_LOSS)

typedef struct {
    const char *name;
    elementwise_loss_loop loop;
} elementwise_loss;

#define ELEMENTWISE_LOSS_ROW(name, value, factor, slope) {#name, name##_loop},
static const elementwise_loss elementwise_losses[] = {ELEMENTWISE_LOSSES(ELEMENTWISE_LOSS_ROW)};
static const int elementwise_loss_count = sizeof elementwise_losses / sizeof *elementwise_losses;

#endif
