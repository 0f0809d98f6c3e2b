"""Resampling: every place along an axis is a weighted sum of places of another array. Resize and its gradient.

Which places and weights is a table per axis, made with the plan: linear, cubic, nearest and antialiased interpolation
differ in their tables alone, and the gradient is the same with the table turned round.

Two axes at a time: a row of the target is first the weighted sum of rows of the source, in a buffer of the thread that
stays in the cache, then each of its pixels a weighted sum of pixels of that. So what lies between the two never goes
through memory. Parallel over rows of the target; every chunk writes rows of its own.
"""

import numpy as np

from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memset

from cconv.kernels.core.simd cimport VL, real, vf, vload, vload_n, vset, vstore, vstore_n, vzero
from cconv.kernels.core.step cimport OK, Step

CHUNK = 32768


cdef struct Table:
    Py_ssize_t size         # places of the target
    Py_ssize_t* bounds      # where each one's taps begin, and the end
    Py_ssize_t* index       # for each tap the place in the source
    real* weight


cdef void combine(const real* x, Py_ssize_t stride, const Table* table, Py_ssize_t place, real* y,
                  Py_ssize_t n) noexcept nogil:
    """y[c] = sum over the taps of `place` of weight * x[index * stride + c], for c in 0..n-1."""
    cdef Py_ssize_t begin = table.bounds[place], taps = table.bounds[place + 1] - begin, v, c, k
    cdef const Py_ssize_t* index = table.index + begin
    cdef const real* weight = table.weight + begin
    cdef const real* a
    cdef const real* b
    cdef vf wa, wb, total
    if taps == 0:
        memset(y, 0, n * sizeof(real))
    elif taps == 1 and weight[0] == 1:
        memcpy(y, x + index[0] * stride, n * sizeof(real))
    elif taps == 2:
        a, b = x + index[0] * stride, x + index[1] * stride
        wa, wb = vset(weight[0]), vset(weight[1])
        for v in range(n // VL):
            c = v * VL
            vstore(y + c, wa * vload(a + c) + wb * vload(b + c))
        c = n - n % VL
        if c < n:
            vstore_n(y + c, wa * vload_n(a + c, n - c) + wb * vload_n(b + c, n - c), n - c)
    else:
        for v in range(n // VL):
            c = v * VL
            total = vzero()
            for k in range(taps):
                total = total + vset(weight[k]) * vload(x + index[k] * stride + c)
            vstore(y + c, total)
        c = n - n % VL
        if c < n:
            total = vzero()
            for k in range(taps):
                total = total + vset(weight[k]) * vload_n(x + index[k] * stride + c, n - c)
            vstore_n(y + c, total, n - c)


cdef class Resample(Step):
    """y[o, i, j, c] = sum over the taps (h, a) of i and (w, b) of j of a * b * x[o, h, w, c].

    Args:
        outer: size of the axes before the rows.
        rows, columns: sizes of the two axes in x.
        row_table, column_table: for each place of y's axis its taps: (bounds, index, weight), of which those from
            bounds[i] to bounds[i + 1] are place i's. None: the axis stays as it is.
        inner: size of the axes after the columns.

    Operands: x (outer, rows, columns, inner), y likewise with y's rows and columns.

    Raises:
        ValueError: a table that names places the axis has not.
    """

    cdef Py_ssize_t outer, rows, columns, inner, target_rows, target_columns, per_chunk
    cdef Table row_table, column_table
    cdef bint row_tabled, column_tabled

    def __init__(self, Py_ssize_t outer, Py_ssize_t rows, row_table, Py_ssize_t columns, column_table,
                 Py_ssize_t inner):
        self.operands = 2
        self.held = []
        self.outer, self.rows, self.columns, self.inner = outer, rows, columns, inner
        self.row_tabled, self.column_tabled = row_table is not None, column_table is not None
        self.target_rows, self.target_columns = rows, columns
        if self.row_tabled:
            self.row_table = self.table(row_table, rows)
            self.target_rows = self.row_table.size
        if self.column_tabled:
            self.column_table = self.table(column_table, columns)
            self.target_columns = self.column_table.size
        if self.row_tabled and self.column_tabled:
            self.scratch_bytes = (columns * inner * sizeof(real) + 63) // 64 * 64
        self.per_chunk = max(1, CHUNK // max(1, self.target_columns * inner))

    cdef Table table(self, arrays, Py_ssize_t size) except *:
        cdef Table result
        bounds, index = (np.ascontiguousarray(array, dtype=np.intp) for array in arrays[:2])
        weight = np.ascontiguousarray(arrays[2], dtype=np.float32 if sizeof(real) == 4 else np.float64)
        if (len(bounds) == 0 or bounds[0] != 0 or np.any(np.diff(bounds) < 0)
                or not bounds[-1] == len(index) == len(weight)):
            raise ValueError("Resample: bounds grow from 0 to the number of taps, each with a place and a weight")
        if np.any((index < 0) | (index >= size)):
            raise ValueError(f"Resample: a table names places of an axis of {size}: {index}")
        self.held += [bounds, index, weight]
        result.size = len(bounds) - 1
        result.bounds = <Py_ssize_t*><uintptr_t>bounds.ctypes.data
        result.index = <Py_ssize_t*><uintptr_t>index.ctypes.data
        result.weight = <real*><uintptr_t>weight.ctypes.data
        return result

    cdef int run(self) noexcept nogil:
        cdef Py_ssize_t jobs = self.outer * self.target_rows
        if self.target_columns > 0 and self.inner > 0:
            self.parallel(0, (jobs + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t wide = self.columns * self.inner, long = self.target_columns * self.inner, job, row
        cdef Py_ssize_t begin
        cdef const real* x
        cdef real* y
        for job in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.outer * self.target_rows)):
            x = <const real*>self.operand[0] + job // self.target_rows * self.rows * wide
            y = <real*>self.operand[1] + job * long
            row = job % self.target_rows
            if not self.column_tabled:
                if self.row_tabled:
                    combine(x, wide, &self.row_table, row, y, wide)
                else:
                    memcpy(y, x + row * wide, wide * sizeof(real))
                continue
            if self.row_tabled:
                begin = self.row_table.bounds[row]
                if self.row_table.bounds[row + 1] == begin + 1 and self.row_table.weight[begin] == 1:
                    x += self.row_table.index[begin] * wide
                else:
                    combine(x, wide, &self.row_table, row, <real*>self.scratch_of(thread), wide)
                    x = <const real*>self.scratch_of(thread)
            else:
                x += row * wide
            for begin in range(self.target_columns):
                combine(x, self.inner, &self.column_table, begin, y + begin * self.inner, self.inner)
