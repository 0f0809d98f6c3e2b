"""Resampling for Resize and its gradient: each place along an axis is a weighted sum of places of another array.

A table per axis says which places and weights. It is made with the plan. Linear, cubic, nearest and antialiased
interpolation differ in their tables alone. The gradient uses the transposed table.

One step resamples two axes. For each row of the target it first computes the weighted sum of rows of the source, in a
buffer of the thread that stays in cache. Then each pixel of the target's row is a weighted sum of pixels of the buffer.
So the intermediate array, resampled along rows only, never goes through memory.

Parallel over rows of the target. Each chunk writes its own rows.
"""

import numpy as np

from libc.stdint cimport uintptr_t

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport Step, per_chunk
from cconv.kernels.move.resample cimport resample_arguments, resample_table


cdef class Resample(Step):
    """y[o, i, j, c] = sum over the taps (h, a) of i and (w, b) of j of a * b * x[o, h, w, c].

    Args:
        build: whose loops run.
        outer: size of the axes before the rows.
        rows, columns: sizes of the two axes in x.
        row_table, column_table: (bounds, index, weight), the taps of each place of y's axis. Place i has taps bounds[i]
            to bounds[i + 1] - 1. None: the axis stays as it is.
        inner: size of the axes after the columns.

    Operands: x (outer, rows, columns, inner), y (outer, places of row_table, places of column_table, inner).

    Raises:
        ValueError: bounds that do not match the taps, or a table that names a place outside its axis.
    """

    cdef resample_arguments sizes

    def __init__(self, Build build, Py_ssize_t outer, Py_ssize_t rows, row_table, Py_ssize_t columns, column_table,
                 Py_ssize_t inner):
        self.operands = 2
        self.loop = build.loop("resample", "resample")
        cdef resample_arguments* s = &self.sizes
        self.arguments = s
        s.rows, s.columns, s.inner = rows, columns, inner
        s.target_rows = self.table(build, row_table, rows, &s.row_table)
        s.target_columns = self.table(build, column_table, columns, &s.column_table)
        if row_table is not None and column_table is not None:
            self.scratch_bytes = ceil_div(columns * inner * build.itemsize, 64) * 64
        s.jobs = outer * s.target_rows
        s.per_chunk = per_chunk(s.target_columns * inner)
        if s.target_columns > 0 and inner > 0:
            self.chunks = ceil_div(s.jobs, s.per_chunk)

    cdef Py_ssize_t table(self, Build build, arrays, Py_ssize_t size, resample_table* table) except -1:
        """Fill in the table of an axis of `size` places; returns the number of places that it makes of them."""
        if arrays is None:
            return size
        bounds, index = (np.asarray(array, dtype=np.intp) for array in arrays[:2])
        weight = np.ascontiguousarray(arrays[2], dtype=build.dtype)
        if (len(bounds) == 0 or bounds[0] != 0 or np.any(np.diff(bounds) < 0)
                or not bounds[-1] == len(index) == len(weight)):
            raise ValueError("Resample: bounds grow from 0 to the number of taps, each with a place and a weight")
        if np.any((index < 0) | (index >= size)):
            raise ValueError(f"Resample: a table names places of an axis of {size}: {index}")
        table.bounds, table.index = self.longs(bounds), self.longs(index)
        table.weight = <const void*><uintptr_t>weight.ctypes.data
        self.held.append(weight)
        return len(bounds) - 1
