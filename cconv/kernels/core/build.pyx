"""Build: the loops compiled for one instruction set and dtype, and the sizes they were compiled with.

A kernel's class is compiled once. Its constructor takes a Build, lays out its chunks and scratch memory by the build's
sizes, and looks up its loops by name. The loops of `cconv/kernels/pool/pool_loops.pyx` are compiled to
`cconv.kernels.avx512.pool_loops`, `cconv.kernels.avx2.pool_loops` and so on. Each such module has a dict LOOPS of
addresses of C functions by name. Modules are imported when the first kernel asks for them.
"""

import importlib

import numpy as np

from libc.stdint cimport uintptr_t

CACHE_LINE = 64


cdef class Build:
    """The loops of one build.

    Attributes:
        name: "avx512", "avx2", "generic" or "float64".
        dtype: of the arithmetic, float32 or float64.

    Raises:
        ModuleNotFoundError: no such build is installed.
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
        """A dict of a module of loops: addresses, or numbers of rows, by name."""
        key = module, table
        if key not in self.tables:
            self.tables[key] = getattr(importlib.import_module(f"cconv.kernels.{self.name}.{module}_loops"), table)
        return self.tables[key]

    cdef chunk_loop loop(self, str module, str name) except NULL:
        """The loop of that name, such as loop("pool", "max_pool")."""
        return <chunk_loop>self.address(module, "LOOPS", name)

    cdef void* address(self, str module, str table, str name) except NULL:
        """The address that a table of a module holds under that name."""
        return <void*><uintptr_t>self.table(module, table)[name]

    cdef int block_vectors(self, Py_ssize_t columns) noexcept nogil:
        """Vectors of a packed block that holds so many columns; see tile.h."""
        return 1 if columns <= self.lanes else 2

    cdef Py_ssize_t packed_columns(self, Py_ssize_t columns) noexcept nogil:
        """Columns of all packed blocks of so many columns together: the last block is padded to whole vectors."""
        cdef Py_ssize_t rest = columns % self.tile_columns
        return columns - rest + (self.block_vectors(rest) * self.lanes if rest else 0)

    cdef Py_ssize_t odd_lines(self, Py_ssize_t n) noexcept nogil:
        """At least n elements, an odd number of cache lines; see simd.h."""
        return ((n + self.line - 1) // self.line | 1) * self.line
