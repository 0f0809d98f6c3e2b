/* simd.h: the vector type of all kernels. Its width depends on the instruction set of the build.
 *
 *   real      float; double in the float64 build (-DCCONV_FLOAT64), which serves gradient checks
 *   vf        a GCC/Clang vector of VL reals. Arithmetic and comparisons work lane by lane. A product followed by a sum
 *             is contracted to one FMA if the instruction set has it (-ffp-contract=fast)
 *
 * Loads and stores may be unaligned. A broadcast of x is written x - (vf){0}. With + instead of -, GCC must preserve
 * the sign of zero and emits an addition per element.
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

/* Size of the register tile (tile.h). It needs TILE_ROWS x TILE_VECTORS accumulators, and registers for two vectors of
 * B and one broadcast value of A. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define TILE_ROWS 14 /* 28 accumulators of 32 registers */
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define TILE_ROWS 6 /* 12 accumulators of 16 registers */
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define TILE_ROWS 14 /* 28 accumulators of 32 registers */
#else
#define VECTOR_BYTES 16
#define TILE_ROWS 6 /* 12 accumulators of 16 registers */
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
/* Non-temporal store, which bypasses the caches. For results too large to be still in the caches when they are read; an
 * ordinary store would first read the cache line that it overwrites. p must be aligned to a vector. Call stream_end
 * after the last store. Write whole cache lines, one after the other: if other stores come between the two halves of a
 * line, each half is written to memory separately, and takes twice as long as an ordinary store. Step.streams_to
 * decides where to use it. */
#if defined(__AVX512F__)
INLINE void vstream(real *p, vf v) { _mm512_stream_si512((__m512i *)p, (__m512i)v); }
#elif defined(__AVX__)
INLINE void vstream(real *p, vf v) { _mm256_stream_si256((__m256i *)p, (__m256i)v); }
#elif defined(__SSE2__)
INLINE void vstream(real *p, vf v) { _mm_stream_si128((__m128i *)p, (__m128i)v); }
#else
INLINE void vstream(real *p, vf v) { vstore(p, v); }
#endif
/* Make non-temporal stores visible to other threads. */
INLINE void stream_end(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}
INLINE vf vset(real x) { return x - (vf){0}; }
INLINE vf vzero(void) { return (vf){0}; }

/* Load or store only the first n lanes (0 <= n <= VL). A load sets the other lanes to zero; memory beyond n elements is
 * not accessed. Uses masked instructions if the instruction set has them: a memcpy of variable length is a function
 * call, which costs more than the rest of a short loop. */
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

/* mask ? a : b, lane by lane. The mask is the result of a vector comparison. GCC 12 does not support ?: on vectors in
 * C. */
INLINE vf vselect(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }
/* vmax is a > b ? a : b, vmin is a < b ? a : b. If a or b is NaN, or both are zero, the result is b. x86 has one
 * instruction with exactly these rules, but GCC does not use it for vectors. */
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
/* Clamp x to [low, high]. If low > high, the result is high. NaN stays NaN. */
INLINE vf vclamp(vf x, vf low, vf high) { return vmin(high, vmax(low, x)); }
INLINE real vsum(vf v)
{
    real s = 0;
    for (int i = 0; i < VL; i++) s += v[i]; /* fixed order, so that all runs give equal bits */
    return s;
}

/* ceil_div: a / b rounded up; 0 for negative a. odd_lines: n elements rounded up to an odd number of cache lines,
 * because rows at multiples of 4 KiB share cache sets. */
INLINE ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) { return a > 0 ? (a + b - 1) / b : 0; }
INLINE ptrdiff_t odd_lines(ptrdiff_t n) { return (ceil_div(n, CACHE_LINE_REALS) | 1) * CACHE_LINE_REALS; }

/* Put before a loop of constant length over registers, to unroll it completely. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#endif
