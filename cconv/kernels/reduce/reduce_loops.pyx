"""Loops of reductions; reduce.pyx describes how they are cut. Operations: reduce.h."""

from libc.stdint cimport uintptr_t

from cconv.kernels.core.simd cimport real
from cconv.kernels.reduce.reduce cimport COLUMNS, reduce_arguments

cdef extern from "reduce.h" nogil:
    ctypedef void (*rows_loop)(
        const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n, real* total) noexcept nogil
    ctypedef void (*fold_loop)(real* total, Py_ssize_t times, Py_ssize_t n) noexcept nogil
    ctypedef void (*combine_loop)(const real* x, Py_ssize_t n, double* total) noexcept nogil
    ctypedef struct reduction_row:
        const char* name
        double neutral
        rows_loop rows
        fold_loop fold
        combine_loop combine
    const reduction_row reduction_rows[1]
    const int reduction_count


cdef void add_segments(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const reduce_arguments* s = <const reduce_arguments*>arguments
    cdef Py_ssize_t job
    for job in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.jobs)):
        add_segment(s, operand, job // (s.segments * s.column_blocks), job // s.segments % s.column_blocks,
                    job % s.segments, <real*>scratch)


cdef void add_segment(const reduce_arguments* s, char** operand, Py_ssize_t kept, Py_ssize_t block, Py_ssize_t segment,
                      real* total) noexcept nogil:
    """Reduce a segment of rows for a block of columns into the partial sums, or straight into the target."""
    cdef const reduction_row* operation = &reduction_rows[s.operation]
    cdef Py_ssize_t column = block * COLUMNS, columns = min(<Py_ssize_t>COLUMNS, s.columns - column)
    cdef Py_ssize_t wide = s.fold * columns
    cdef Py_ssize_t row = segment * s.segment, end = min(row + s.segment, s.all_rows)
    cdef Py_ssize_t source = column, target = column * s.column_target
    cdef Py_ssize_t rest = kept, step = s.column_target, n, f, c, axis
    cdef const real* x
    cdef real* y
    for axis in range(s.kept_axes - 1, -1, -1):
        source += rest % s.kept_size[axis] * s.kept_source[axis]
        target += rest % s.kept_size[axis] * s.kept_target[axis]
        rest //= s.kept_size[axis]

    for c in range(wide):
        total[c] = <real>operation.neutral
    while row < end:   # the rows of one run of the fastest summed axis at a time
        rest = row // s.rows
        x = <const real*>operand[0] + source + row % s.rows * s.row_stride
        for axis in range(s.summed_axes - 1, -1, -1):
            x += rest % s.summed_size[axis] * s.summed_source[axis]
            rest //= s.summed_size[axis]
        n = min(s.rows - row % s.rows, end - row)
        f = n // s.fold
        operation.rows(x, s.fold * s.row_stride, f, wide, total)
        f *= s.fold
        if f < n:   # only where rows are folded, so they lie end to end
            operation.rows(x + f * s.row_stride, 0, 1, (n - f) * columns, total)
        row += n
    operation.fold(total, s.fold, columns)

    if s.segments > 1:
        y = <real*>operand[2] + (segment * s.kept + kept) * s.columns + column
        step = 1
    else:
        y = <real*>operand[1] + target
    for c in range(columns):
        y[c * step] = total[c]

cdef void combine(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """Combine the partial sums of one block of columns in the order of the segments."""
    cdef const reduce_arguments* s = <const reduce_arguments*>arguments
    cdef const reduction_row* operation = &reduction_rows[s.operation]
    cdef Py_ssize_t kept = i // s.column_blocks, block = i % s.column_blocks
    cdef double* total = <double*>scratch
    cdef Py_ssize_t column = block * COLUMNS, columns = min(<Py_ssize_t>COLUMNS, s.columns - column)
    cdef Py_ssize_t target = column * s.column_target, rest = kept, segment, c, axis
    cdef const real* partial = <const real*>operand[2] + kept * s.columns + column
    cdef real* y
    for axis in range(s.kept_axes - 1, -1, -1):
        target += rest % s.kept_size[axis] * s.kept_target[axis]
        rest //= s.kept_size[axis]
    for c in range(columns):
        total[c] = operation.neutral
    for segment in range(s.segments):
        operation.combine(partial, columns, total)
        partial += s.kept * s.columns
    y = <real*>operand[1] + target
    for c in range(columns):
        y[c * s.column_target] = <real>total[c]


LOOPS = {"add_segments": <uintptr_t>add_segments, "combine": <uintptr_t>combine}
# Name of an operation: its row of the table.
KINDS = {reduction_rows[i].name.decode(): i for i in range(reduction_count)}
