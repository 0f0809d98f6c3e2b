"""Padding and its gradient, any mode.

What a mode does along an axis is a table: for each place of the padded axis the place of the source it shows,
or -1 for the constant. Forward gathers through the tables. Backward turns them round: a place of the source
gets the sum, in order, of all places that show it. So a chunk writes rows of its own in both directions, and
the order of the sums does not depend on the threads.

Along the fastest axis most of a table is a run of neighbours, which is copied or added as such.
Parallel over blocks of rows, a row being all places along the fastest axis.
"""

import numpy as np

from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport OK, Step

ctypedef fused item:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

cdef enum:
    MAX_AXES = 8

CHUNK = 32768


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


def dense_strides(sizes):
    """Elements between neighbours along each axis of a dense array, slowest axis first."""
    strides, step = [], 1
    for n in reversed(sizes):
        strides.append(step)
        step *= n
    return strides[::-1]


cdef class Tabled(Step):
    """What both directions share: the tables, the run along the fastest axis, the cut into rows.

    Raises:
        ValueError: more than 8 axes, or a table that names a place the axis has not.
    """

    cdef Py_ssize_t[::1] table              # of the fastest axis
    cdef Py_ssize_t run_first, run_end
    cdef Py_ssize_t[::1] entries            # of the other axes, end to end
    cdef Py_ssize_t start[MAX_AXES]         # where each one's begin
    cdef Py_ssize_t sizes[MAX_AXES]         # of the other axes, on the side that is written
    cdef Py_ssize_t strides[MAX_AXES]       # of the other axes, on the side that is read
    cdef int outer
    cdef Py_ssize_t source_columns, columns, rows, per_chunk

    def __init__(self, sizes, tables):
        if not 1 <= len(sizes) <= MAX_AXES or len(tables) != len(sizes):
            raise ValueError(f"{type(self).__name__}: 1 to {MAX_AXES} axes, a table each; found {sizes}")
        for n, table in zip(sizes, tables):
            if any(not -1 <= place < n for place in table):
                raise ValueError(f"{type(self).__name__}: a table names places of an axis of {n}: {table}")
        self.operands = 2
        self.outer = len(sizes) - 1
        self.table = np.array(tables[-1], dtype=np.intp)
        self.run_first, self.run_end = longest_run(tables[-1])
        self.source_columns, self.columns = sizes[-1], len(tables[-1])

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.rows + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t row
        for row in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.rows)):
            self.row(row)

    cdef void row(self, Py_ssize_t row) noexcept nogil:
        """Write one row."""
        pass


cdef class Pad(Tabled):
    """y[i, j, ...] = x[tables[0][i], tables[1][j], ...], or `value` where a table says -1.

    Args:
        sizes: x's, in the order of its memory, slowest first.
        tables: for each of these axes, the place in x for each place in y.
        value: the constant, as the bytes of one element (1, 2, 4 or 8).

    Operands: x, y; both dense in the same order.
    """

    cdef char value[8]
    cdef int itemsize

    def __init__(self, sizes, tables, bytes value):
        super().__init__(sizes, tables)
        if len(value) not in (1, 2, 4, 8):
            raise ValueError(f"Pad: an element has 1, 2, 4 or 8 bytes; found {len(value)}")
        self.itemsize = len(value)
        memcpy(self.value, <const char*>value, len(value))
        self.entries = np.concatenate([np.zeros(0, np.intp), *tables[:-1]]).astype(np.intp)
        strides, start, self.rows = dense_strides(sizes), 0, 1 if self.columns else 0
        for axis in range(self.outer):
            self.start[axis], self.sizes[axis], self.strides[axis] = start, len(tables[axis]), strides[axis]
            start += len(tables[axis])
            self.rows *= len(tables[axis])
        self.per_chunk = max(1, CHUNK // max(1, self.columns))

    cdef void row(self, Py_ssize_t row) noexcept nogil:
        cdef Py_ssize_t rest = row, source = 0, place
        cdef int axis
        for axis in range(self.outer - 1, -1, -1):
            place = self.entries[self.start[axis] + rest % self.sizes[axis]]
            rest //= self.sizes[axis]
            if place < 0:
                source = -1
                break
            source += place * self.strides[axis]
        if self.itemsize == 4:
            self.gather(<uint32_t*>self.operand[0], <uint32_t*>self.operand[1] + row * self.columns, source)
        elif self.itemsize == 8:
            self.gather(<uint64_t*>self.operand[0], <uint64_t*>self.operand[1] + row * self.columns, source)
        elif self.itemsize == 1:
            self.gather(<uint8_t*>self.operand[0], <uint8_t*>self.operand[1] + row * self.columns, source)
        else:
            self.gather(<uint16_t*>self.operand[0], <uint16_t*>self.operand[1] + row * self.columns, source)

    cdef void gather(self, const item* x, item* y, Py_ssize_t source) noexcept nogil:
        """Write y's row from x's row that starts at `source`, or from the value alone where that is -1."""
        cdef Py_ssize_t i
        cdef item value
        memcpy(&value, self.value, sizeof(item))
        if source < 0:
            for i in range(self.columns):
                y[i] = value
            return
        x += source
        for i in range(self.run_first):
            y[i] = x[self.table[i]] if self.table[i] >= 0 else value
        if self.run_first < self.run_end:
            memcpy(y + self.run_first, x + self.table[self.run_first],
                   (self.run_end - self.run_first) * sizeof(item))
        for i in range(self.run_end, self.columns):
            y[i] = x[self.table[i]] if self.table[i] >= 0 else value


cdef class PadGradient(Tabled):
    """dx[s] = sum of dy over the places that show s; 0 where none does. Arguments as Pad's.

    Operands: dy, dx; both dense in the same order.
    """

    cdef Py_ssize_t[::1] bounds             # for each place s of each other axis: where its entries begin

    def __init__(self, sizes, tables):
        super().__init__(sizes, tables)
        strides = dense_strides([len(table) for table in tables])
        entries, bounds, self.rows = [], [], 1 if self.source_columns else 0
        for axis in range(self.outer):
            table = np.asarray(tables[axis], dtype=np.intp)
            shown = np.flatnonzero(table >= 0)
            order = shown[np.argsort(table[shown], kind="stable")]
            counts = np.bincount(table[shown], minlength=sizes[axis])
            self.start[axis], self.sizes[axis], self.strides[axis] = len(bounds), sizes[axis], strides[axis]
            bounds += [len(entries), *(len(entries) + np.cumsum(counts))]
            entries += list(order)
            self.rows *= sizes[axis]
        self.entries = np.array(entries, dtype=np.intp)
        self.bounds = np.array(bounds, dtype=np.intp)
        self.per_chunk = max(1, CHUNK // max(1, self.source_columns))

    cdef void row(self, Py_ssize_t row) noexcept nogil:
        cdef Py_ssize_t first[MAX_AXES]
        cdef Py_ssize_t end[MAX_AXES]
        cdef Py_ssize_t at[MAX_AXES]
        cdef Py_ssize_t rest = row, k, offset
        cdef int axis
        cdef real* dx = <real*>self.operand[1] + row * self.source_columns
        memset(dx, 0, self.source_columns * sizeof(real))
        for axis in range(self.outer - 1, -1, -1):
            k = self.start[axis] + rest % self.sizes[axis]
            rest //= self.sizes[axis]
            first[axis], end[axis] = self.bounds[k], self.bounds[k + 1]
            at[axis] = first[axis]
            if first[axis] == end[axis]:
                return
        while True:
            offset = 0
            for axis in range(self.outer):
                offset += self.entries[at[axis]] * self.strides[axis]
            self.scatter(<real*>self.operand[0] + offset, dx)
            axis = self.outer - 1
            while axis >= 0:
                at[axis] += 1
                if at[axis] < end[axis]:
                    break
                at[axis] = first[axis]
                axis -= 1
            if axis < 0:
                return

    cdef void scatter(self, const real* dy, real* dx) noexcept nogil:
        """Add a row of dy to the places it shows."""
        cdef Py_ssize_t i
        cdef real* target
        for i in range(self.run_first):
            if self.table[i] >= 0:
                dx[self.table[i]] += dy[i]
        if self.run_first < self.run_end:
            target = dx + self.table[self.run_first]
            dy += self.run_first
            for i in range(self.run_end - self.run_first):
                target[i] += dy[i]
            dy -= self.run_first
        for i in range(self.run_end, self.columns):
            if self.table[i] >= 0:
                dx[self.table[i]] += dy[i]
