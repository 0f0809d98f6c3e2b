from cconv.kernels.core.loop cimport chunk_loop

cdef enum:
    MAX_OPERANDS = 14
    FLOPS_PER_LANE = 8   # estimated FLOPs per nanosecond and vector lane: one core at two thirds of its peak

cdef enum Status:
    OK = 0
    NOT_FINITE = 1               # a loss or gradient that is NaN or infinite
    OUT_OF_RANGE = 2             # an index that its axis does not have, such as a target that is no class
    STATISTICS_NOT_FINITE = 3    # a mean or variance that is NaN or infinite

cdef class Step:
    cdef char* operand[MAX_OPERANDS]   # addresses of the operands, in the order of the class's docstring
    cdef void* arguments               # struct of sizes that the compiled loops read
    cdef chunk_loop loop               # compiled loop that the default `run` calls for each of `chunks` chunks
    cdef readonly Py_ssize_t chunks
    cdef list held                     # Python objects that own the memory `arguments` points to
    cdef char* scratch                 # scratch memory, scratch_bytes for each of `threads` threads
    cdef readonly Py_ssize_t scratch_bytes
    cdef readonly int operands         # number of operands that the step uses
    cdef int threads
    cdef double work                   # estimated nanoseconds of arithmetic on one core; 0: not known
    cdef double cost                   # estimated nanoseconds of a run on one core, set by `weigh`; 0: not known
    cdef double gain                   # estimated nanoseconds that more threads save; negative: they cost time
    cdef bint cold                     # the plan's memory exceeds COLD_PLAN_BYTES, so operands are not in the caches
    cdef int run(self) noexcept nogil
    # Call loop(arguments, operand, i, scratch) for i in 0..chunks-1, in any order on any thread; wait for all of them.
    cdef void run_chunks(self, chunk_loop loop, Py_ssize_t chunks) noexcept nogil
    # Whether the results, `nbytes` stored to operand `target`, should bypass the caches (non-temporal stores).
    # row: bytes from one row to the next; run: bytes of each contiguous piece that is stored.
    cdef bint streams_to(self, int target, Py_ssize_t nbytes, Py_ssize_t row, Py_ssize_t run) noexcept nogil
    # Copy a sequence of integers to a C array that lives as long as the step.
    cdef const Py_ssize_t* longs(self, values) except NULL


# Default number of elements per chunk; some kernels have a measured number of their own. Large enough that starting a
# chunk costs little in comparison, small enough that two operands of a chunk stay in L2.
cdef enum:
    CHUNK = 32768

cdef inline Py_ssize_t per_chunk(Py_ssize_t elements, Py_ssize_t chunk=CHUNK) noexcept nogil:
    """Number of items per chunk, at least one, if each item has this many elements."""
    return max(<Py_ssize_t>1, chunk // max(<Py_ssize_t>1, elements))
