"""Threads: the only file that touches OpenMP.

A kernel cuts its loop into chunks *by the shape* and hands them to `parallel_for`. Which thread runs which
chunk must not matter, so a chunk must not add to what another chunk writes; partial sums go to a place per
chunk and are added afterwards in the order of the chunks. That is why the number of threads never changes a
bit of any result.

Each thread begins with an equal run of neighbouring chunks, since what it wrote in the loop before is in its own
cache: threads that take whatever comes next read half of their input from another core's (MobileNetV2 on one
image, 2 threads: depthwise convolutions 0.84 -> 0.56 ms, the others 3.3 -> 3.1 ms). A thread that is done takes
chunks from the other ends of the others' runs, as on a busy machine one core may fall behind.

A program opens one parallel region, in which its loops are put up for the other threads by a team (team.h): a region
for each loop takes more than twice as long to begin and end (0.9 and 0.4 us on 2 cores of a Xeon), and waits for all of
its threads even where one of them could have run all chunks meanwhile.

Fork: libgomp's worker threads do not survive fork(), and a parallel region in the child would wait for them
for ever. A forked child therefore runs every chunk on its one thread; results are the same bits.
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
    """Run body(context) on this thread; `parallel_for` within it has `threads` threads, this one among them.

    `flush`: to them all, numbers below the least normal one are 0; see subnormal.h.
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
    """Run body(context, c, thread) for c in 0..chunks-1 on at most `threads` threads of the team; returns when all ran."""
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
    """Whether this build can use more than one thread."""
    return bool(CCONV_OPENMP)


def available_processors() -> int:
    """Processors this process may run on (its affinity mask, not the machine's total)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


processors = available_processors()


def _initial_threads() -> int:
    wish = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(wish) if wish.isdigit() and int(wish) > 0 else processors


# More threads than this for each processor only wait for each other; as many as this are allowed on any machine.
PER_PROCESSOR, ALWAYS_ALLOWED = 4, 8


def useful_threads(n: int) -> int:
    """`n`, or the largest number of threads that is of use here."""
    return min(n, max(PER_PROCESSOR * processors, ALWAYS_ALLOWED), MOST_THREADS)


def _capped(n: int, place: str) -> int:
    """useful_threads(n), with a warning if that is less."""
    most = useful_threads(n)
    if most < n:
        warnings.warn(f"{place}: {n} threads on {processors} processors would wait for each other; {most} are used",
                      stacklevel=3)
    return most


_threads = _capped(_initial_threads(), "OMP_NUM_THREADS")


def get_num_threads() -> int:
    """Threads that new plans use unless told otherwise."""
    return _threads if CCONV_OPENMP else 1


def set_num_threads(n: object) -> None:  # with `int` Cython would take the check below for granted
    """Let new plans use `n` threads, or as many as are of use. Results do not depend on it.

    Raises:
        ValueError: n is not a whole number of at least 1.
    """
    global _threads
    if not isinstance(n, numbers.Integral) or isinstance(n, bool) or n < 1:
        raise ValueError(f"set_num_threads: the number of threads is a whole number >= 1; found {n!r}")
    _threads = _capped(int(n), "set_num_threads")
