/* vmath.h: mathematical functions of vectors.
 *
 * In float32 the functions use range reduction and a polynomial, with Moshier's coefficients (Cephes: expf.c, logf.c,
 * sinf.c and tanhf.c). erf and e^x - 1 use minimax fits made for cconv. The comment of each function gives its largest
 * error over the whole float32 range; test_elementwise.py checks it. NaN gives NaN.
 * Rarely used functions call libm lane by lane. So do all functions in the float64 build, which serves gradient checks.
 */
#ifndef CCONV_VMATH_H
#define CCONV_VMATH_H

#include "simd.h"

/* LANES(name) defines vname(x), which calls libm's function `name` for each lane, in float or double as `real` is. */
#ifdef CCONV_FLOAT64
#define LIBM(name) name
#else
#define LIBM(name) name##f
#endif
#define LANES(name)                                                                         \
    INLINE vf v##name(vf x)                                                                 \
    {                                                                                       \
        for (int i = 0; i < VL; i++) x[i] = LIBM(name)(x[i]);                               \
        return x;                                                                           \
    }
LANES(sqrt)
LANES(floor)
LANES(ceil)
LANES(rint) /* halves round to even */
LANES(tan)
LANES(asin)
LANES(acos)
LANES(atan)
LANES(sinh)
LANES(cosh)
LANES(asinh)
LANES(acosh)
LANES(atanh)

INLINE vf vabs(vf x) { return (vf)((vi)x & ~(vi)vset((real)-0.0)); }
/* |x| with the sign of y */
INLINE vf vcopysign(vf x, vf y) { return (vf)((vi)vabs(x) | ((vi)y & (vi)vset((real)-0.0))); }

/* The largest of all lanes. */
INLINE real vtop(vf v)
{
    real top = v[0];
    for (int i = 1; i < VL; i++) top = v[i] > top ? v[i] : top;
    return top;
}

/* The sum of all lanes, by adding one half of the vector to the other: a short dependency chain. For code that needs
 * many such sums. */
#if VECTOR_BYTES > 32
typedef real half_of_64 __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));
#endif
typedef real half_of_32 __attribute__((vector_size(16), aligned(sizeof(real)), may_alias));
INLINE real vtotal(vf v)
{
#if VECTOR_BYTES > 32
    half_of_64 w = ((half_of_64 *)&v)[0] + ((half_of_64 *)&v)[1];
#else
    vf w = v;
#endif
#if VECTOR_BYTES > 16
    half_of_32 u = ((half_of_32 *)&w)[0] + ((half_of_32 *)&w)[1];
#else
    vf u = w;
#endif
#ifdef CCONV_FLOAT64
    return u[0] + u[1];
#else
    return (u[0] + u[2]) + (u[1] + u[3]);
#endif
}

#ifdef CCONV_FLOAT64

LANES(exp)
LANES(expm1)
LANES(log)
LANES(log1p)
LANES(tanh)
LANES(erf)
LANES(sin)
LANES(cos)

#else

/* 2^n for integers n in -126..127: the exponent bits of a float32 are n + 127. */
INLINE vf vpower_of_two(vi n) { return (vf)((n + 127) << 23); }

/* e^x, error at most 2 ulp. x = n ln 2 + r with |r| <= ln 2 / 2, and e^x = 2^n e^r. The factor 2^n is applied as a
 * product of two powers, because 2^128 and 2^-149 are not normal numbers. */
INLINE vf vexp(vf x)
{
    const vf magic = vset(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    x = vselect(x < -104.0f, vset(-104.0f), x);
    x = vselect(x > 89.0f, vset(89.0f), x);
    vf shifted = x * 1.44269504088896341f + magic;
    vf n = shifted - magic;
    vf r = x - n * 0.693359375f - n * -2.12194440e-4f;
    vf p = vset(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    vi whole = (vi)shifted - (vi)magic;
    vi half = whole >> 1;
    return p * vpower_of_two(half) * vpower_of_two(whole - half);
}

/* e^x - 1 for x <= 88, error at most 2 ulp: 2^n (e^r - 1) + (2^n - 1), where x = n ln 2 + r as in vexp. */
INLINE vf vexpm1(vf x)
{
    const vf magic = vset(12582912.0f);
    x = vselect(x < -25.0f, vset(-25.0f), x); /* below -25 the result rounds to -1 */
    vf shifted = x * 1.44269504088896341f + magic;
    vf n = shifted - magic;
    vf r = x - n * 0.693359375f - n * -2.12194440e-4f;
    vf p = vset(1.984586e-4f);
    p = p * r + 1.3940625e-3f;
    p = p * r + 8.3333896e-3f;
    p = p * r + 4.1666362e-2f;
    p = p * r + 1.6666666e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    vf power = vpower_of_two((vi)shifted - (vi)magic);
    return p * power + (power - 1.0f);
}

/* log x, error at most 1 ulp; -inf at 0, NaN for x < 0. x = 2^n m with 1 / sqrt 2 <= m < sqrt 2. */
INLINE vf vlog(vf x)
{
    const vf infinity = vset(INFINITY);
    vi small = x < 1.17549435e-38f; /* subnormal: scale by 2^23 */
    vi bits = (vi)vselect(small, x * 8388608.0f, x) + (0x3f800000 - 0x3f3504f3);
    vf n = __builtin_convertvector((bits >> 23) - 127, vf) - vselect(small, vset(23.0f), vzero());
    vf f = (vf)((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
    vf s = f * f;
    vf p = vset(7.0376836292e-2f);
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    vf y = p * f * s + n * -2.12194440e-4f - 0.5f * s;
    y = (f + y) + n * 0.693359375f;
    y = vselect(x < infinity, y, x); /* inf and NaN stay as they are */
    y = vselect(x == 0.0f, -infinity, y);
    return vselect(x < 0.0f, vset(NAN), y);
}

/* log(1 + x), error at most 3 ulp: log(u) of the rounded sum u = 1 + x, corrected for the rounding error of u. */
INLINE vf vlog1p(vf x)
{
    vf u = 1.0f + x;
    vf lost = (u - 1.0f) - x;
    return vselect(u == 1.0f, x, vlog(u) - vselect(u < INFINITY, lost / u, vzero()));
}

/* erf x, error at most 2 ulp: x + x P(x^2) for |x| < 1, else 1 - e^(x Q(x)) with the sign of x. From |x| = 4 on the
 * result rounds to 1. */
INLINE vf verf(vf x)
{
    vf size = vabs(x), s = x * x;
    vf p = vset(7.853901e-5f);
    p = p * s - 8.010206e-4f;
    p = p * s + 5.1883291e-3f;
    p = p * s - 2.6853813e-2f;
    p = p * s + 1.12835854e-1f;
    p = p * s - 3.7612626e-1f;
    p = p * s + 1.2837917e-1f;
    vf t = vselect(size > 4.0f, vset(4.0f), size);
    vf q = vset(2.1018206e-4f);
    q = q * t - 3.1831171e-3f;
    q = q * t + 2.2786085e-2f;
    q = q * t - 1.0509667e-1f;
    q = q * t - 6.3584638e-1f;
    q = q * t - 1.1284755f;
    return vselect(size < 1.0f, p * x + x, vcopysign(1.0f - vexp(q * t), x));
}

/* sin x (quarter = 0) and cos x (quarter = 1), error at most 2 ulp. Range reduction subtracts n pi/2, with pi/2 split
 * into four parts; n times each part but the last is exact up to |x| = 8192. Lanes beyond that call libm. */
INLINE vf vsin_or_cos(vf x, int quarter)
{
    const vf magic = vset(12582912.0f);
    vf shifted = x * 6.3661977237e-1f + magic;
    vf n = shifted - magic;
    vf r = x - n * 1.5703125f;
    r = r - n * 4.837512969970703e-4f;
    r = r - n * 7.549533620476723e-8f;
    r = r - n * 2.563344068e-12f;
    vi turn = ((vi)shifted - (vi)magic) + quarter;
    vf s = r * r;
    vf sine = vset(-1.9515295891e-4f);
    sine = sine * s + 8.3321608736e-3f;
    sine = sine * s - 1.6666654611e-1f;
    sine = sine * s * r + r;
    vf cosine = vset(2.443315711809948e-5f);
    cosine = cosine * s - 1.388731625493765e-3f;
    cosine = cosine * s + 4.166664568298827e-2f;
    cosine = cosine * s * s - 0.5f * s + 1.0f;
    vf y = vselect((turn & 1) != 0, cosine, sine);
    y = (vf)((vi)y ^ ((turn & 2) << 30));
    vf size = vabs(x);
    if (!(vtop(size) <= 8192.0f)) {
        for (int i = 0; i < VL; i++)
            if (!(size[i] <= 8192.0f)) y[i] = quarter ? cosf(x[i]) : sinf(x[i]);
    }
    return y;
}
INLINE vf vsin(vf x) { return vsin_or_cos(x, 0); }
INLINE vf vcos(vf x) { return vsin_or_cos(x, 1); }

/* tanh x, error at most 3 ulp: (1 - e^-2|x|) / (1 + e^-2|x|) with the sign of x; a polynomial for |x| < 0.625, where
 * that formula cancels. */
INLINE vf vtanh(vf x)
{
    vf size = vselect(x < 0.0f, -x, x);
    vf e = vexp(-2.0f * size);
    vf large = (1.0f - e) / (1.0f + e);
    vf s = x * x;
    vf p = vset(-5.70498872745e-3f);
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    return vselect(size < 0.625f, p * s * x + x, vselect(x < 0.0f, -large, large));
}

#endif

/* 1 / (1 + e^-x) without overflow, error at most 3 ulp in both tails. */
INLINE vf vsigmoid(vf x)
{
    vf e = vexp(vselect(x < (real)0, x, -x));
    vf s = (real)1 / ((real)1 + e);
    return vselect(x < (real)0, e * s, s);
}

/* log(1 + e^x) without overflow. */
INLINE vf vsoftplus(vf x) { return vmax(x, vzero()) + vlog1p(vexp(-vabs(x))); }

/* x^y: by multiplication for y = 0, 1, 2, 3, which networks apply to whole tensors, else by libm. The result of a lane
 * does not depend on the other lanes, to the bit. */
INLINE real power(real x, real y)
{
    return y == 0 ? 1 : y == 1 ? x : y == 2 ? x * x : y == 3 ? x * x * x : LIBM(pow)(x, y);
}
INLINE vf vpow(vf x, vf y)
{
    int same = 1;
    for (int i = 1; i < VL; i++) same &= y[i] == y[0];
    if (same && y[0] == 0) return vset((real)1);
    if (same && y[0] == 1) return x;
    if (same && y[0] == 2) return x * x;
    if (same && y[0] == 3) return x * x * x;
    for (int i = 0; i < VL; i++) x[i] = power(x[i], y[i]);
    return x;
}
/* Remainder of x / y with the quotient rounded towards zero; it has the sign of x. */
INLINE vf vfmod(vf x, vf y)
{
    for (int i = 0; i < VL; i++) x[i] = LIBM(fmod)(x[i], y[i]);
    return x;
}
/* Remainder of x / y with the quotient rounded down; it has the sign of y. */
INLINE vf vmod(vf x, vf y)
{
    vf r = vfmod(x, y);
    r = vselect((r != (real)0) & ((r < (real)0) != (y < (real)0)), r + y, r);
    return vselect(r == (real)0, vcopysign(r, y), r);
}
INLINE vf vtrunc(vf x) { return vcopysign(vfloor(vabs(x)), x); }

#endif
