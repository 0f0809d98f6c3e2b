"""Threads. This is the only file that uses OpenMP.

Determinism: a kernel splits its loop into chunks by the shape alone and passes them to `parallel_for`. Any thread may
run any chunk, so a chunk must not add to memory that another chunk writes. Each chunk stores partial sums to memory of
its own, and the sums are added afterwards in the order of the chunks. So the number of threads never changes a bit of
any result.

Scheduling: each thread begins with a contiguous range of chunks, and all ranges are equally long. A thread then mostly
reads data that it wrote in the loop before, which is in its own cache. With dynamic scheduling, threads would read half
of their input from another core's cache (MobileNetV2 on one image, 2 threads: depthwise convolutions took 0.84 ms, with
ranges 0.56 ms; the others 3.3 and 3.1 ms). A thread that is done steals chunks from the ends of other threads' ranges,
because on a busy machine one core may fall behind.

Parallel regions: a program opens one OpenMP region, in which a team (team.h) passes each loop to the waiting threads.
An OpenMP region per loop would take more than twice as long to begin and end (0.9 instead of 0.4 us on 2 cores of a
Xeon). It would also wait for all threads, even if one thread could run all chunks in the meantime.

Fork: the worker threads of libgomp do not survive fork(), and a parallel region in the child would wait for them for
ever. A forked child therefore runs every chunk on its only thread. The results have the same bits.
"""

import numbers
import os
import warnings

from cython.parallel cimport parallel, threadid

cdef extern from *:
    """
    #ifdef _OPENMP
    #define CCONV_OPENMP 1
    #else
    #define CCONV_OPENMP 0
    #endif
    """
    const int CCONV_OPENMP

cdef extern from "subnormal.h" nogil:
    ctypedef unsigned long float_mode
    float_mode flush_subnormals(bint flush)
    void set_float_mode(float_mode mode)

cdef extern from "team.h" nogil:
    enum:
        MOST_THREADS
    ctypedef struct team:
        pass
    team* led
    void team_init(team* t, bint patient, bint flush)
    void team_destroy(team* t)
    void team_lead(team* t, leader_body body, void* context)
    void team_help(team* t, int thread)
    void team_loop(team* t, chunk_body body, void* context, Py_ssize_t chunks, int threads)

cdef bint forked = False
cdef int processors


cdef void with_team(leader_body body, void* context, int threads, bint flush) noexcept nogil:
    """Run body(context) on this thread. Each `parallel_for` in it may use `threads` threads, including this one.

    If `flush`, all these threads treat subnormal numbers as 0; see subnormal.h.
    """
    cdef team t
    cdef float_mode before
    threads = min(threads, <int>MOST_THREADS)
    if threads <= 1 or forked or not CCONV_OPENMP:
        before = flush_subnormals(flush)
        body(context)
        set_float_mode(before)
        return
    team_init(&t, threads <= processors, flush)
    with parallel(num_threads=threads):
        if threadid() == 0:
            team_lead(&t, body, context)
        else:
            team_help(&t, threadid())
    team_destroy(&t)


cdef void parallel_for(chunk_body body, void* context, Py_ssize_t chunks, int threads) noexcept nogil:
    """Run body(context, c, thread) for c in 0..chunks-1 on at most `threads` threads; returns when all are done."""
    cdef Py_ssize_t chunk
    if threads <= 1 or chunks <= 1 or led == NULL:
        for chunk in range(chunks):
            body(context, chunk, 0)
        return
    team_loop(led, body, context, chunks, <int>min(threads, chunks, <Py_ssize_t>MOST_THREADS))


def _after_fork_in_child():
    global forked
    forked = True


os.register_at_fork(after_in_child=_after_fork_in_child)


def has_openmp() -> bool:
    """Whether cconv was compiled with OpenMP, without which only one thread is used."""
    return bool(CCONV_OPENMP)


def available_processors() -> int:
    """Number of processors that this process may run on: its affinity mask, not the machine's total."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


processors = available_processors()


def _initial_threads() -> int:
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(requested) if requested.isdigit() and int(requested) > 0 else processors


# Limits on the number of threads. More than PER_PROCESSOR threads per processor only wait for each other. On a machine
# with few processors, ALWAYS_ALLOWED threads are still accepted.
PER_PROCESSOR, ALWAYS_ALLOWED = 4, 8


def useful_threads(n: int) -> int:
    """n, or the largest useful number of threads on this machine if n is larger."""
    return min(n, max(PER_PROCESSOR * processors, ALWAYS_ALLOWED), MOST_THREADS)


def _capped(n: int, place: str) -> int:
    """Return useful_threads(n); warn if that is less than n. `place` names the origin of n in the warning."""
    most = useful_threads(n)
    if most < n:
        warnings.warn(f"{place}: {n} threads on {processors} processors would wait for each other; {most} are used",
                      stacklevel=3)
    return most


_threads = _capped(_initial_threads(), "OMP_NUM_THREADS")


def get_num_threads() -> int:
    """The default number of threads of new plans."""
    return _threads if CCONV_OPENMP else 1


def set_num_threads(n: object) -> None:  # with `int`, Cython would assume that the check below is true
    """Set the default number of threads of new plans. Results do not depend on it.

    If n is more than the machine can use, a smaller number is set, with a warning.

    Raises:
        ValueError: n is not an integer of at least 1.
    """
    global _threads
    if not isinstance(n, numbers.Integral) or isinstance(n, bool) or n < 1:
        raise ValueError(f"set_num_threads: the number of threads is a whole number >= 1; found {n!r}")
    _threads = _capped(int(n), "set_num_threads")
