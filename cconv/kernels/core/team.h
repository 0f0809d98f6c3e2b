/* A team: the thread that runs a program, and helpers that stand by and take chunks of its loops.

   The leader puts a loop up and begins at once; a helper that sees it in time joins. When no chunk is left the leader
   closes the loop and waits for the helpers that are still in a chunk, and for these alone: one whose processor is
   taken away meanwhile, as on a shared machine, holds nobody up unless it has a chunk.

   `word` says it all in one place: the number of the loop, whether it may still be joined, how many helpers are in it.
   What the loop is lies in the same cache line, so that a helper fetches one. */
#ifndef CCONV_TEAM_H
#define CCONV_TEAM_H

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>

#include "subnormal.h"

enum { MOST_THREADS = 256, CACHE_LINE = 64 };

/* How often a helper looks for the next loop before it goes to sleep, and the leader for the last helper before it
   yields: some tenths of a millisecond in all. Where there are more threads than processors, who looks is in the way of
   those that have work. */
enum { PATIENCE = 10000, LITTLE_PATIENCE = 50 };

static const uint64_t OPEN = (uint64_t)1 << 31, NEXT = (uint64_t)1 << 32, DISMISSED = ~(uint64_t)0;

typedef void (*team_body)(void* context, ptrdiff_t chunk, int thread);
typedef void (*team_program)(void* context);

/* The chunks that a thread has yet to run, first in the upper half and end in the lower; alone in a cache line. */
typedef struct { _Alignas(CACHE_LINE) uint64_t range; } share;

typedef struct {
    _Alignas(CACHE_LINE) uint64_t word; /* loops put up * NEXT + OPEN + helpers in this one; or DISMISSED */
    team_body body;
    void* context;
    int threads;                        /* that may join; each has a share */
    int flush;                          /* subnormal numbers are 0 in this program */
    _Alignas(CACHE_LINE) int asleep;
    int patience;
    pthread_mutex_t mutex;
    pthread_cond_t awake;
    share shares[MOST_THREADS];
} team;

/* The team that this thread leads, unless it is in a loop already. */
static _Thread_local team* led;

static inline void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Take the first chunk of a share, or its last; -1: it is empty. */
static inline int64_t take(share* s, int last)
{
    uint64_t found = __atomic_load_n(&s->range, __ATOMIC_RELAXED);
    for (;;) {
        uint64_t first = found >> 32, end = found & 0xffffffffu;
        if (first >= end)
            return -1;
        uint64_t left = last ? found - 1 : found + NEXT;
        if (__atomic_compare_exchange_n(&s->range, &found, left, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return (int64_t)(last ? end - 1 : first);
    }
}

/* What one thread does of a loop: its own share from the front, then others' from the back. */
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

/* The leader's new word. Either it sees that a helper is about to sleep, or that helper sees the word. */
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

/* A helper's life. */
static void team_help(team* t, int thread)
{
    uint64_t joined = 0; /* the last loop that this helper was in */
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

/* The leader's life: the program, whose loops are put up by team_loop. It sets its mode here, when its helpers are there:
   a thread begins with the mode of the one that makes it, and keeps that for other programs. */
static void team_lead(team* t, team_program program, void* context)
{
    const float_mode before = flush_subnormals(t->flush);
    led = t;
    program(context);
    led = NULL;
    set_float_mode(before);
    announce(t, DISMISSED);
}

/* The leader runs a loop of `chunks` with at most `threads` of its team. */
static void team_loop(team* t, team_body body, void* context, ptrdiff_t chunks, int threads)
{
    for (int i = 0; i < threads; i++)
        t->shares[i].range = (uint64_t)(chunks * i / threads) << 32 | (uint64_t)(chunks * (i + 1) / threads);
    t->body = body;
    t->context = context;
    t->threads = threads;
    announce(t, (t->word / NEXT + 1) * NEXT + OPEN);
    led = NULL; /* a loop within a chunk is this thread's own */
    work(t, 0);
    led = t;
    __atomic_and_fetch(&t->word, ~OPEN, __ATOMIC_ACQUIRE);
    for (int looks = 1; __atomic_load_n(&t->word, __ATOMIC_ACQUIRE) % OPEN; looks++) {
        if (looks % t->patience)
            pause_briefly();
        else
            sched_yield(); /* the helper may need this processor */
    }
}

#endif
