/* reduce.h: what reduce.pyx combines values by, one operation a line.
 *
 * name, its neutral element, the operation on vectors and on scalars. Four rows are combined pairwise.
 */
#ifndef CCONV_REDUCE_H
#define CCONV_REDUCE_H

#include "simd.h"

#define REDUCTIONS(F)                                                                       \
    F(sum, 0, a + b, a + b)                                                                 \
    F(prod, 1, a * b, a * b)                                                                \
    F(max, -INFINITY, vselect((a > b) | (a != a), a, b), a > b || a != a ? a : b)           \
    F(min, INFINITY, vselect((a < b) | (a != a), a, b), a < b || a != a ? a : b)

/* total[c] = the operation of total[c] and x[r * stride + c] for all r < rows, for c in 0..n-1 */
typedef void (*rows_loop)(const real *x, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t n, real *total);
/* total[c] = the operation of total[c], total[c + n], ..., `times` of them */
typedef void (*fold_loop)(real *total, ptrdiff_t times, ptrdiff_t n);
/* total[c] = the operation of total[c] and x[c] */
typedef void (*combine_loop)(const real *x, ptrdiff_t n, double *total);

#define DEFINE_REDUCTION(name, neutral, on_vectors, on_scalars)                             \
    INLINE vf name##_of(vf a, vf b) { return on_vectors; }                                  \
    static void name##_rows(const real *x, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t n, real *total) \
    {                                                                                       \
        const ptrdiff_t whole = n - n % VL;                                                 \
        ptrdiff_t r = 0, c;                                                                 \
        for (; r + 4 <= rows; r += 4, x += 4 * stride) {                                    \
            const real *p1 = x + stride, *p2 = p1 + stride, *p3 = p2 + stride;              \
            for (c = 0; c < whole; c += VL) {                                               \
                vf four = name##_of(name##_of(vload(x + c), vload(p1 + c)), name##_of(vload(p2 + c), vload(p3 + c))); \
                vstore(total + c, name##_of(vload(total + c), four));                       \
            }                                                                               \
            if (c < n) {                                                                    \
                ptrdiff_t k = n - c;                                                        \
                vf four = name##_of(name##_of(vload_n(x + c, k), vload_n(p1 + c, k)),       \
                                    name##_of(vload_n(p2 + c, k), vload_n(p3 + c, k)));     \
                vstore_n(total + c, name##_of(vload_n(total + c, k), four), k);             \
            }                                                                               \
        }                                                                                   \
        for (; r < rows; r++, x += stride) {                                                \
            for (c = 0; c < whole; c += VL) vstore(total + c, name##_of(vload(total + c), vload(x + c))); \
            if (c < n) vstore_n(total + c, name##_of(vload_n(total + c, n - c), vload_n(x + c, n - c)), n - c); \
        }                                                                                   \
    }                                                                                       \
    static void name##_fold(real *total, ptrdiff_t times, ptrdiff_t n)                      \
    {                                                                                       \
        for (ptrdiff_t t = 1; t < times; t++)                                               \
            for (ptrdiff_t c = 0; c < n; c++) {                                             \
                real a = total[c], b = total[t * n + c];                                    \
                total[c] = on_scalars;                                                      \
            }                                                                               \
    }                                                                                       \
    static void name##_combine(const real *x, ptrdiff_t n, double *total)                   \
    {                                                                                       \
        for (ptrdiff_t c = 0; c < n; c++) {                                                 \
            double a = total[c], b = x[c];                                                  \
            total[c] = on_scalars;                                                          \
        }                                                                                   \
    }
REDUCTIONS(DEFINE_REDUCTION)

typedef struct {
    const char *name;
    double neutral;
    rows_loop rows;
    fold_loop fold;
    combine_loop combine;
} reduction_row;

#define REDUCTION_ROW(name, neutral, on_vectors, on_scalars) {#name, neutral, name##_rows, name##_fold, name##_combine},
static const reduction_row reduction_rows[] = {REDUCTIONS(REDUCTION_ROW)};
static const int reduction_count = sizeof reduction_rows / sizeof *reduction_rows;

#endif
