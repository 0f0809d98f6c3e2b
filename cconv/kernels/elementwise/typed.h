/* typed.h: loops on values of several dtypes, one formula a line: casts, comparisons, logic, selection, whole numbers.
 *
 * Whole numbers are computed in 64 bits; what has fewer is widened before and narrowed after, which gives what
 * arithmetic modulo 2^bits gives. So no formula is compiled for ten dtypes. A bool is one byte, 0 or 1.
 *
 * z[i] = f(a, b, c) with a = x[0][i * s[0]], and so on; s is in elements.
 */
#ifndef CCONV_TYPED_H
#define CCONV_TYPED_H

#include "simd.h"

typedef void (*typed_loop)(char *const *x, const ptrdiff_t *s, char *z, ptrdiff_t n);
typedef uint8_t boolean;

/* Whole numbers: what C leaves undefined is defined as NumPy has it. x / 0 and x mod 0 are 0. */
#define WRAP(op) (int64_t)((uint64_t)a op (uint64_t)b)
INLINE int64_t divide_int64(int64_t a, int64_t b) { return b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b; }
INLINE int64_t remainder_int64(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }
INLINE int64_t modulo_int64(int64_t a, int64_t b)
{
    int64_t r = remainder_int64(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
INLINE uint64_t power_uint64(uint64_t a, uint64_t b)
{
    uint64_t z = 1;
    for (; b; b >>= 1, a *= a)
        if (b & 1) z *= a;
    return z;
}
/* 1 / a^-b rounded to zero */
INLINE int64_t power_int64(int64_t a, int64_t b)
{
    if (b >= 0) return (int64_t)power_uint64((uint64_t)a, (uint64_t)b);
    return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
}

/* name, type of the operands, type of the result, formula */
#define UNARY_LOOPS(F)                                                                      \
    F(not_bool, boolean, boolean, !a)                                                       \
    F(neg_int64, int64_t, int64_t, (int64_t)(0 - (uint64_t)a))                              \
    F(abs_int64, int64_t, int64_t, a < 0 ? (int64_t)(0 - (uint64_t)a) : a)                  \
    F(sign_int64, int64_t, int64_t, (a > 0) - (a < 0))                                      \
    F(sign_uint64, uint64_t, uint64_t, a > 0)                                               \
    F(not_int64, int64_t, int64_t, ~a)                                                      \
    F(not_uint64, uint64_t, uint64_t, ~a)                                                   \
    F(isnan_real, real, boolean, a != a)                                                    \
    F(isinf_real, real, boolean, a == INFINITY || a == -INFINITY)                           \
    F(isinf_positive_real, real, boolean, a == INFINITY)                                    \
    F(isinf_negative_real, real, boolean, a == -INFINITY)                                   \
    CAST(F, bool, boolean)                                                                  \
    CAST(F, int8, int8_t)                                                                   \
    CAST(F, uint8, uint8_t)                                                                 \
    CAST(F, int16, int16_t)                                                                 \
    CAST(F, uint16, uint16_t)                                                               \
    CAST(F, int32, int32_t)                                                                 \
    CAST(F, uint32, uint32_t)                                                               \
    CAST(F, uint64, uint64_t)                                                               \
    F(cast_int64_real, int64_t, real, (real)a)                                              \
    F(cast_real_int64, real, int64_t, (int64_t)a)

/* Between int64 and any other goes directly, and between real and any other; the rest in two steps. */
#define CAST(F, name, type)                                                                 \
    F(cast_##name##_int64, type, int64_t, (int64_t)a)                                       \
    F(cast_int64_##name, int64_t, type, TO_##name)                                          \
    F(cast_##name##_real, type, real, (real)a)                                              \
    F(cast_real_##name, real, type, REAL_TO_##name)
#define TO_bool a != 0
#define TO_int8 (int8_t)a
#define TO_uint8 (uint8_t)a
#define TO_int16 (int16_t)a
#define TO_uint16 (uint16_t)a
#define TO_int32 (int32_t)a
#define TO_uint32 (uint32_t)a
#define TO_uint64 (uint64_t)a
#define REAL_TO_bool a != (real)0
#define REAL_TO_int8 (int8_t)(int64_t)a /* by way of 64 bits: what does not fit wraps, as it does between integers */
#define REAL_TO_uint8 (uint8_t)(int64_t)a
#define REAL_TO_int16 (int16_t)(int64_t)a
#define REAL_TO_uint16 (uint16_t)(int64_t)a
#define REAL_TO_int32 (int32_t)(int64_t)a
#define REAL_TO_uint32 (uint32_t)(int64_t)a
#define REAL_TO_uint64 a < (real)0 ? (uint64_t)(int64_t)a : (uint64_t)a

#define BINARY_LOOPS(F)                                                                     \
    COMPARE(F, int64, int64_t)                                                              \
    COMPARE(F, uint64, uint64_t)                                                            \
    COMPARE(F, real, real)                                                                  \
    F(equal_bool, boolean, boolean, a == b)                                                 \
    F(and_bool, boolean, boolean, a & b)                                                    \
    F(or_bool, boolean, boolean, a | b)                                                     \
    F(xor_bool, boolean, boolean, a ^ b)                                                    \
    BITWISE(F, int64, int64_t)                                                              \
    BITWISE(F, uint64, uint64_t)                                                            \
    F(shift_left_int64, int64_t, int64_t, b < 0 || b > 63 ? 0 : (int64_t)((uint64_t)a << b))\
    F(shift_right_int64, int64_t, int64_t, b < 0 || b > 63 ? -(a < 0) : a >> b)             \
    F(shift_left_uint64, uint64_t, uint64_t, b < 64 ? a << b : 0)                           \
    F(shift_right_uint64, uint64_t, uint64_t, b < 64 ? a >> b : 0)                          \
    F(add_int64, int64_t, int64_t, WRAP(+))                                                 \
    F(sub_int64, int64_t, int64_t, WRAP(-))                                                 \
    F(mul_int64, int64_t, int64_t, WRAP(*))                                                 \
    F(div_int64, int64_t, int64_t, divide_int64(a, b))                                      \
    F(mod_int64, int64_t, int64_t, modulo_int64(a, b))                                      \
    F(fmod_int64, int64_t, int64_t, remainder_int64(a, b))                                  \
    F(pow_int64, int64_t, int64_t, power_int64(a, b))                                       \
    F(min_int64, int64_t, int64_t, a < b ? a : b)                                           \
    F(max_int64, int64_t, int64_t, a > b ? a : b)                                           \
    F(add_uint64, uint64_t, uint64_t, a + b)                                                \
    F(sub_uint64, uint64_t, uint64_t, a - b)                                                \
    F(mul_uint64, uint64_t, uint64_t, a * b)                                                \
    F(div_uint64, uint64_t, uint64_t, b == 0 ? 0 : a / b)                                   \
    F(mod_uint64, uint64_t, uint64_t, b == 0 ? 0 : a % b)                                   \
    F(fmod_uint64, uint64_t, uint64_t, b == 0 ? 0 : a % b)                                  \
    F(pow_uint64, uint64_t, uint64_t, power_uint64(a, b))                                   \
    F(min_uint64, uint64_t, uint64_t, a < b ? a : b)                                        \
    F(max_uint64, uint64_t, uint64_t, a > b ? a : b)

#define BITWISE(F, name, type)                                                              \
    F(and_##name, type, type, a & b)                                                        \
    F(or_##name, type, type, a | b)                                                         \
    F(xor_##name, type, type, a ^ b)

#define COMPARE(F, name, type)                                                              \
    F(equal_##name, type, boolean, a == b)                                                  \
    F(less_##name, type, boolean, a < b)                                                    \
    F(less_equal_##name, type, boolean, a <= b)

/* The second or the third operand, as the first says; by the bytes of an element. */
#define SELECT_LOOPS(F) F(select_1, uint8_t) F(select_2, uint16_t) F(select_4, uint32_t) F(select_8, uint64_t)

#define DEFINE_UNARY(name, A, Z, formula)                                                   \
    static void name(char *const *p, const ptrdiff_t *s, char *out, ptrdiff_t n)            \
    {                                                                                       \
        const A *x = (const A *)p[0];                                                       \
        const ptrdiff_t sx = s[0];                                                          \
        Z *z = (Z *)out;                                                                    \
        for (ptrdiff_t i = 0; i < n; i++) {                                                 \
            const A a = x[i * sx];                                                          \
            z[i] = formula;                                                                 \
        }                                                                                   \
    }
#define DEFINE_BINARY(name, A, Z, formula)                                                  \
    static void name(char *const *p, const ptrdiff_t *s, char *out, ptrdiff_t n)            \
    {                                                                                       \
        const A *x = (const A *)p[0], *y = (const A *)p[1];                                 \
        const ptrdiff_t sx = s[0], sy = s[1];                                               \
        Z *z = (Z *)out;                                                                    \
        for (ptrdiff_t i = 0; i < n; i++) {                                                 \
            const A a = x[i * sx], b = y[i * sy];                                           \
            z[i] = formula;                                                                 \
        }                                                                                   \
    }
#define DEFINE_SELECT(name, T)                                                              \
    static void name(char *const *p, const ptrdiff_t *s, char *out, ptrdiff_t n)            \
    {                                                                                       \
        const boolean *which = (const boolean *)p[0];                                       \
        const T *x = (const T *)p[1], *y = (const T *)p[2];                                 \
        const ptrdiff_t sw = s[0], sx = s[1], sy = s[2];                                    \
        T *z = (T *)out;                                                                    \
        for (ptrdiff_t i = 0; i < n; i++) {                                                 \
            const T a = x[i * sx], b = y[i * sy];                                           \
            z[i] = which[i * sw] ? a : b;                                                   \
        }                                                                                   \
    }
UNARY_LOOPS(DEFINE_UNARY)
BINARY_LOOPS(DEFINE_BINARY)
SELECT_LOOPS(DEFINE_SELECT)

/* Bytes of an element of each operand; the result's come last. */
typedef struct {
    const char *name;
    typed_loop loop;
    int operands;
    ptrdiff_t bytes[4];
} typed_row;

#define UNARY_ROW(name, A, Z, formula) {#name, name, 1, {sizeof(A), 0, 0, sizeof(Z)}},
#define BINARY_ROW(name, A, Z, formula) {#name, name, 2, {sizeof(A), sizeof(A), 0, sizeof(Z)}},
#define SELECT_ROW(name, T) {#name, name, 3, {1, sizeof(T), sizeof(T), sizeof(T)}},
static const typed_row typed_rows[] = {UNARY_LOOPS(UNARY_ROW) BINARY_LOOPS(BINARY_ROW) SELECT_LOOPS(SELECT_ROW)};
static const int typed_count = sizeof typed_rows / sizeof typed_rows[0];

#endif
