"""Padding in any mode, and its gradient.

Along an axis a mode is a table. For each place of the padded axis it holds the place of the source that is shown
there, or -1 for the constant. The forward pass gathers through the tables. The backward pass inverts them: a place of
the source gets the sum, in order, of all places that show it. In both directions a chunk writes its own rows, and the
order of the sums does not depend on the number of threads.

Most of a table is one run of neighbours. Along the fastest axis this run is copied or added as a whole.

Parallel over blocks of rows. A row is all places along the fastest axis.
"""

import numpy as np

from libc.string cimport memcpy

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport Step, per_chunk
from cconv.kernels.move.pad cimport MAX_AXES, pad_arguments

from cconv.kernels.core.axes import dense_strides


def longest_run(table):
    """(first, end) of the longest run of neighbours t, t + 1, ... in a table of places."""
    table = np.asarray(table, dtype=np.intp)
    if not np.any(table >= 0):
        return 0, 0
    breaks = np.flatnonzero((np.diff(table) != 1) | (table[1:] < 0) | (table[:-1] < 0)) + 1
    edges = np.concatenate([[0], breaks, [len(table)]])
    lengths = np.where(table[edges[:-1]] >= 0, np.diff(edges), 0)
    best = int(np.argmax(lengths))
    return int(edges[best]), int(edges[best] + lengths[best])


cdef class Tabled(Step):
    """Base of both directions: the table of the fastest axis, and the cut into rows.

    Raises:
        ValueError: no axis or more than 8, not one table per axis, or a table that names a place outside its axis.
    """

    cdef pad_arguments sizes

    cdef int plan(self, sizes, tables) except -1:
        if not 1 <= len(sizes) <= MAX_AXES or len(tables) != len(sizes):
            raise ValueError(f"{type(self).__name__}: 1 to {MAX_AXES} axes, a table each; found {sizes}")
        for n, table in zip(sizes, tables):
            if any(not -1 <= place < n for place in table):
                raise ValueError(f"{type(self).__name__}: a table names places of an axis of {n}: {table}")
        self.operands = 2
        cdef pad_arguments* s = &self.sizes
        self.arguments = s
        s.table = self.longs(tables[-1])
        s.run_first, s.run_end = longest_run(tables[-1])
        s.source_columns, s.columns = sizes[-1], len(tables[-1])
        s.outer = len(sizes) - 1
        return 0

    cdef int cut(self, written, read) except -1:
        """Lay out the rows.

        Args:
            written, read: sizes of the array that is written and of the array that is read.
        """
        cdef pad_arguments* s = &self.sizes
        strides = dense_strides(read)
        s.rows = 1 if written[-1] else 0
        for axis in range(s.outer):
            s.sizes[axis], s.strides[axis] = written[axis], strides[axis]
            s.rows *= s.sizes[axis]
        s.per_chunk = per_chunk(written[-1])
        self.chunks = ceil_div(s.rows, s.per_chunk)
        return 0


cdef class Pad(Tabled):
    """y[i, j, ...] = x[tables[0][i], tables[1][j], ...], or `value` where a table says -1.

    Args:
        build: whose loops run.
        sizes: of x, in the order of its memory, slowest first.
        tables: for each of these axes the place in x of each place in y.
        value: the constant, as the bytes of one element: 1, 2, 4 or 8.

    Operands: x, y. Both are dense, with their axes in the same order.

    Raises:
        ValueError: another number of bytes, or what Tabled refuses.
    """

    def __init__(self, Build build, sizes, tables, bytes value):
        self.plan(sizes, tables)
        if len(value) not in (1, 2, 4, 8):
            raise ValueError(f"Pad: an element has 1, 2, 4 or 8 bytes; found {len(value)}")
        self.loop = build.loop("pad", "pad")
        self.sizes.itemsize = len(value)
        memcpy(self.sizes.value, <const char*>value, len(value))
        for axis in range(self.sizes.outer):
            self.sizes.entries[axis] = self.longs(tables[axis])
        self.cut([len(table) for table in tables], sizes)


cdef class PadGradient(Tabled):
    """dx[s] = the sum of dy over the places that show s; 0 if none does.

    Args:
        build: whose loops run.
        sizes, tables: as for Pad.

    Operands: dy, dx. Both are dense, with their axes in the same order.

    Raises:
        ValueError: what Tabled refuses.
    """

    def __init__(self, Build build, sizes, tables):
        self.plan(sizes, tables)
        self.loop = build.loop("pad", "pad_gradient")
        for axis in range(self.sizes.outer):
            table = np.asarray(tables[axis], dtype=np.intp)
            shown = np.flatnonzero(table >= 0)
            counts = np.bincount(table[shown], minlength=sizes[axis])
            self.sizes.entries[axis] = self.longs(shown[np.argsort(table[shown], kind="stable")])
            self.sizes.bounds[axis] = self.longs([0, *np.cumsum(counts)])
        self.cut(sizes, [len(table) for table in tables])
