/* vmath.h: functions of whole vectors.
 *
 * In float32 by range reduction and a polynomial, with Moshier's coefficients (Cephes, expf.c and tanhf.c).
 * The largest errors over float32's whole range stand beside the functions; test_elementwise.py holds the
 * sigmoid and the hyperbolic tangent, and through them e^x for x <= 0, to them. NaN stays NaN.
 * The float64 build serves gradient checks and calls libm lane by lane.
 */
#ifndef CCONV_VMATH_H
#define CCONV_VMATH_H

#include "simd.h"

#ifdef CCONV_FLOAT64

INLINE vf vexp(vf x)
{
    for (int i = 0; i < VL; i++) x[i] = exp(x[i]);
    return x;
}
INLINE vf vtanh(vf x)
{
    for (int i = 0; i < VL; i++) x[i] = tanh(x[i]);
    return x;
}

#else

/* 2^n for whole n in -126..127, n given as the low bits of n + 1.5 * 2^23. */
INLINE vf vpower_of_two(vi n) { return (vf)((n + 127) << 23); }

/* e^x, error at most 2 ulp. x = n ln 2 + r with |r| <= ln 2 / 2; the factor
 * 2^n is applied in two halves, since 2^128 and 2^-149 are no normal numbers. */
INLINE vf vexp(vf x)
{
    const vf magic = vset(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
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

/* tanh x, error at most 3 ulp: (1 - e^-2|x|) / (1 + e^-2|x|), and a polynomial where that would cancel. */
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

/* x within a..b; b where a > b, as ONNX has it. */
INLINE vf vclip(vf x, vf a, vf b)
{
    x = vselect(x < a, a, x);
    return vselect(x > b, b, x);
}

/* The largest lane. */
INLINE real vtop(vf v)
{
    real top = v[0];
    for (int i = 1; i < VL; i++) top = v[i] > top ? v[i] : top;
    return top;
}

/* 1 / (1 + e^-x) without overflow, error at most 3 ulp in both tails. */
INLINE vf vsigmoid(vf x)
{
    vf e = vexp(vselect(x < (real)0, x, -x));
    vf s = (real)1 / ((real)1 + e);
    return vselect(x < (real)0, e * s, s);
}

#endif
