/* philox.h: Philox4x32-10, a counter-based random generator.
 *
 * Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC'11), section 3.3. The n-th
 * number is a function of n and a key alone: any thread can compute any part of a sequence, and compute it again
 * later, so nothing needs to be kept and nothing depends on the number of threads.
 */
#ifndef CCONV_PHILOX_H
#define CCONV_PHILOX_H

#include <stdint.h>

#define PHILOX_LANES 16

/* word[w][l]: word w of the 128 bits that belong to the counter
 * (low(block + l), high(block + l), counter2, counter3), for 16 counters side by side. */
static inline void philox(uint32_t word[4][PHILOX_LANES], uint64_t block, uint32_t counter2, uint32_t counter3,
                          uint64_t seed)
{
    for (int l = 0; l < PHILOX_LANES; l++) {
        word[0][l] = (uint32_t)(block + l);
        word[1][l] = (uint32_t)((block + l) >> 32);
        word[2][l] = counter2;
        word[3][l] = counter3;
    }
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < PHILOX_LANES; l++) {
            uint64_t a = (uint64_t)0xD2511F53u * word[0][l], b = (uint64_t)0xCD9E8D57u * word[2][l];
            word[0][l] = (uint32_t)(b >> 32) ^ word[1][l] ^ key0;
            word[1][l] = (uint32_t)b;
            word[2][l] = (uint32_t)(a >> 32) ^ word[3][l] ^ key1;
            word[3][l] = (uint32_t)a;
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

#endif
