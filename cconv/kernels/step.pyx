"""Step, one piece of arithmetic with its memory bound, and Program, the array of steps that a plan runs.

A step lives in two phases. Constructed with its geometry, it checks it and tells how much scratch a thread
needs; that is while a plan is being laid out and nothing has an address yet. `bind` then hands it addresses.
After that `run` touches no Python object: no checks, no allocation, no exceptions, only a status.

A step with loops to share out calls self.parallel(phase, chunks) in `run` and does the work of one chunk in
`chunk`. A subclass writes each loop once; how it is cut depends on its geometry, never on the threads.
"""

from array import array

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from cconv.kernels.threads cimport parallel_for, with_team

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    const int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* now)

# A run shorter than this many nanoseconds is not worth waking threads for (2 microseconds while they wait for the next
# loop, 50 if they have gone to sleep), and what a byte costs that comes from the cache or goes there. MobileNetV2 on one
# image, 2 threads, with 50000, 20000, 8000 and 0 ns: 4.7, 4.4, 4.4 and 4.4 ms.
cdef double WORTH_THREADS = 10000, NANOSECONDS_PER_BYTE = 0.05

# A plan of so many bytes stays in one core's cache. Threads share out its arithmetic, but fetch from each other what
# they wrote: 74 KB took 25 us on the Xeon. That is what a byte of a step's operands costs then, of which a part changes
# cores; and each step has its threads wait for each other. A training step with one thread / two, and microseconds of
# arithmetic less exchange, a step on the average: the demo's network at batch 1 228 / 265 us (4.7), at batch 2 294 / 286
# (6.9), at batch 4 453 / 390 (20), at batch 8 622 / 510 (19), LeNet-5 at batch 4 171 / 210 (5.0), at batch 8 300 / 287 (10).
cdef double EXCHANGE_PER_BYTE = 0.014, WAIT = 7000
cdef Py_ssize_t CORE_CACHE = 2 << 20

# Results from this size on are stored past the caches: little is left there when they are read again. In a plan that
# takes more memory than a last-level cache has, smaller ones are, too: what they overwrite has long gone from it, and an
# ordinary store fetches it first (Xeon, batch 16, a training step of MobileNetV2: 270 -> 262 ms).
cdef Py_ssize_t STREAM_BYTES = 16 << 20, COLD_STREAM_BYTES = 2 << 20, COLD_PLAN_BYTES = 64 << 20
cdef Py_ssize_t CACHE_LINE = 64


cdef struct Phase:
    void* step
    int phase


cdef void run_chunk(void* context, Py_ssize_t i, int thread) noexcept nogil:
    cdef Phase* phase = <Phase*>context
    (<Step>phase.step).chunk(phase.phase, i, thread)


cdef class Step:
    """Base of all steps. A subclass sets `operands` and `scratch_bytes` in its constructor."""

    cdef int run(self) noexcept nogil:
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        pass

    cdef void parallel(self, int phase, Py_ssize_t chunks) noexcept nogil:
        cdef Phase context
        context.step = <void*>self
        context.phase = phase
        parallel_for(run_chunk, &context, chunks, 1 if 0 < self.cost < WORTH_THREADS else self.threads)

    cdef bint streams_to(self, int target, Py_ssize_t nbytes, Py_ssize_t row, Py_ssize_t run) noexcept nogil:
        """It is large, is written in whole cache lines (see vstream), and no operand is read from there, which would have
        fetched it."""
        cdef int i
        if nbytes < (COLD_STREAM_BYTES if self.cold else STREAM_BYTES):
            return False
        if <uintptr_t>self.operand[target] % CACHE_LINE or row % CACHE_LINE or run % CACHE_LINE:
            return False
        for i in range(self.operands):
            if i != target and self.operand[i] == self.operand[target]:
                return False
        return True

    cdef char* scratch_of(self, int thread) noexcept nogil:
        return self.scratch + thread * self.scratch_bytes

    def weigh(self, double nbytes, Py_ssize_t plan_bytes=0):
        """Judge from its arithmetic and from the bytes of its operands what a run costs, and from its plan's memory what
        is in the caches and what threads gain. A step that was not weighed uses all its threads, however small."""
        self.cost = max(self.work, nbytes * NANOSECONDS_PER_BYTE)
        self.gain = self.cost
        if max(<double>plan_bytes, nbytes) <= CORE_CACHE:
            self.gain = self.work - nbytes * EXCHANGE_PER_BYTE - WAIT
        if self.cost < WORTH_THREADS:
            self.gain = 0
        self.cold = plan_bytes > COLD_PLAN_BYTES

    def bind(self, addresses, size_t scratch, int threads):
        """Give the step its operands' addresses (0 for an absent one), its scratch and its threads.

        Raises:
            ValueError: not as many addresses as the step has operands.
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
    double* least   # seconds of each step


cdef void run_stretch(void* context) noexcept nogil:
    """The steps next..end-1, up to one whose status is not OK."""
    cdef Stretch* s = <Stretch*>context
    while s.next < s.end:
        s.status = (<Step>s.items[s.next]).run()
        if s.status != OK:
            return
        s.next += 1


cdef void time_stretch(void* context) noexcept nogil:
    """All steps next..end-1, whatever their status."""
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
    """Bound steps in the order they run; the whole of it runs without the GIL.

    Args:
        flush: numbers below the least normal one (1.2e-38 in float32) are taken for 0, and none is a result.

    Raises:
        TypeError: something in `steps` is no Step.
    """

    cdef readonly tuple steps
    cdef readonly bint flush
    cdef void** items   # borrowed from `steps`

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
        """Run steps begin..end-1 (default: all). Returns (steps run, status); a status other than 0 stopped it."""
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
        """Seconds that each step took, the least of `repeats` whole runs, as a list beside `steps`."""
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
        """Threads that a run of all steps has."""
        return self.threads_of(0, len(self.steps))

    cdef int threads_of(self, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
        """As many as its steps have, if it is worth it for them together; for one that was not weighed it is."""
        cdef Py_ssize_t i
        cdef int most = 1
        cdef bint known = True
        cdef double gain = 0
        for i in range(begin, end):
            most = max(most, (<Step>self.items[i]).threads)
            gain += (<Step>self.items[i]).gain
            known = known and (<Step>self.items[i]).cost > 0
        return most if gain > 0 or not known else 1
