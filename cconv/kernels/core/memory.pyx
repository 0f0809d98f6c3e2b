"""The only allocator: regions of memory, zeroed, aligned to a cache line (large ones to a huge page).

Large regions ask the system for huge pages: a plan walks its arena end to end at every step, and with 4 KiB
pages the TLB misses cost more than the loads.
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
    """`nbytes` of zeroed memory; NumPy arrays on it keep it alive.

    Raises:
        MemoryError: the system does not have that much.
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
    """An aligned array of zeros, C order, on a Region of its own."""
    dtype = np.dtype(dtype)
    shape = tuple(int(n) for n in np.atleast_1d(np.asarray(shape, dtype=np.int64))) if shape != () else ()
    count = 1
    for n in shape:
        count *= n
    region = Region(count * dtype.itemsize)
    return np.asarray(region)[: count * dtype.itemsize].view(dtype).reshape(shape)


def aligned(array) -> np.ndarray:
    """A copy of `array`, C order, on a Region of its own."""
    result = zeros(array.shape, array.dtype)
    result[...] = array
    return result
