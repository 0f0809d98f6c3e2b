"""The compiled loop that measures the FMA peak. Its `arguments` point to one Py_ssize_t, the number of rounds."""

from libc.stdint cimport uintptr_t

from cconv.kernels.core.simd cimport real

cdef extern from *:
    """
    #include "simd.h"
    /* Make the compiler assume that the register is read and written here, so that it optimises no round away. */
    #if defined(__x86_64__)
    #define KEEP(v) __asm__ volatile("" : "+v"(v))
    #elif defined(__aarch64__)
    #define KEEP(v) __asm__ volatile("" : "+w"(v))
    #else
    #define KEEP(v) __asm__ volatile("" : "+m"(v))
    #endif
    /* 24 or 12 independent chains hide the latency of the FMA. If |a| < 1, c = c * a + b stays finite. */
    enum { PEAK_CHAINS = TILE_ROWS == 14 ? 24 : 12 };
    static real fma_chains(ptrdiff_t rounds, const real *seed)
    {
        vf c[PEAK_CHAINS], a = vset(seed[0]), b = vset(seed[1]), sum = vzero();
        UNROLL for (int i = 0; i < PEAK_CHAINS; i++) c[i] = vset(seed[2]) * (real)i;
        for (ptrdiff_t r = 0; r < rounds; r++) {
            UNROLL for (int i = 0; i < PEAK_CHAINS; i++) {
                c[i] = c[i] * a + b;
                KEEP(c[i]);
            }
        }
        UNROLL for (int i = 0; i < PEAK_CHAINS; i++) sum += c[i];
        return vsum(sum);
    }
    """
    const int PEAK_CHAINS
    real fma_chains(Py_ssize_t rounds, const real* seed) noexcept nogil


cdef void multiply_adds(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    (<real*>operand[1])[i] = fma_chains((<const Py_ssize_t*>arguments)[0], <const real*>operand[0])


LOOPS = {"multiply_adds": <uintptr_t>multiply_adds}
SIZES = {"chains": PEAK_CHAINS}
