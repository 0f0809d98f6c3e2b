# What the classes of update.pyx tell the loops of update_loops.pyx.

cdef enum:
    MOST_SLOTS = 3       # as in update.h
    MOST_CONSTANTS = 8
    # Elements of a chunk: few, so that threads have equal shares of a small network's weights, too (48,000 elements on
    # 2 threads: chunks of 32,768 38 us, of 8,192 29 us).
    UPDATE_CHUNK = 8192

ctypedef void (*update_prepare)(const double* options, double rate, double t, double* constants) noexcept nogil

cdef struct update_arguments:
    Py_ssize_t size
    int slots
    void* loop                             # update_loop of update.h
    double constants[MOST_CONSTANTS]       # what `prepare` wrote for this step
    double factor                          # of every gradient: clipping

cdef struct square_arguments:
    Py_ssize_t size, offset
