/* elementwise.h: the loops of elementwise.pyx and broadcast.pyx, one formula a line.
 *
 * A formula is written on vectors and also serves the ragged tail, whose missing lanes compute on zeros that
 * are not stored. An output may be the same memory as an input: each vector is read before it is written. The
 * compiler could not vectorise a plain loop there, as it must allow for pointers that overlap by half.
 */
#ifndef CCONV_ELEMENTWISE_H
#define CCONV_ELEMENTWISE_H

#include "vmath.h"

/* y = f(x; a, b) */
typedef void (*unary_loop)(const real *, real *, ptrdiff_t, real, real);

#define UNARY(name, formula)                                                                \
    INLINE vf name##_of(vf x, vf a, vf b) { return formula; }                               \
    static void name(const real *x, real *y, ptrdiff_t n, real a, real b)                   \
    {                                                                                       \
        ptrdiff_t i = 0;                                                                    \
        for (; i + VL <= n; i += VL)                                                        \
            vstore(y + i, name##_of(vload(x + i), vset(a), vset(b)));                       \
        if (i < n)                                                                          \
            vstore_n(y + i, name##_of(vload_n(x + i, n - i), vset(a), vset(b)), n - i);     \
    }

UNARY(relu, vselect(x < (real)0, vzero(), x)) /* NaN stays NaN: a diverged run must not look healthy */
UNARY(leaky_relu, vselect(x < (real)0, a * x, x))
UNARY(clip, vclip(x, a, b))
UNARY(sigmoid, vsigmoid(x))
UNARY(hyperbolic_tangent, vtanh(x))
UNARY(scale, a * x)

/* dx = dy * f'(v; a, b), v being x or y = f(x) */
typedef void (*gradient_loop)(const real *, const real *, real *, ptrdiff_t, real, real);

#define GRADIENT(name, formula)                                                             \
    INLINE vf name##_of(vf dy, vf v, vf a, vf b) { return formula; }                        \
    static void name(const real *dy, const real *v, real *dx, ptrdiff_t n, real a, real b)  \
    {                                                                                       \
        ptrdiff_t i = 0;                                                                    \
        for (; i + VL <= n; i += VL)                                                        \
            vstore(dx + i, name##_of(vload(dy + i), vload(v + i), vset(a), vset(b)));       \
        if (i < n) {                                                                        \
            vf tail = name##_of(vload_n(dy + i, n - i), vload_n(v + i, n - i), vset(a), vset(b)); \
            vstore_n(dx + i, tail, n - i);                                                  \
        }                                                                                   \
    }

GRADIENT(relu_gradient, vselect(v > (real)0, dy, vzero()))
GRADIENT(leaky_relu_gradient, vselect(v > (real)0, dy, a * dy))
GRADIENT(clip_gradient, vselect((v > a) & (v < b), dy, vzero())) /* 0 on the bounds, where v may be y */
GRADIENT(sigmoid_gradient, dy * v * ((real)1 - v))
GRADIENT(tanh_gradient, dy * ((real)1 - v * v))

/* z[r * zr + i] = x[r * xr + i * xs] op y[r * yr + i * ys] for r < rows, i < n */
typedef void (*binary_loop)(const real *, ptrdiff_t, ptrdiff_t, const real *, ptrdiff_t, ptrdiff_t, real *,
                            ptrdiff_t, ptrdiff_t, ptrdiff_t);

#define RUN(op, x, y, tail_x, tail_y)                                                       \
    {                                                                                       \
        for (; i + VL <= n; i += VL) vstore(z + i, x op y);                                 \
        if (i < n) vstore_n(z + i, tail_x op tail_y, n - i);                                \
    }
#define BINARY(name, op)                                                                    \
    static void name(const real *x, ptrdiff_t xr, ptrdiff_t xs, const real *y, ptrdiff_t yr, ptrdiff_t ys, \
                     real *z, ptrdiff_t zr, ptrdiff_t rows, ptrdiff_t n)                    \
    {                                                                                       \
        for (ptrdiff_t r = 0; r < rows; r++, x += xr, y += yr, z += zr) {                   \
            ptrdiff_t i = 0;                                                                \
            if (xs == 1 && ys == 1)                                                         \
                RUN(op, vload(x + i), vload(y + i), vload_n(x + i, n - i), vload_n(y + i, n - i)) \
            else if (xs == 1 && ys == 0)                                                    \
                RUN(op, vload(x + i), vset(*y), vload_n(x + i, n - i), vset(*y))            \
            else if (xs == 0 && ys == 1)                                                    \
                RUN(op, vset(*x), vload(y + i), vset(*x), vload_n(y + i, n - i))            \
            else                                                                            \
                for (; i < n; i++) z[i] = x[i * xs] op y[i * ys];                           \
        }                                                                                   \
    }

BINARY(add, +)
BINARY(sub, -)
BINARY(mul, *)
BINARY(divide, /)

#endif
