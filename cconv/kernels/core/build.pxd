from cconv.kernels.core.loop cimport chunk_loop

cdef class Build:
    cdef readonly str name
    cdef readonly object dtype
    cdef readonly Py_ssize_t itemsize       # bytes of a real: 4 for float32, 8 for float64
    cdef readonly Py_ssize_t lanes          # reals per vector
    cdef readonly Py_ssize_t tile_rows      # rows of the register tile
    cdef readonly Py_ssize_t tile_columns   # columns of the register tile: output channels per packed block
    cdef readonly Py_ssize_t line           # reals per cache line
    cdef dict tables
    cdef chunk_loop loop(self, str module, str name) except NULL
    cdef void* address(self, str module, str table, str name) except NULL
    cdef int block_vectors(self, Py_ssize_t columns) noexcept nogil
    cdef Py_ssize_t packed_columns(self, Py_ssize_t columns) noexcept nogil
    cdef Py_ssize_t odd_lines(self, Py_ssize_t n) noexcept nogil

cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a / b rounded up; 0 for negative a."""
    return (a + b - 1) // b if a > 0 else 0
