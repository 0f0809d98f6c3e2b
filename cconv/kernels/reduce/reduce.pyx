"""Sums, products and extremes over any set of axes: reductions, gradients of broadcasting and of biases.

The axes are merged until what is left is, from slow to fast in memory, a few kept and summed ones and at last
a `column` axis: kept and contiguous, or of size 1 where the fastest axis is a summed one. The vectors along
it that are added to one another are the rows (with another operation than the sum it is the same); a chunk adds a segment of rows into one row of totals that
stays in L1, so the input streams through once. Rows of few columns that lie end to end are taken `fold` at a
time, as if they were one row of whole vectors, and the totals are folded at the end.

Parallel over kept axes, blocks of columns and segments of rows, all cut by the shape. Segments write partial
sums to places of their own, and a second pass adds these in their order.

Numerics: within a segment of at most 32768 elements float32 sums, four rows pairwise and then in order, at
most ROWS / 4 additions and the fold after one another; across segments a double takes the partial sums. The
error is therefore that of short sums, whatever the size: about 130 roundings, against N in a plain loop.
"""

from math import gcd

from cconv.kernels.core.simd cimport VL, real
from cconv.kernels.core.step cimport OK, Step

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

cdef enum:
    MAX_AXES = 8
    COLUMNS = 1024   # columns of a chunk: the totals take 4 KiB of L1
    ROWS = 512       # rows (or folded rows) of a segment

# Elements that a chunk should at least read.
CHUNK = 32768

# name: row of the table.
KINDS = {reduction_rows[i].name.decode(): i for i in range(reduction_count)}


def merged(shape, source_strides, target_strides):
    """[(size, source, target)], neighbours as one where both sides allow it, slowest in the source first."""
    axes = sorted(
        ((n, s, t) for n, s, t in zip(shape, source_strides, target_strides) if n != 1),
        key=lambda axis: -axis[1],
    )
    result = []
    for n, s, t in axes:
        if result and result[-1][1] == n * s and result[-1][2] == n * t and (t != 0) == (result[-1][2] != 0):
            result[-1] = (result[-1][0] * n, s, t)
        else:
            result.append((n, s, t))
    return result


cdef class Reduce(Step):
    """target[kept axes] = sum of source over the other axes, or another operation of reduce.h.

    The largest and the smallest are NaN where one of the elements is. Of no elements the sum is 0, the product 1, and
    the extremes are infinite.

    Args:
        kind: "sum", "prod", "max" or "min".
        shape: sizes of the source's axes.
        source_strides: elements between neighbours along each axis; the source is dense in some order.
        target_strides: likewise in the target; 0 for an axis that is summed over.

    Attributes:
        partials: reals that the operand `partials` needs; 0: it may be absent.

    Operands: source, target, partials.

    Raises:
        ValueError: another kind, the source is not dense, or more than 8 axes that do not merge.
    """

    cdef readonly Py_ssize_t partials
    cdef Py_ssize_t kept_size[MAX_AXES]
    cdef Py_ssize_t kept_source[MAX_AXES]
    cdef Py_ssize_t kept_target[MAX_AXES]
    cdef Py_ssize_t summed_size[MAX_AXES]
    cdef Py_ssize_t summed_source[MAX_AXES]
    cdef int kept_axes, summed_axes
    cdef Py_ssize_t kept, columns, column_target, column_blocks
    cdef Py_ssize_t rows, row_stride          # the fastest summed axis
    cdef Py_ssize_t all_rows                  # rows along all summed axes
    cdef Py_ssize_t fold, segment, segments, per_chunk, jobs
    cdef reduction_row operation

    def __init__(self, str kind, shape, source_strides, target_strides):
        self.operands = 3
        if kind not in KINDS:
            raise ValueError(f"no reduction {kind!r}; there are {', '.join(KINDS)}")
        self.operation = reduction_rows[KINDS[kind]]
        axes = merged(shape, source_strides, target_strides)
        size = 1
        for n, s, _ in reversed(axes):
            if s != size and 0 not in shape:
                raise ValueError(f"Reduce: the source must be dense; found strides {source_strides} for {shape}")
            size *= n
        if len(axes) > MAX_AXES:
            raise ValueError(f"Reduce: at most {MAX_AXES} axes that do not merge; found {len(axes)}")

        self.columns, self.column_target = 1, 1
        if axes and axes[-1][2] != 0:
            self.columns, _, self.column_target = axes.pop()
        kept = [axis for axis in axes if axis[2] != 0]
        summed = [axis for axis in axes if axis[2] == 0]
        self.rows, self.row_stride = 1, 1
        if summed:
            self.rows, self.row_stride, _ = summed.pop()
        self.kept_axes, self.kept = len(kept), 1
        for i, (n, s, t) in enumerate(kept):
            self.kept_size[i], self.kept_source[i], self.kept_target[i] = n, s, t
            self.kept *= n
        self.summed_axes, self.all_rows = len(summed), self.rows
        for i, (n, s, _) in enumerate(summed):
            self.summed_size[i], self.summed_source[i] = n, s
            self.all_rows *= n

        width = max(1, min(self.columns, COLUMNS))
        self.column_blocks = (self.columns + COLUMNS - 1) // COLUMNS
        self.fold = 1
        if self.columns < 16 * VL and self.row_stride == self.columns:
            fold = VL // gcd(width, VL)
            fold *= -(-4 * VL // (fold * width))
            self.fold = max(1, min(fold, self.rows))
        self.segment = max(1, min(CHUNK // width, ROWS * self.fold))
        self.segments = max(1, (self.all_rows + self.segment - 1) // self.segment)
        self.jobs = self.kept * self.column_blocks * self.segments
        self.per_chunk = max(1, CHUNK // (width * max(1, min(self.segment, self.all_rows))))
        self.partials = self.segments * self.kept * self.columns if self.segments > 1 else 0
        self.scratch_bytes = (max(width * sizeof(double), self.fold * width * sizeof(real)) + 63) // 64 * 64

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.jobs + self.per_chunk - 1) // self.per_chunk)
        if self.segments > 1:
            self.parallel(1, self.kept * self.column_blocks)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t job
        if phase == 1:
            self.combine(i // self.column_blocks, i % self.column_blocks, <double*>self.scratch_of(thread))
            return
        for job in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.jobs)):
            self.add_segment(job // (self.segments * self.column_blocks),
                             job // self.segments % self.column_blocks,
                             job % self.segments, <real*>self.scratch_of(thread))

    cdef void add_segment(
        self, Py_ssize_t kept, Py_ssize_t block, Py_ssize_t segment, real* total) noexcept nogil:
        """Reduce a segment of rows for a block of columns into the partial sums, or straight into the target."""
        cdef Py_ssize_t column = block * COLUMNS, columns = min(COLUMNS, self.columns - column)
        cdef Py_ssize_t wide = self.fold * columns
        cdef Py_ssize_t row = segment * self.segment, end = min(row + self.segment, self.all_rows)
        cdef Py_ssize_t source = column, target = column * self.column_target
        cdef Py_ssize_t rest = kept, step = self.column_target, n, f, c, axis
        cdef const real* x
        cdef real* y
        for axis in range(self.kept_axes - 1, -1, -1):
            source += rest % self.kept_size[axis] * self.kept_source[axis]
            target += rest % self.kept_size[axis] * self.kept_target[axis]
            rest //= self.kept_size[axis]

        for c in range(wide):
            total[c] = <real>self.operation.neutral
        while row < end:   # the rows of one run of the fastest summed axis at a time
            rest = row // self.rows
            x = <const real*>self.operand[0] + source + row % self.rows * self.row_stride
            for axis in range(self.summed_axes - 1, -1, -1):
                x += rest % self.summed_size[axis] * self.summed_source[axis]
                rest //= self.summed_size[axis]
            n = min(self.rows - row % self.rows, end - row)
            f = n // self.fold
            self.operation.rows(x, self.fold * self.row_stride, f, wide, total)
            f *= self.fold
            if f < n:   # only where rows are folded, so they lie end to end
                self.operation.rows(x + f * self.row_stride, 0, 1, (n - f) * columns, total)
            row += n
        self.operation.fold(total, self.fold, columns)

        if self.segments > 1:
            y = <real*>self.operand[2] + (segment * self.kept + kept) * self.columns + column
            step = 1
        else:
            y = <real*>self.operand[1] + target
        for c in range(columns):
            y[c * step] = total[c]

    cdef void combine(self, Py_ssize_t kept, Py_ssize_t block, double* total) noexcept nogil:
        """Combine the partial sums of one block of columns in the order of the segments."""
        cdef Py_ssize_t column = block * COLUMNS, columns = min(COLUMNS, self.columns - column)
        cdef Py_ssize_t target = column * self.column_target, rest = kept, segment, c, axis
        cdef const real* partial = <const real*>self.operand[2] + kept * self.columns + column
        cdef real* y
        for axis in range(self.kept_axes - 1, -1, -1):
            target += rest % self.kept_size[axis] * self.kept_target[axis]
            rest //= self.kept_size[axis]
        for c in range(columns):
            total[c] = self.operation.neutral
        for segment in range(self.segments):
            self.operation.combine(partial, columns, total)
            partial += self.kept * self.columns
        y = <real*>self.operand[1] + target
        for c in range(columns):
            y[c * self.column_target] = <real>total[c]
