"""Sums, products and extremes over any set of axes: reductions, gradients of broadcasting and of biases.

Axes are merged. What is left is, from slow to fast in memory, a few kept axes, a few summed axes, and a `column` axis: a
kept, contiguous one, or one of size 1 if the fastest axis is a summed one. A row is a vector along the column axis. A chunk
adds a segment of rows to one row of totals, which stays in L1, so the input streams through once. (With another operation
than the sum it is the same.) If rows have few columns and lie end to end, `fold` of them are taken at a time, as if they
were one row of whole vectors, and the totals are folded at the end.

Parallel over kept axes, blocks of columns and segments of rows, all cut by the shape. Each segment writes its partial sums
to a place of its own, and a second pass adds these in their order.

Numerics. A segment of at most 32768 elements is summed in float32, four rows pairwise and then in order: at most ROWS / 4
additions and the fold after one another. A double adds the segments' partial sums. So the error is that of short sums,
whatever the size: about 130 roundings, against N in a plain loop.
"""

from math import gcd

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.loop cimport chunk_loop
from cconv.kernels.core.step cimport CHUNK, OK, Step, per_chunk
from cconv.kernels.reduce.reduce cimport COLUMNS, MAX_AXES, ROWS, reduce_arguments

from cconv.kernels.core.axes import merge_axes


cdef class Reduce(Step):
    """target[kept axes] = sum of source over the other axes, or another operation of reduce.h.

    The largest and the smallest are NaN where one of the elements is. Of no elements the sum is 0, the product 1, and
    the extremes are infinite.

    Args:
        build: whose loops run.
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
    cdef reduce_arguments sizes
    cdef chunk_loop combine

    def __init__(self, Build build, str kind, shape, source_strides, target_strides):
        cdef reduce_arguments* s = &self.sizes
        self.operands = 3
        self.arguments = s
        self.loop, self.combine = build.loop("reduce", "add_segments"), build.loop("reduce", "combine")
        kinds = build.table("reduce", "KINDS")
        if kind not in kinds:
            raise ValueError(f"no reduction {kind!r}; there are {', '.join(kinds)}")
        s.operation = kinds[kind]
        axes = merge_axes(shape, source_strides, target_strides, order_of=0)
        size = 1
        for n, stride, _ in reversed(axes):
            if stride != size and 0 not in shape:
                raise ValueError(f"Reduce: the source must be dense; found strides {source_strides} for {shape}")
            size *= n
        if len(axes) > MAX_AXES:
            raise ValueError(f"Reduce: at most {MAX_AXES} axes that do not merge; found {len(axes)}")

        s.columns, s.column_target = 1, 1
        if axes and axes[-1][2] != 0:
            s.columns, _, s.column_target = axes.pop()
        kept = [axis for axis in axes if axis[2] != 0]
        summed = [axis for axis in axes if axis[2] == 0]
        s.rows, s.row_stride = 1, 1
        if summed:
            s.rows, s.row_stride, _ = summed.pop()
        s.kept_axes, s.kept = len(kept), 1
        for i, (n, source, target) in enumerate(kept):
            s.kept_size[i], s.kept_source[i], s.kept_target[i] = n, source, target
            s.kept *= n
        s.summed_axes, s.all_rows = len(summed), s.rows
        for i, (n, source, _) in enumerate(summed):
            s.summed_size[i], s.summed_source[i] = n, source
            s.all_rows *= n

        width = max(1, min(s.columns, COLUMNS))
        s.column_blocks = ceil_div(s.columns, COLUMNS)
        s.fold = 1
        if s.columns < 16 * build.lanes and s.row_stride == s.columns:
            fold = build.lanes // gcd(width, build.lanes)
            fold *= -(-4 * build.lanes // (fold * width))
            s.fold = max(1, min(fold, s.rows))
        s.segment = max(1, min(CHUNK // width, ROWS * s.fold))
        s.segments = max(1, ceil_div(s.all_rows, s.segment))
        s.jobs = s.kept * s.column_blocks * s.segments
        s.per_chunk = per_chunk(width * max(<Py_ssize_t>1, min(s.segment, s.all_rows)))
        self.partials = s.segments * s.kept * s.columns if s.segments > 1 else 0
        self.scratch_bytes = (max(width * sizeof(double), s.fold * width * build.itemsize) + 63) // 64 * 64
        self.chunks = ceil_div(s.jobs, s.per_chunk)

    cdef int run(self) noexcept nogil:
        self.run_chunks(self.loop, self.chunks)
        if self.sizes.segments > 1:
            self.run_chunks(self.combine, self.sizes.kept * self.sizes.column_blocks)
        return OK
