/* A team: a leader, the thread that runs a program, and helper threads that run chunks of the program's parallel loops.

   The leader publishes a loop and starts on it at once. A helper that notices the loop in time joins. When no chunk is
   left, the leader closes the loop and waits only for helpers that are still running a chunk. So a helper that the
   system has descheduled, as happens on a shared machine, delays nobody unless it is running a chunk.

   One atomic `word` holds the whole state: the number of the loop, whether helpers may still join, and how many have
   joined. The description of the loop is in the same cache line, so that a helper loads one line. */
#ifndef CCONV_TEAM_H
#define CCONV_TEAM_H

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>

#include "subnormal.h"

enum { MOST_THREADS = 256, CACHE_LINE = 64 };

/* Number of spins: of a helper that waits for the next loop, before it sleeps; of the leader that waits for the last
   helper, before it yields. PATIENCE is some tenths of a millisecond. LITTLE_PATIENCE is used if there are more threads
   than processors, because a spinning thread then takes a processor from a thread that has work. */
enum { PATIENCE = 10000, LITTLE_PATIENCE = 50 };

static const uint64_t OPEN = (uint64_t)1 << 31, NEXT = (uint64_t)1 << 32, DISMISSED = ~(uint64_t)0;

typedef void (*team_body)(void* context, ptrdiff_t chunk, int thread);
typedef void (*team_program)(void* context);

/* The range of chunks that a thread still has to run: the first in the upper 32 bits, the end in the lower 32 bits.
   Each share has a cache line of its own. */
typedef struct { _Alignas(CACHE_LINE) uint64_t range; } share;

typedef struct {
    _Alignas(CACHE_LINE) uint64_t word; /* number of loops so far * NEXT + OPEN + helpers in this loop; or DISMISSED */
    team_body body;
    void* context;
    int threads;                        /* threads that may run the loop, each with a share */
    int flush;                          /* whether subnormal numbers are flushed to 0 */
    _Alignas(CACHE_LINE) int asleep;    /* number of helpers that sleep or are about to */
    int patience;                       /* spins before a wait blocks or yields */
    pthread_mutex_t mutex;
    pthread_cond_t awake;
    share shares[MOST_THREADS];
} team;

/* The team that this thread leads; NULL while the thread runs chunks of a loop. */
static _Thread_local team* led;

static inline void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Take the first chunk of a share, or the last one if `last`. Returns -1 if the share is empty. */
static inline int64_t take(share* s, int last)
{
    uint64_t range = __atomic_load_n(&s->range, __ATOMIC_RELAXED);
    for (;;) {
        uint64_t first = range >> 32, end = range & 0xffffffffu;
        if (first >= end)
            return -1;
        uint64_t left = last ? range - 1 : range + NEXT;
        if (__atomic_compare_exchange_n(&s->range, &range, left, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return (int64_t)(last ? end - 1 : first);
    }
}

/* Run one thread's part of a loop: the chunks of its own share from the front, then those of other shares from the
   back. */
static void work(team* t, int thread)
{
    for (int i = 0; i < t->threads; i++) {
        share* s = &t->shares[(thread + i) % t->threads];
        for (int64_t chunk; (chunk = take(s, i > 0)) >= 0;)
            t->body(t->context, (ptrdiff_t)chunk, thread);
    }
}

static void team_init(team* t, int patient, int flush)
{
    t->flush = flush;
    t->word = 0;
    t->asleep = 0;
    t->patience = patient ? PATIENCE : LITTLE_PATIENCE;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->awake, NULL);
}

static void team_destroy(team* t)
{
    pthread_cond_destroy(&t->awake);
    pthread_mutex_destroy(&t->mutex);
}

/* Publish the leader's new word, and wake sleeping helpers. No wake-up is lost: either the leader sees that a helper is
   about to sleep, or that helper sees the new word. */
static void announce(team* t, uint64_t word)
{
    __atomic_store_n(&t->word, word, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&t->asleep, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&t->mutex);
        pthread_cond_broadcast(&t->awake);
        pthread_mutex_unlock(&t->mutex);
    }
}

static void sleep_until_other(team* t, uint64_t word)
{
    pthread_mutex_lock(&t->mutex);
    __atomic_add_fetch(&t->asleep, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&t->word, __ATOMIC_SEQ_CST) == word)
        pthread_cond_wait(&t->awake, &t->mutex);
    __atomic_sub_fetch(&t->asleep, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&t->mutex);
}

/* The main loop of a helper: join loops until the leader dismisses the team. */
static void team_help(team* t, int thread)
{
    uint64_t joined = 0; /* number of the last loop that this helper joined */
    int looks = 0;
    const float_mode before = flush_subnormals(t->flush);
    for (;;) {
        uint64_t word = __atomic_load_n(&t->word, __ATOMIC_ACQUIRE);
        if (word == DISMISSED)
            break;
        if ((word & OPEN) && word / NEXT != joined) {
            if (__atomic_compare_exchange_n(&t->word, &word, word + 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
                joined = word / NEXT;
                if (thread < t->threads)
                    work(t, thread);
                __atomic_sub_fetch(&t->word, 1, __ATOMIC_RELEASE);
                looks = 0;
            }
        } else if (++looks < t->patience) {
            pause_briefly();
        } else {
            sleep_until_other(t, word);
            looks = 0;
        }
    }
    set_float_mode(before);
}

/* Run a program as the leader; team_loop publishes its loops. The float mode is set only here, after the helper threads
   were created: a new thread inherits the mode of its creator and would keep it for other programs. */
static void team_lead(team* t, team_program program, void* context)
{
    const float_mode before = flush_subnormals(t->flush);
    led = t;
    program(context);
    led = NULL;
    set_float_mode(before);
    announce(t, DISMISSED);
}

/* Run a loop of `chunks` chunks as the leader, on at most `threads` threads of the team. */
static void team_loop(team* t, team_body body, void* context, ptrdiff_t chunks, int threads)
{
    for (int i = 0; i < threads; i++)
        t->shares[i].range = (uint64_t)(chunks * i / threads) << 32 | (uint64_t)(chunks * (i + 1) / threads);
    t->body = body;
    t->context = context;
    t->threads = threads;
    announce(t, (t->word / NEXT + 1) * NEXT + OPEN);
    led = NULL; /* a nested loop runs on this thread alone */
    work(t, 0);
    led = t;
    __atomic_and_fetch(&t->word, ~OPEN, __ATOMIC_ACQUIRE);
    for (int looks = 1; __atomic_load_n(&t->word, __ATOMIC_ACQUIRE) % OPEN; looks++) {
        if (looks % t->patience)
            pause_briefly();
        else
            sched_yield(); /* the last helper may need this processor */
    }
}

#endif
