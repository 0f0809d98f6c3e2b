"""Step, one kernel call with fixed sizes and operand addresses, and Program, the array of steps that a plan runs.

A step has two phases. In the first phase, the constructor checks the sizes and computes how much scratch memory a
thread needs. The plan is still being laid out then, so operands have no addresses. `bind` sets the addresses and starts
the second phase: from then on `run` uses no Python objects. It makes no checks, allocates nothing, raises nothing, and
returns a status.

Each kernel is a subclass of Step. The class is compiled once and does no arithmetic on arrays. Its constructor fills in
a struct of sizes (`arguments`), looks up its compiled loops in a Build, and splits them into chunks. The number of
chunks depends on the sizes, never on the number of threads. Most steps set `loop` and `chunks` and inherit `run`. A
step with several loops overrides `run` and calls `run_chunks` for each loop.
"""

from array import array

import numpy as np

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from cconv.kernels.core.loop cimport chunk_loop
from cconv.kernels.core.threads cimport parallel_for, with_team

from cconv.kernels.schedule import settings

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    const int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* now)

# Copied to C variables, because the code below reads them without the GIL.
cdef double WORTH_THREADS = settings.WORTH_THREADS
cdef double NANOSECONDS_PER_BYTE = settings.NANOSECONDS_PER_BYTE
cdef double EXCHANGE_PER_BYTE = settings.EXCHANGE_PER_BYTE
cdef double WAIT = settings.WAIT
cdef Py_ssize_t CORE_CACHE = settings.CORE_CACHE
cdef Py_ssize_t STREAM_BYTES = settings.STREAM_BYTES
cdef Py_ssize_t COLD_STREAM_BYTES = settings.COLD_STREAM_BYTES
cdef Py_ssize_t COLD_PLAN_BYTES = settings.COLD_PLAN_BYTES
cdef Py_ssize_t CACHE_LINE = 64


cdef struct Context:
    # The fields of a step that its chunks read.
    chunk_loop loop
    const void* arguments
    char** operand
    char* scratch
    Py_ssize_t scratch_bytes


cdef void run_loop(void* context, Py_ssize_t i, int thread) noexcept nogil:
    cdef Context* c = <Context*>context
    c.loop(c.arguments, c.operand, i, c.scratch + thread * c.scratch_bytes)


cdef class Step:
    """Base class of all steps. A subclass sets `operands` and `scratch_bytes` in its constructor."""

    cdef int run(self) noexcept nogil:
        self.run_chunks(self.loop, self.chunks)
        return OK

    cdef void run_chunks(self, chunk_loop loop, Py_ssize_t chunks) noexcept nogil:
        cdef Context context
        context.loop, context.arguments, context.operand = loop, self.arguments, self.operand
        context.scratch, context.scratch_bytes = self.scratch, self.scratch_bytes
        parallel_for(run_loop, &context, chunks, 1 if 0 < self.cost < WORTH_THREADS else self.threads)

    cdef bint streams_to(self, int target, Py_ssize_t nbytes, Py_ssize_t row, Py_ssize_t run) noexcept nogil:
        """Whether stores to the target should bypass the caches.

        They should if the target is large, is written in whole cache lines (see vstream), and has no other operand at
        the same address: reading that operand would load the lines into the caches anyway.
        """
        cdef int i
        if nbytes < (COLD_STREAM_BYTES if self.cold else STREAM_BYTES):
            return False
        if <uintptr_t>self.operand[target] % CACHE_LINE or row % CACHE_LINE or run % CACHE_LINE:
            return False
        for i in range(self.operands):
            if i != target and self.operand[i] == self.operand[target]:
                return False
        return True

    cdef const Py_ssize_t* longs(self, values) except NULL:
        array = np.array(tuple(values) or (0,), dtype=np.intp)
        if self.held is None:
            self.held = []
        self.held.append(array)
        return <const Py_ssize_t*><uintptr_t>array.ctypes.data

    def weigh(self, double nbytes, Py_ssize_t plan_bytes=0):
        """Estimate the cost of a run, the gain by more threads, and whether operands are in the caches.

        A step without an estimate uses all its threads, even if it is small.

        Args:
            nbytes: bytes of all operands.
            plan_bytes: bytes of memory of the whole plan.
        """
        self.cost = max(self.work, nbytes * NANOSECONDS_PER_BYTE)
        self.gain = self.cost
        if max(<double>plan_bytes, nbytes) <= CORE_CACHE:
            self.gain = self.work - nbytes * EXCHANGE_PER_BYTE - WAIT
        if self.cost < WORTH_THREADS:
            self.gain = 0
        self.cold = plan_bytes > COLD_PLAN_BYTES

    def bind(self, addresses, size_t scratch, int threads):
        """Set the addresses of the operands (0 if absent) and of the scratch memory, and the number of threads.

        Raises:
            ValueError: the number of addresses is not the number of operands.
        """
        if len(addresses) != self.operands:
            raise ValueError(f"{type(self).__name__} takes {self.operands} operands, got {len(addresses)}")
        for i, address in enumerate(addresses):
            self.operand[i] = <char*><uintptr_t>address
        self.scratch = <char*><uintptr_t>scratch
        self.threads = threads


cdef struct Stretch:
    void** items
    Py_ssize_t next, end
    int status
    double* least   # for each step, the shortest time measured so far, in seconds


cdef void run_stretch(void* context) noexcept nogil:
    """Run steps next..end-1. Stop at the first step whose status is not OK."""
    cdef Stretch* s = <Stretch*>context
    while s.next < s.end:
        s.status = (<Step>s.items[s.next]).run()
        if s.status != OK:
            return
        s.next += 1


cdef void time_stretch(void* context) noexcept nogil:
    """Run steps next..end-1 and time each of them, whatever their status."""
    cdef Stretch* s = <Stretch*>context
    cdef timespec t0, t1
    cdef double seconds
    while s.next < s.end:
        clock_gettime(CLOCK_MONOTONIC, &t0)
        (<Step>s.items[s.next]).run()
        clock_gettime(CLOCK_MONOTONIC, &t1)
        seconds = <double>(t1.tv_sec - t0.tv_sec) + 1e-9 * <double>(t1.tv_nsec - t0.tv_nsec)
        s.least[s.next] = min(s.least[s.next], seconds)
        s.next += 1


cdef class Program:
    """A sequence of bound steps, run in this order without the GIL.

    Args:
        steps: the steps; `bind` must be called on each before `run`.
        flush: flush subnormal numbers to zero, as inputs and as results (in float32, magnitudes below 1.2e-38).

    Raises:
        TypeError: an element of `steps` is not a Step.
    """

    cdef readonly tuple steps
    cdef readonly bint flush
    cdef void** items   # the steps as pointers; `steps` holds the references

    def __cinit__(self, steps, bint flush=False):
        self.steps = tuple(steps)
        self.flush = flush
        self.items = <void**>malloc(max(1, len(self.steps)) * sizeof(void*))
        if self.items == NULL:
            raise MemoryError
        for i, step in enumerate(self.steps):
            if not isinstance(step, Step):
                raise TypeError(f"step {i} is a {type(step).__name__}, not a Step")
            self.items[i] = <void*>step

    def __dealloc__(self):
        free(self.items)

    def __len__(self):
        return len(self.steps)

    def run(self, Py_ssize_t begin=0, Py_ssize_t end=-1):
        """Run steps begin..end-1 (default: all), or until the first step whose status is not 0.

        Returns:
            (index, status): `end` and 0, or the index of the step that failed and its status.

        Raises:
            IndexError: not 0 <= begin <= end <= number of steps.
        """
        cdef Stretch stretch
        if end < 0:
            end = len(self.steps)
        if not 0 <= begin <= end <= len(self.steps):
            raise IndexError(f"steps {begin}..{end} of {len(self.steps)}")
        stretch.items, stretch.next, stretch.end, stretch.status = self.items, begin, end, OK
        with nogil:
            with_team(run_stretch, &stretch, self.threads_of(begin, end), self.flush)
        return stretch.next, stretch.status

    def profile(self, int repeats=1):
        """Time each step: a list of seconds in the order of `steps`, the shortest of `repeats` runs of the program."""
        cdef Stretch stretch
        cdef Py_ssize_t n = len(self.steps)
        cdef double[::1] least = array("d", [float("inf")]) * max(1, n)
        stretch.items, stretch.end, stretch.least = self.items, n, &least[0]
        for _ in range(repeats):
            stretch.next = 0
            with nogil:
                with_team(time_stretch, &stretch, self.threads_of(0, n), self.flush)
        return list(least[:n])

    @property
    def threads(self):
        """Number of threads that a run of all steps uses."""
        return self.threads_of(0, len(self.steps))

    cdef int threads_of(self, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
        """Number of threads for a run of steps begin..end-1: the most that any step has, or 1 if they save no time.

        If any step has no estimate (`weigh` was not called), more threads are assumed to save time.
        """
        cdef Py_ssize_t i
        cdef int most = 1
        cdef bint known = True
        cdef double gain = 0
        for i in range(begin, end):
            most = max(most, (<Step>self.items[i]).threads)
            gain += (<Step>self.items[i]).gain
            known = known and (<Step>self.items[i]).cost > 0
        return most if gain > 0 or not known else 1


def gains_by_threads(steps):
    """Whether more than one thread saves time in a run of these steps, as estimated by `weigh`. True if unknown."""
    cdef double gain = 0
    for step in steps:
        gain += (<Step>step).gain
        if (<Step>step).cost <= 0:
            return True
    return gain > 0
