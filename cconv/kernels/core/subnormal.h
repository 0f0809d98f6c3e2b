/* subnormal.h: numbers closer to 0 than the least normal one (1.2e-38) taken for 0, on the thread that asks for it.
 *
 * Processors compute with them in microcode: some 150 cycles an operation instead of half of one. */
#ifndef CCONV_SUBNORMAL_H
#define CCONV_SUBNORMAL_H

#include <stdint.h>

#if defined(__SSE2__)
#include <immintrin.h>
typedef uint32_t float_mode;
static const float_mode NO_SUBNORMALS = 0x8040; /* MXCSR: none as results, none as operands */
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
typedef int float_mode; /* another processor computes with them */
static const float_mode NO_SUBNORMALS = 0;
static inline float_mode get_float_mode(void) { return 0; }
static inline void set_float_mode(float_mode mode) { (void)mode; }
#endif

/* Returns the mode to be set again. */
static inline float_mode flush_subnormals(int flush)
{
    const float_mode before = get_float_mode();
    if (flush) set_float_mode(before | NO_SUBNORMALS);
    return before;
}

#endif
