"""The only allocator: zeroed memory, aligned to a cache line, or to a huge page if it is large.

Large regions request huge pages from the system. A plan reads and writes its whole arena in every training step, and
with 4 KiB pages the TLB misses would cost more than the loads.
"""

import numpy as np

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void** result, size_t alignment, size_t size)

cdef extern from *:
    """
    #include <sys/mman.h>
    #ifdef MADV_HUGEPAGE
    static void advise_huge(void *p, size_t n) { madvise(p, n, MADV_HUGEPAGE); }
    #else
    static void advise_huge(void *p, size_t n) { (void)p; (void)n; }
    #endif
    """
    void advise_huge(void* p, size_t n) nogil

HUGE_PAGE = 1 << 21
ALIGNMENT = 64


cdef class Region:
    """A region of `nbytes` bytes of zeroed memory. NumPy arrays that view the region keep it alive.

    Raises:
        MemoryError: the system cannot provide the memory.
    """

    cdef void* start
    cdef readonly size_t nbytes

    def __cinit__(self, size_t nbytes):
        cdef size_t alignment = HUGE_PAGE if nbytes >= HUGE_PAGE else ALIGNMENT
        self.nbytes = (nbytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT or ALIGNMENT
        if posix_memalign(&self.start, alignment, self.nbytes):
            self.start = NULL
            raise MemoryError(f"cannot take {nbytes / 1e6:.1f} MB of memory")
        if self.nbytes >= HUGE_PAGE:
            advise_huge(self.start, self.nbytes)
        memset(self.start, 0, self.nbytes)

    def __dealloc__(self):
        free(self.start)

    @property
    def address(self):
        return <uintptr_t>self.start

    @property
    def __array_interface__(self):
        return {"version": 3, "shape": (self.nbytes,), "typestr": "|u1", "data": (self.address, False)}


def zeros(shape, dtype) -> np.ndarray:
    """Allocate an array of zeros in C order, with the alignment of a Region."""
    dtype = np.dtype(dtype)
    shape = tuple(int(n) for n in np.atleast_1d(np.asarray(shape, dtype=np.int64))) if shape != () else ()
    count = 1
    for n in shape:
        count *= n
    region = Region(count * dtype.itemsize)
    return np.asarray(region)[: count * dtype.itemsize].view(dtype).reshape(shape)


def aligned(array) -> np.ndarray:
    """Copy `array` to a new array in C order, with the alignment of a Region."""
    result = zeros(array.shape, array.dtype)
    result[...] = array
    return result
