"""Build: the loops compiled for one instruction set and dtype, and the sizes they were compiled with.

A kernel's class is compiled once, its loops once per build. The constructor of the class takes a Build, uses the
build's sizes to lay out chunks and scratch memory, and looks up its loops by name. `cconv/kernels/pool/pool_loops.pyx`
becomes `cconv.kernels.avx512.pool_loops`, `cconv.kernels.avx2.pool_loops` and so on. Each of these modules has a dict
LOOPS that maps names to addresses of C functions. A module is imported when a kernel first looks up one of its loops.
"""

import importlib

import numpy as np

from libc.stdint cimport uintptr_t

CACHE_LINE = 64


cdef class Build:
    """The compiled loops of one build and their sizes.

    Attributes:
        name: "avx512", "avx2", "generic" or "float64".
        dtype: of the arithmetic, float32 or float64.

    Raises:
        ModuleNotFoundError: the build is not installed.
    """

    def __init__(self, str name):
        sizes = importlib.import_module(f"cconv.kernels.{name}.build_loops").SIZES
        self.name = name
        self.itemsize = sizes["itemsize"]
        self.dtype = np.dtype(f"f{self.itemsize}")
        self.lanes = sizes["lanes"]
        self.tile_rows = sizes["tile_rows"]
        self.tile_columns = sizes["tile_columns"]
        self.line = CACHE_LINE // self.itemsize
        self.tables = {}

    def __repr__(self):
        return f"Build({self.name!r})"

    def __reduce__(self):
        return Build, (self.name,)

    def table(self, str module, str table="LOOPS"):
        """The dict `table` of a module of loops. LOOPS maps names to addresses; some modules have further dicts."""
        key = module, table
        if key not in self.tables:
            self.tables[key] = getattr(importlib.import_module(f"cconv.kernels.{self.name}.{module}_loops"), table)
        return self.tables[key]

    cdef chunk_loop loop(self, str module, str name) except NULL:
        """The address of a compiled loop, for example loop("pool", "max_pool")."""
        return <chunk_loop>self.address(module, "LOOPS", name)

    cdef void* address(self, str module, str table, str name) except NULL:
        """The address that a table of a module of loops holds for a name."""
        return <void*><uintptr_t>self.table(module, table)[name]

    cdef int block_vectors(self, Py_ssize_t columns) noexcept nogil:
        """Number of vectors per row of a packed block of this many columns: 1 or 2, as in tile.h."""
        return 1 if columns <= self.lanes else 2

    cdef Py_ssize_t packed_columns(self, Py_ssize_t columns) noexcept nogil:
        """Number of columns after packing into blocks: the last block is padded to whole vectors."""
        cdef Py_ssize_t rest = columns % self.tile_columns
        return columns - rest + (self.block_vectors(rest) * self.lanes if rest else 0)

    cdef Py_ssize_t odd_lines(self, Py_ssize_t n) noexcept nogil:
        """Round n elements up to an odd number of cache lines, which avoids cache set conflicts; see simd.h."""
        return ((n + self.line - 1) // self.line | 1) * self.line
