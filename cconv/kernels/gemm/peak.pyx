"""What this machine can do at most: the ceiling that benchmarks measure themselves against."""

from cconv.kernels.core.simd cimport VL, real
from cconv.kernels.core.step cimport OK, Step

cdef extern from *:
    """
    #include "simd.h"
    /* Makes the compiler believe that the register is read and written, so that no round is folded away. */
    #if defined(__x86_64__)
    #define KEEP(v) __asm__ volatile("" : "+v"(v))
    #elif defined(__aarch64__)
    #define KEEP(v) __asm__ volatile("" : "+w"(v))
    #else
    #define KEEP(v) __asm__ volatile("" : "+m"(v))
    #endif
    /* 24 or 12 independent chains hide the latency of the FMA; a * c + b with |a| < 1 stays finite. */
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


cdef class Peak(Step):
    """`chunks` runs of a loop of nothing but FMAs. Operands: seed (3,), results (chunks,)."""

    cdef Py_ssize_t rounds
    cdef readonly double flops

    def __init__(self, Py_ssize_t rounds, Py_ssize_t chunks):
        self.operands = 2
        self.rounds, self.chunks = rounds, chunks
        self.flops = 2.0 * rounds * chunks * PEAK_CHAINS * VL

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.chunks)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        (<real*>self.operand[1])[i] = fma_chains(self.rounds, <real*>self.operand[0])
