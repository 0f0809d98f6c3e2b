/* subnormal.h: switches the calling thread to flush subnormal numbers (magnitudes below 1.2e-38 in float32) to zero.
 *
 * Processors compute with subnormal numbers in microcode: about 150 cycles per operation instead of half a cycle. */
#ifndef CCONV_SUBNORMAL_H
#define CCONV_SUBNORMAL_H

#include <stdint.h>

#if defined(__SSE2__)
#include <immintrin.h>
typedef uint32_t float_mode;
static const float_mode NO_SUBNORMALS = 0x8040; /* MXCSR bits FTZ and DAZ: flush results, flush operands */
static inline float_mode get_float_mode(void) { return _mm_getcsr(); }
static inline void set_float_mode(float_mode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
typedef uint64_t float_mode;
static const float_mode NO_SUBNORMALS = 1 << 24; /* FPCR: flush to zero */
static inline float_mode get_float_mode(void)
{
    float_mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
static inline void set_float_mode(float_mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
typedef int float_mode; /* other processors: no switch, subnormal numbers are computed */
static const float_mode NO_SUBNORMALS = 0;
static inline float_mode get_float_mode(void) { return 0; }
static inline void set_float_mode(float_mode mode) { (void)mode; }
#endif

/* Flush subnormal numbers to zero from now on, if `flush`. Returns the previous mode, for set_float_mode. */
static inline float_mode flush_subnormals(int flush)
{
    const float_mode before = get_float_mode();
    if (flush) set_float_mode(before | NO_SUBNORMALS);
    return before;
}

#endif
