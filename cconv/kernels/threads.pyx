"""Threads: the only file that touches OpenMP.

A kernel cuts its loop into chunks *by the shape* and hands them to `parallel_for`. Which thread runs which
chunk is left to chance, so a chunk must not add to what another chunk writes; partial sums go to a place per
chunk and are added afterwards in the order of the chunks. That is why the number of threads never changes a
bit of any result.

Fork: libgomp's worker threads do not survive fork(), and a parallel region in the child would wait for them
for ever. A forked child therefore runs every chunk on its one thread; results are the same bits.
"""

import os

from cython.parallel cimport prange, threadid

cdef extern from *:
    """
    #ifdef _OPENMP
    #define CCONV_OPENMP 1
    #else
    #define CCONV_OPENMP 0
    #endif
    """
    const int CCONV_OPENMP

cdef bint forked = False


cdef void parallel_for(chunk_body body, void* context, Py_ssize_t chunks, int threads) noexcept nogil:
    """Run body(context, c, thread) for c in 0..chunks-1 on at most `threads` threads; returns when all ran."""
    cdef Py_ssize_t chunk
    if threads <= 1 or chunks <= 1 or forked or not CCONV_OPENMP:
        for chunk in range(chunks):
            body(context, chunk, 0)
        return
    if threads > chunks:
        threads = <int>chunks
    # One chunk at a time: chunks are few and large, and on a busy machine one core may fall behind.
    for chunk in prange(chunks, schedule="dynamic", chunksize=1, num_threads=threads):
        body(context, chunk, threadid())


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
