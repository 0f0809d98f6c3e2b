/* philox.h: Philox4x32-10, a counter-based random generator.
 *
 * Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC'11), section 3.3. Number n of a
 * sequence is a function of n and a key alone. So any thread can compute any part of a sequence, and compute it again
 * later. No state is kept, and no result depends on the number of threads.
 */
#ifndef CCONV_PHILOX_H
#define CCONV_PHILOX_H

#include <stdint.h>

#define PHILOX_LANES 16 /* LANES in dropout.pxd */

/* word[w][l]: word w of the 128 bits that belong to the counter
 * (low(block + l), high(block + l), counter2, counter3), for 16 counters side by side. */
static inline void philox(uint32_t word[4][PHILOX_LANES], uint64_t block, uint32_t counter2,
                          uint32_t counter3, uint64_t seed)
{
    uint32_t key0[10], key1[10];
    for (int round = 0; round < 10; round++) {
        key0[round] = (uint32_t)seed + round * 0x9E3779B9u;
        key1[round] = (uint32_t)(seed >> 32) + round * 0xBB67AE85u;
    }
    for (int l = 0; l < PHILOX_LANES; l++) { /* the compiler vectorises this loop: it unrolls the rounds inside */
        uint32_t w0 = (uint32_t)(block + l), w1 = (uint32_t)((block + l) >> 32), w2 = counter2, w3 = counter3;
        _Pragma("GCC unroll 10") for (int round = 0; round < 10; round++)
        {
            uint64_t a = (uint64_t)0xD2511F53u * w0, b = (uint64_t)0xCD9E8D57u * w2;
            w0 = (uint32_t)(b >> 32) ^ w1 ^ key0[round];
            w1 = (uint32_t)b;
            w2 = (uint32_t)(a >> 32) ^ w3 ^ key1[round];
            w3 = (uint32_t)a;
        }
        word[0][l] = w0;
        word[1][l] = w1;
        word[2][l] = w2;
        word[3][l] = w3;
    }
}

#endif
