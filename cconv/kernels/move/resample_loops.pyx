"""The loop of resampling; resample.pyx describes the tables that it walks."""

from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memset

from cconv.kernels.core.simd cimport VL, real, vf, vload, vload_n, vset, vstore, vstore_n, vzero
from cconv.kernels.move.resample cimport resample_arguments, resample_table


cdef void combine(const real* x, Py_ssize_t stride, const resample_table* table, Py_ssize_t place, real* y,
                  Py_ssize_t n) noexcept nogil:
    """y[c] = sum over the taps of `place` of weight * x[index * stride + c], for c in 0..n-1."""
    cdef Py_ssize_t begin = table.bounds[place], taps = table.bounds[place + 1] - begin, v, c, k
    cdef const Py_ssize_t* index = table.index + begin
    cdef const real* weight = <const real*>table.weight + begin
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


cdef void resample(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const resample_arguments* s = <const resample_arguments*>arguments
    cdef const resample_table* row_table = &s.row_table
    cdef const resample_table* column_table = &s.column_table
    cdef Py_ssize_t inner = s.inner, source_row = s.columns * inner, target_row = s.target_columns * inner
    cdef Py_ssize_t columns = s.target_columns, job, row, column, begin
    cdef const real* x
    cdef real* y
    for job in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.jobs)):
        x = <const real*>operand[0] + job // s.target_rows * s.rows * source_row
        y = <real*>operand[1] + job * target_row
        row = job % s.target_rows
        if column_table.bounds == NULL:
            if row_table.bounds != NULL:
                combine(x, source_row, row_table, row, y, source_row)
            else:
                memcpy(y, x + row * source_row, source_row * sizeof(real))
            continue
        if row_table.bounds == NULL:
            x += row * source_row
        else:
            begin = row_table.bounds[row]
            if row_table.bounds[row + 1] == begin + 1 and (<const real*>row_table.weight)[begin] == 1:
                x += row_table.index[begin] * source_row
            else:
                combine(x, source_row, row_table, row, <real*>scratch, source_row)
                x = <const real*>scratch
        for column in range(columns):
            combine(x, inner, column_table, column, y + column * inner, inner)


LOOPS = {"resample": <uintptr_t>resample}
