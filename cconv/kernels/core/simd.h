/* simd.h: the vector type that all kernels are written in, as wide as the build it is compiled for.
 *
 *   real      float; double in the float64 build (-DCCONV_FLOAT64), which serves gradient checks
 *   vf        a GCC/Clang vector of VL reals; + - * / and comparisons are lane by lane, and a product
 *             followed by a sum contracts to one FMA where the ISA has it (-ffp-contract=fast)
 *
 * Loads and stores may be unaligned. A broadcast is written x - (vf){}: with + GCC must keep the sign of
 * zero and emits an add per element.
 */
#ifndef CCONV_SIMD_H
#define CCONV_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifdef CCONV_FLOAT64
typedef double real;
typedef int64_t lane;
#else
typedef float real;
typedef int32_t lane;
#endif

/* Register tile of the micro-kernel (tile.h): rows x vectors accumulators, two vectors of B, one broadcast. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define TILE_ROWS 14 /* 28 of 32 registers */
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define TILE_ROWS 6 /* 12 of 16 */
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define TILE_ROWS 14 /* 28 of 32 */
#else
#define VECTOR_BYTES 16
#define TILE_ROWS 6 /* 12 of 16 */
#endif
#define TILE_VECTORS 2
#define VL ((int)(VECTOR_BYTES / sizeof(real)))
#define TILE_COLS (TILE_VECTORS * VL)
#define CACHE_LINE_REALS ((int)(64 / sizeof(real)))

typedef real vf __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef lane vi __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vf vload(const real *p) { return *(const vf *)p; }
INLINE void vstore(real *p, vf v) { *(vf *)p = v; }
/* Past the caches, for what is too large to be found in them later: an ordinary store first reads the line that it
 * overwrites. p is aligned to a vector; stream_end comes after the last. Whole cache lines only, one after the other:
 * of a line whose halves come with others in between each half goes to memory by itself, and takes twice as long as
 * an ordinary store. Step.streams_to says where. */
#if defined(__AVX512F__)
INLINE void vstream(real *p, vf v) { _mm512_stream_si512((__m512i *)p, (__m512i)v); }
#elif defined(__AVX__)
INLINE void vstream(real *p, vf v) { _mm256_stream_si256((__m256i *)p, (__m256i)v); }
#elif defined(__SSE2__)
INLINE void vstream(real *p, vf v) { _mm_stream_si128((__m128i *)p, (__m128i)v); }
#else
INLINE void vstream(real *p, vf v) { vstore(p, v); }
#endif
INLINE void stream_end(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}
INLINE vf vset(real x) { return x - (vf){0}; }
INLINE vf vzero(void) { return (vf){0}; }

/* The first n lanes (0 <= n <= VL); the rest read as zero and are not touched in memory. Masked where the ISA can:
 * a memcpy of variable length is a call, which costs more than the rest of a short loop. */
#if defined(__AVX512F__) && !defined(CCONV_FLOAT64)
INLINE vf vload_n(const real *p, ptrdiff_t n) { return (vf)_mm512_maskz_loadu_ps((1u << n) - 1, p); }
INLINE void vstore_n(real *p, vf v, ptrdiff_t n) { _mm512_mask_storeu_ps(p, (1u << n) - 1, (__m512)v); }
#elif defined(__AVX__) && !defined(CCONV_FLOAT64)
INLINE __m256i first_lanes(ptrdiff_t n)
{
    const vi index = {0, 1, 2, 3, 4, 5, 6, 7};
    return (__m256i)(vi)(index < (lane)n);
}
INLINE vf vload_n(const real *p, ptrdiff_t n) { return (vf)_mm256_maskload_ps(p, first_lanes(n)); }
INLINE void vstore_n(real *p, vf v, ptrdiff_t n) { _mm256_maskstore_ps(p, first_lanes(n), (__m256)v); }
#else
INLINE vf vload_n(const real *p, ptrdiff_t n)
{
    vf v = {0};
    memcpy(&v, p, n * sizeof(real));
    return v;
}
INLINE void vstore_n(real *p, vf v, ptrdiff_t n) { memcpy(p, &v, n * sizeof(real)); }
#endif

/* mask ? a : b, lane by lane; a mask is what a vector comparison yields. GCC 12 has no ?: on vectors in C. */
INLINE vf vselect(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }
/* a > b ? a : b and a < b ? a : b: b where one of them is NaN or both are zero. x86 has just that as one instruction, which
 * GCC does not find for vectors. */
#if defined(__AVX512F__) && !defined(CCONV_FLOAT64)
INLINE vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__AVX__) && !defined(CCONV_FLOAT64)
INLINE vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__SSE2__) && !defined(CCONV_FLOAT64)
INLINE vf vmax(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
#else
INLINE vf vmax(vf a, vf b) { return vselect(a > b, a, b); }
INLINE vf vmin(vf a, vf b) { return vselect(a < b, a, b); }
#endif
/* x within [low, high], high where these are the wrong way round; NaN stays NaN. */
INLINE vf vclamp(vf x, vf low, vf high) { return vmin(high, vmax(low, x)); }
INLINE real vsum(vf v)
{
    real s = 0;
    for (int i = 0; i < VL; i++) s += v[i]; /* fixed order: part of the promise of equal bits */
    return s;
}

/* Sizes: ceil(a / b), 0 for negative a; at least n elements, an odd number of cache lines: rows at multiples of 4 KiB share cache sets. */
INLINE ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) { return a > 0 ? (a + b - 1) / b : 0; }
INLINE ptrdiff_t odd_lines(ptrdiff_t n) { return (ceil_div(n, CACHE_LINE_REALS) | 1) * CACHE_LINE_REALS; }

/* Before a loop of constant length over registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#endif
