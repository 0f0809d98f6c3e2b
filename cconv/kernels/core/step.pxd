from cconv.kernels.core.loop cimport chunk_loop

cdef enum:
    MAX_OPERANDS = 14
    FLOPS_PER_LANE = 8   # of a vector, in a nanosecond, by one core at two thirds of its peak; for Step.work

cdef enum Status:
    OK = 0
    NOT_FINITE = 1               # a loss or gradient that is NaN or infinite
    OUT_OF_RANGE = 2             # an index that its axis does not have, such as a target that is no class
    STATISTICS_NOT_FINITE = 3    # a mean or variance that is NaN or infinite

cdef class Step:
    cdef char* operand[MAX_OPERANDS]   # addresses, in the order that the class's docstring gives
    cdef void* arguments               # the struct that the loops read
    cdef chunk_loop loop               # what the default `run` runs, `chunks` times
    cdef readonly Py_ssize_t chunks
    cdef list held                     # owners of memory that `arguments` points to
    cdef char* scratch                 # `threads` pieces of scratch_bytes each
    cdef readonly Py_ssize_t scratch_bytes
    cdef readonly int operands         # how many of them the step uses
    cdef int threads
    cdef double work                   # estimated nanoseconds of its arithmetic on one core; 0: not known
    cdef double cost                   # estimated nanoseconds of a run, set by `weigh`; 0: not known
    cdef double gain                   # estimated nanoseconds saved by more threads; negative: lost
    cdef bint cold                     # the plan takes more memory than the last-level cache holds
    cdef int run(self) noexcept nogil
    # Run loop(arguments, operand, i, scratch) for i in 0..chunks-1, in any order, on any thread; returns when all ran.
    cdef void run_chunks(self, chunk_loop loop, Py_ssize_t chunks) noexcept nogil
    # Whether results of `nbytes` stored to operand `target` should bypass the caches.
    # row: bytes from one row to the next; run: bytes stored side by side.
    cdef bint streams_to(self, int target, Py_ssize_t nbytes, Py_ssize_t row, Py_ssize_t run) noexcept nogil
    # The numbers as a C array that lives as long as the step.
    cdef const Py_ssize_t* longs(self, values) except NULL


# Elements that a chunk should process, unless a kernel has measured a better number. Large enough that the cost of handing
# out a chunk is small, small enough that two operands of it stay in L2.
cdef enum:
    CHUNK = 32768

cdef inline Py_ssize_t per_chunk(Py_ssize_t elements, Py_ssize_t chunk=CHUNK) noexcept nogil:
    """How many items, of so many elements each, make up a chunk: at least one."""
    return max(<Py_ssize_t>1, chunk // max(<Py_ssize_t>1, elements))
