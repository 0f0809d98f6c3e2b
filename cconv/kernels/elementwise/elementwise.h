/* elementwise.h: the loops of elementwise.pyx and broadcast.pyx, one formula a line.
 *
 * A formula is written on vectors and also serves the ragged tail, whose missing lanes compute on zeros that
 * are not stored. An output may be the same memory as an input: each vector is read before it is written. The
 * compiler could not vectorise a plain loop there, as it must allow for pointers that overlap by half.
 *
 * A list of formulas is read twice: once to define the loops, once to make the table in which steps find them.
 */
#ifndef CCONV_ELEMENTWISE_H
#define CCONV_ELEMENTWISE_H

#include "vmath.h"

#define ONE ((real)1)
#define HALF ((real)0.5)

/* y = f(x; a, b) */
typedef void (*unary_loop)(const real *, real *, ptrdiff_t, real, real);

#define UNARY_FORMULAS(F)                                                                                           \
    F(relu, vselect(x < (real)0, vzero(), x)) /* NaN stays NaN: a diverged run must not look healthy */             \
    F(leaky_relu, vselect(x < (real)0, a * x, x))                                                                   \
    F(thresholded_relu, vselect(x <= a, vzero(), x))                                                                \
    F(clip, vclamp(x, a, b))                                                                                         \
    F(sigmoid, vsigmoid(x))                                                                                         \
    F(hard_sigmoid, vclamp(a * x + b, vzero(), vset(ONE)))                                                           \
    F(tanh, vtanh(x))                                                                                               \
    F(swish, x * vsigmoid(a * x))                                                                                   \
    F(hard_swish, x * vhard_gate(x))                                                                                \
    F(mish, x * vmish_gate(x))                                                                                      \
    F(gelu, HALF * x * (ONE + verf(x * (real)0.70710678118654752)))                                                 \
    F(gelu_tanh, x * vsigmoid(vgelu_argument(x)))                                                                   \
    F(elu, vselect(x < (real)0, a * vexpm1(b * vmin(x, vzero())), x)) /* a: alpha, b: 1, for Celu 1 / alpha */      \
    F(selu, vselect(x < (real)0, a * vexpm1(vmin(x, vzero())), b * x)) /* a: alpha * gamma, b: gamma */             \
    F(softplus, vsoftplus(x))                                                                                       \
    F(softsign, x / (ONE + vabs(x)))                                                                                \
    F(erf, verf(x))                                                                                                 \
    F(exp, vexp(x))                                                                                                 \
    F(log, vlog(x))                                                                                                 \
    F(sqrt, vsqrt(x))                                                                                               \
    F(reciprocal, ONE / x)                                                                                          \
    F(square, x * x)                                                                                                \
    F(power, vexp(a * vlog(x))) /* x^a for x > 0, error about |a log x| ulp */                                      \
    F(scale, a * x)                                                                                                 \
    F(affine, a * x + b)                                                                                            \
    F(abs, vabs(x))                                                                                                 \
    F(sign, vsign(x))                                                                                               \
    F(floor, vfloor(x))                                                                                             \
    F(ceil, vceil(x))                                                                                               \
    F(round, vrint(x))                                                                                              \
    F(sin, vsin(x))                                                                                                 \
    F(cos, vcos(x))                                                                                                 \
    F(tan, vtan(x))                                                                                                 \
    F(asin, vasin(x))                                                                                               \
    F(acos, vacos(x))                                                                                               \
    F(atan, vatan(x))                                                                                               \
    F(sinh, vsinh(x))                                                                                               \
    F(cosh, vcosh(x))                                                                                               \
    F(asinh, vasinh(x))                                                                                             \
    F(acosh, vacosh(x))                                                                                             \
    F(atanh, vatanh(x))

/* dx = dy * f'(v; a, b), v being x or y = f(x) as the comment says */
typedef void (*gradient_loop)(const real *, const real *, real *, ptrdiff_t, real, real);

#define GRADIENT_FORMULAS(F)                                                                                        \
    F(relu, vselect(v > (real)0, dy, vzero())) /* x or y */                                                         \
    F(leaky_relu, vselect(v > (real)0, dy, a * dy)) /* x, or y where a >= 0 */                                      \
    F(thresholded_relu, vselect(v > a, dy, vzero())) /* x */                                                        \
    F(clip, vselect((v > a) & (v < b), dy, vzero())) /* x or y: 0 on the bounds, where v may be y */                \
    F(sigmoid, dy * v * (ONE - v)) /* y */                                                                          \
    F(hard_sigmoid, vselect((v > (real)0) & (v < ONE), a * dy, vzero())) /* y */                                    \
    F(tanh, dy * (ONE - v * v)) /* y */                                                                             \
    F(swish, dy * vswish_slope(v, a)) /* x */                                                                       \
    F(hard_swish, dy * vhard_swish_slope(v)) /* x */                                                                \
    F(mish, dy * vmish_slope(v)) /* x */                                                                            \
    F(gelu, dy * vgelu_slope(v)) /* x */                                                                            \
    F(gelu_tanh, dy * vgelu_tanh_slope(v)) /* x */                                                                  \
    F(elu, vselect(v > (real)0, dy, dy * (a * b) * vexp(b * vmin(v, vzero())))) /* x */                             \
    F(selu, dy * vselect(v > (real)0, b, a * vexp(vmin(v, vzero())))) /* x */                                       \
    F(softplus, dy * vsigmoid(v)) /* x */                                                                           \
    F(softsign, dy / ((ONE + vabs(v)) * (ONE + vabs(v)))) /* x */                                                   \
    F(erf, dy * (real)1.1283791670955126 * vexp(-v * v)) /* x */                                                    \
    F(exp, dy * v) /* y */                                                                                          \
    F(log, dy / v) /* x */                                                                                          \
    F(sqrt, HALF * dy / v) /* y */                                                                                  \
    F(reciprocal, -dy * v * v) /* y */                                                                              \
    F(abs, dy * vsign(v)) /* x */                                                                                   \
    F(sin, dy * vcos(v)) /* x */                                                                                    \
    F(cos, -dy * vsin(v)) /* x */                                                                                   \
    F(tan, dy * (ONE + v * v)) /* y */                                                                              \
    F(asin, dy / vsqrt(ONE - v * v)) /* x */                                                                        \
    F(acos, -dy / vsqrt(ONE - v * v)) /* x */                                                                       \
    F(atan, dy / (ONE + v * v)) /* x */                                                                             \
    F(sinh, dy * vcosh(v)) /* x */                                                                                  \
    F(cosh, dy * vsinh(v)) /* x */                                                                                  \
    F(asinh, dy / vsqrt(v * v + ONE)) /* x */                                                                       \
    F(acosh, dy / vsqrt(v * v - ONE)) /* x */                                                                       \
    F(atanh, dy / (ONE - v * v)) /* x */

/* z[r * zr + i] = f(x[r * xr + i * xs], y[r * yr + i * ys]) for r < rows, i < n */
typedef void (*binary_loop)(const real *, ptrdiff_t, ptrdiff_t, const real *, ptrdiff_t, ptrdiff_t, real *,
                            ptrdiff_t, ptrdiff_t, ptrdiff_t);

#define BINARY_FORMULAS(F)                                                                                          \
    F(add, x + y)                                                                                                   \
    F(sub, x - y)                                                                                                   \
    F(mul, x * y)                                                                                                   \
    F(div, x / y)                                                                                                   \
    F(div_or_zero, vselect(y == (real)0, vzero(), x / y))                                                           \
    F(min, vselect((x < y) | (x != x), x, y))                                                                       \
    F(max, vselect((x > y) | (x != x), x, y))                                                                       \
    F(greater_share, vselect(x > y, vset(ONE), vselect(x == y, vset(HALF), vzero()))) /* d max(x, y) / dx */        \
    F(equal, vselect(x == y, vset(ONE), vzero()))                                                                   \
    F(pow, vpow(x, y))                                                                                              \
    F(pow_slope, vselect(y == (real)0, vzero(), y * vpow(x, y - ONE))) /* d x^y / dx */                             \
    F(pow_log, vselect((x == (real)0) & (y < (real)INFINITY), vzero(), y * vlog(x))) /* d x^y / dy, of x, x^y */    \
    F(fmod, vfmod(x, y))                                                                                            \
    F(mod, vmod(x, y))                                                                                              \
    F(trunc_div, vtrunc(x / y))                                                                                     \
    F(floor_div, vfloor(x / y))                                                                                     \
    F(prelu, vselect(x < (real)0, x * y, x))                                                                        \
    F(prelu_slope, vselect(x > (real)0, vset(ONE), y)) /* d prelu / dx */                                           \
    F(mul_negative, x * vmin(y, vzero()))

INLINE vf vsign(vf x) { return vselect(x > (real)0, vset(ONE), vselect(x < (real)0, vset(-ONE), x)); }

/* What swish and its kind multiply x by, and their slopes. Arguments are cut where the gate is 0 or 1 to the last bit,
 * so that no infinity arises that a 0 would make NaN of. */
INLINE vf vswish_slope(vf x, vf a)
{
    vf s = vsigmoid(a * x);
    return s + s * (ONE - s) * x * a;
}
INLINE vf vhard_gate(vf x) { return vclamp(x + (real)3, vzero(), vset(6)) * (real)(1.0 / 6); }
INLINE vf vhard_swish_slope(vf x)
{
    vf inside = x * (real)(1.0 / 3) + HALF;
    return vselect(vabs(x) < (real)3, inside, vselect(x < (real)0, vzero(), vset(ONE)));
}
/* tanh(log(1 + e^x)) = n / (n + 2) with n = e^x (e^x + 2) */
INLINE vf vmish_gate(vf x)
{
    vf e = vexp(vselect(x > (real)20, vset(20), x));
    vf n = e * (e + (real)2);
    return n / (n + (real)2);
}
INLINE vf vmish_slope(vf x)
{
    vf t = vmish_gate(x);
    return t + x * (ONE - t * t) * vsigmoid(x);
}
INLINE vf vgelu_slope(vf x)
{
    vf density = vexp(x * x * -HALF) * (real)0.39894228040143268;
    return HALF * (ONE + verf(x * (real)0.70710678118654752)) + vselect(vabs(x) > (real)40, vzero(), x) * density;
}
/* 2 sqrt(2 / pi) (x + 0.044715 x^3): x / 2 (1 + tanh(u / 2)) is x sigmoid(u), which does not cancel for x < 0. */
INLINE vf vgelu_argument(vf x)
{
    x = vclamp(x, vset(-40), vset(40));
    return (real)1.5957691216057308 * x * (ONE + (real)0.044715 * x * x);
}
INLINE vf vgelu_tanh_slope(vf x)
{
    vf s = vsigmoid(vgelu_argument(x)), inside = vclamp(x, vset(-40), vset(40));
    vf slope = (real)1.5957691216057308 * (ONE + (real)(3 * 0.044715) * inside * inside);
    return s + inside * s * (ONE - s) * slope;
}

#define DEFINE_UNARY(name, formula)                                                         \
    INLINE vf name##_of(vf x, vf a, vf b) { return formula; }                               \
    static void name##_loop(const real *x, real *y, ptrdiff_t n, real a, real b)            \
    {                                                                                       \
        ptrdiff_t i = 0;                                                                    \
        for (; i + VL <= n; i += VL)                                                        \
            vstore(y + i, name##_of(vload(x + i), vset(a), vset(b)));                       \
        if (i < n)                                                                          \
            vstore_n(y + i, name##_of(vload_n(x + i, n - i), vset(a), vset(b)), n - i);     \
    }

#define DEFINE_GRADIENT(name, formula)                                                      \
    INLINE vf name##_gradient_of(vf dy, vf v, vf a, vf b) { return formula; }               \
    static void name##_gradient_loop(const real *dy, const real *v, real *dx, ptrdiff_t n, real a, real b) \
    {                                                                                       \
        ptrdiff_t i = 0;                                                                    \
        for (; i + VL <= n; i += VL)                                                        \
            vstore(dx + i, name##_gradient_of(vload(dy + i), vload(v + i), vset(a), vset(b))); \
        if (i < n) {                                                                        \
            vf tail = name##_gradient_of(vload_n(dy + i, n - i), vload_n(v + i, n - i), vset(a), vset(b)); \
            vstore_n(dx + i, tail, n - i);                                                  \
        }                                                                                   \
    }

/* n elements that are `step` apart, side by side. */
INLINE vf vgather_n(const real *p, ptrdiff_t step, ptrdiff_t n)
{
    real held[VL];
    for (ptrdiff_t i = 0; i < n; i++) held[i] = p[i * step];
    return vload_n(held, n);
}

#define RUN(name, x, y, tail_x, tail_y)                                                     \
    {                                                                                       \
        for (; i + VL <= n; i += VL) vstore(z + i, name##_of(x, y));                        \
        if (i < n) vstore_n(z + i, name##_of(tail_x, tail_y), n - i);                       \
    }
#define DEFINE_BINARY(name, formula)                                                        \
    INLINE vf name##_of(vf x, vf y) { return formula; }                                     \
    static void name##_loop(const real *x, ptrdiff_t xr, ptrdiff_t xs, const real *y, ptrdiff_t yr, ptrdiff_t ys, \
                            real *z, ptrdiff_t zr, ptrdiff_t rows, ptrdiff_t n)             \
    {                                                                                       \
        for (ptrdiff_t r = 0; r < rows; r++, x += xr, y += yr, z += zr) {                   \
            ptrdiff_t i = 0;                                                                \
            if (xs == 1 && ys == 1)                                                         \
                RUN(name, vload(x + i), vload(y + i), vload_n(x + i, n - i), vload_n(y + i, n - i)) \
            else if (xs == 1 && ys == 0)                                                    \
                RUN(name, vload(x + i), vset(*y), vload_n(x + i, n - i), vset(*y))          \
            else if (xs == 0 && ys == 1)                                                    \
                RUN(name, vset(*x), vload(y + i), vset(*x), vload_n(y + i, n - i))          \
            else                                                                            \
                for (; i < n; i += VL) {                                                    \
                    ptrdiff_t left = n - i < VL ? n - i : VL;                               \
                    vf u = vgather_n(x + i * xs, xs, left), v = vgather_n(y + i * ys, ys, left); \
                    vstore_n(z + i, name##_of(u, v), left);                                 \
                }                                                                           \
        }                                                                                   \
    }

UNARY_FORMULAS(DEFINE_UNARY)
GRADIENT_FORMULAS(DEFINE_GRADIENT)
BINARY_FORMULAS(DEFINE_BINARY)

typedef struct {
    const char *name;
    unary_loop loop;
} unary_row;
typedef struct {
    const char *name;
    gradient_loop loop;
} gradient_row;
typedef struct {
    const char *name;
    binary_loop loop;
} binary_row;

#define LOOP_ROW(name, formula) {#name, name##_loop},
#define GRADIENT_ROW(name, formula) {#name, name##_gradient_loop},
static const unary_row unary_rows[] = {UNARY_FORMULAS(LOOP_ROW)};
static const gradient_row gradient_rows[] = {GRADIENT_FORMULAS(GRADIENT_ROW)};
static const binary_row binary_rows[] = {BINARY_FORMULAS(LOOP_ROW)};
static const int unary_count = sizeof unary_rows / sizeof *unary_rows;
static const int gradient_count = sizeof gradient_rows / sizeof *gradient_rows;
static const int binary_count = sizeof binary_rows / sizeof *binary_rows;

#endif
