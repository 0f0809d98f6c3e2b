# The function that a team's leader runs: a whole program.
ctypedef void (*leader_body)(void* context) noexcept nogil
# body(context, chunk, thread): the work of one chunk. `thread`, from 0, selects the thread's scratch memory.
ctypedef void (*chunk_body)(void* context, Py_ssize_t chunk, int thread) noexcept nogil

cdef void parallel_for(chunk_body body, void* context, Py_ssize_t chunks, int threads) noexcept nogil
cdef void with_team(leader_body body, void* context, int threads, bint flush) noexcept nogil
