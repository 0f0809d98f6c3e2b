cdef enum:
    MAX_OPERANDS = 14
    FLOPS_PER_LANE = 8   # of a vector, in a nanosecond, by one core at two thirds of its peak; for Step.work

cdef enum Status:
    OK = 0
    NOT_FINITE = 1       # a loss that is NaN or infinite
    OUT_OF_RANGE = 2     # a class index that names no class

cdef class Step:
    cdef char* operand[MAX_OPERANDS]   # addresses, in the order the class's docstring gives
    cdef char* scratch                 # `threads` pieces of scratch_bytes each
    cdef readonly Py_ssize_t scratch_bytes
    cdef readonly int operands         # how many of them the step uses
    cdef int threads
    cdef double work                   # nanoseconds that its arithmetic takes one core, roughly; 0: not known
    cdef double cost                   # nanoseconds of a run, roughly, once `weigh` was called; 0: not known
    cdef double gain                   # nanoseconds that more threads are worth, roughly; negative: they take as many
    cdef bint cold                     # its plan takes more memory than the caches hold
    cdef int run(self) noexcept nogil
    # Run self.chunk(phase, i, thread) for i in 0..chunks-1, in any order, on any thread; returns when all ran.
    cdef void parallel(self, int phase, Py_ssize_t chunks) noexcept nogil
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil
    # Whether operand `target` is to be stored past the caches; bytes of it, of one of its rows, and stored side by side.
    cdef bint streams_to(self, int target, Py_ssize_t nbytes, Py_ssize_t row, Py_ssize_t run) noexcept nogil
    cdef char* scratch_of(self, int thread) noexcept nogil
