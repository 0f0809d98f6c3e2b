"""Threads: the only file that touches OpenMP.

A kernel cuts its loop into chunks *by the shape* and hands them to `parallel_for`. Which thread runs which
chunk must not matter, so a chunk must not add to what another chunk writes; partial sums go to a place per
chunk and are added afterwards in the order of the chunks. That is why the number of threads never changes a
bit of any result.

Each thread begins with an equal run of neighbouring chunks, since what it wrote in the loop before is in its own
cache: threads that take whatever comes next read half of their input from another core's (MobileNetV2 on one
image, 2 threads: depthwise convolutions 0.84 -> 0.56 ms, the others 3.3 -> 3.1 ms). A thread that is done takes
chunks from the other ends of the others' runs, as on a busy machine one core may fall behind.

Fork: libgomp's worker threads do not survive fork(), and a parallel region in the child would wait for them
for ever. A forked child therefore runs every chunk on its one thread; results are the same bits.
"""

import os

from cython.parallel cimport parallel, threadid

cdef extern from *:
    """
    #include <stdint.h>
    #ifdef _OPENMP
    #define CCONV_OPENMP 1
    #else
    #define CCONV_OPENMP 0
    #endif

    /* The chunks that a thread has yet to run, first in the upper half and end in the lower; alone in a cache line. */
    typedef struct { _Alignas(64) uint64_t range; } share;

    /* Take the first chunk of a share, or its last; -1: it is empty. */
    static inline int64_t take(share* s, int last)
    {
        uint64_t found = __atomic_load_n(&s->range, __ATOMIC_RELAXED);
        for (;;) {
            uint64_t first = found >> 32, end = found & 0xffffffffu;
            if (first >= end)
                return -1;
            uint64_t left = last ? found - 1 : found + ((uint64_t)1 << 32);
            if (__atomic_compare_exchange_n(&s->range, &found, left, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                return (int64_t)(last ? end - 1 : first);
        }
    }
    """
    const int CCONV_OPENMP
    ctypedef struct share:
        unsigned long long range
    Py_ssize_t take(share* s, int last) noexcept nogil

cdef enum:
    MOST_THREADS = 256

cdef bint forked = False


cdef void parallel_for(chunk_body body, void* context, Py_ssize_t chunks, int threads) noexcept nogil:
    """Run body(context, c, thread) for c in 0..chunks-1 on at most `threads` threads; returns when all ran."""
    cdef Py_ssize_t chunk
    if threads <= 1 or chunks <= 1 or forked or not CCONV_OPENMP:
        for chunk in range(chunks):
            body(context, chunk, 0)
        return
    cdef share shares[MOST_THREADS]
    cdef int t
    threads = <int>min(threads, chunks, <Py_ssize_t>MOST_THREADS)
    for t in range(threads):
        shares[t].range = <unsigned long long>(chunks * t // threads) << 32 | <unsigned long long>(
            chunks * (t + 1) // threads)
    with parallel(num_threads=threads):
        work(body, context, &shares[0], threads, threadid())


cdef void work(chunk_body body, void* context, share* shares, int threads, int thread) noexcept nogil:
    """What one thread does of a loop: its own share from the front, then others' from the back."""
    cdef int i
    cdef Py_ssize_t chunk
    for i in range(threads):
        while True:
            chunk = take(&shares[(thread + i) % threads], i > 0)
            if chunk < 0:
                break
            body(context, chunk, thread)


def _after_fork_in_child():
    global forked
    forked = True


os.register_at_fork(after_in_child=_after_fork_in_child)


def has_openmp() -> bool:
    """Whether this build can use more than one thread."""
    return bool(CCONV_OPENMP)


def available_processors() -> int:
    """Processors this process may run on (its affinity mask, not the machine's total)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _initial_threads() -> int:
    wish = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(wish) if wish.isdigit() and int(wish) > 0 else available_processors()


_threads = _initial_threads()


def get_num_threads() -> int:
    """Threads that new plans use unless told otherwise."""
    return _threads if CCONV_OPENMP else 1


def set_num_threads(n: object) -> None:  # with `int` Cython would take the check below for granted
    """Let new plans use `n` threads. Results do not depend on it.

    Raises:
        ValueError: n is not a whole number of at least 1.
    """
    global _threads
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"set_num_threads: the number of threads is a whole number >= 1; found {n!r}")
    _threads = n
