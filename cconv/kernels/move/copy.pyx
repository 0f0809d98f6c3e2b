"""Copying with strides: layout changes, Transpose, Concat, slices.

A copy between two orders of axes is a batch of 2-D transpositions. The column axis is the fastest axis of the target,
the row axis is the fastest axis of the source, and the copy loops over all other axes. A transposition copies tile by
tile, so that each cache line of source and target is used whole while it is in L1.

Parallel over the other axes times blocks of rows and columns. Each chunk writes its own elements.
"""

from libc.string cimport memcpy

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport CHUNK, Step, per_chunk
from cconv.kernels.move.copy cimport MAX_AXES, TILE, copy_arguments, fill_arguments

from cconv.kernels.core.axes import merge_axes


cdef class Copy(Step):
    """target[i, j, ...] = source[i, j, ...] for two arrays of the same shape, each with its own strides.

    Args:
        build: whose loops run.
        shape: sizes of the axes.
        source_strides, target_strides: elements between neighbours along each axis.
        itemsize: bytes of an element: 1, 2, 4 or 8.
        source_offset, target_offset: elements before the first one.

    Operands: source, target. They must not overlap.

    Raises:
        ValueError: more than 8 axes that do not merge, or another item size.
    """

    cdef copy_arguments sizes

    def __init__(self, Build build, shape, source_strides, target_strides, int itemsize=4, Py_ssize_t source_offset=0,
                 Py_ssize_t target_offset=0):
        if itemsize not in (1, 2, 4, 8):
            raise ValueError(f"Copy: an element has 1, 2, 4 or 8 bytes; found {itemsize}")
        axes = merge_axes(shape, source_strides, target_strides, order_of=1) or [(1, 1, 1)]
        if len(axes) > MAX_AXES:
            raise ValueError(f"Copy: at most {MAX_AXES} axes that do not merge; found {len(axes)}")
        self.operands = 2
        self.loop = build.loop("copy", "copy")
        cdef copy_arguments* s = &self.sizes
        self.arguments = s
        s.itemsize = itemsize
        s.source_offset, s.target_offset = source_offset, target_offset
        s.columns, s.source_column, s.target_column = axes.pop()
        s.rows, s.source_row, s.target_row = 1, 0, 0
        if s.source_column != 1 and axes:
            fastest = min(axes, key=lambda axis: abs(axis[1]))
            axes.remove(fastest)
            s.rows, s.source_row, s.target_row = fastest
        s.outer = len(axes)
        for i, axis in enumerate(axes):
            s.size[i], s.source_stride[i], s.target_stride[i] = axis
        s.column_block = max(2 * TILE, CHUNK // max(s.rows, 1) // TILE * TILE)
        s.column_blocks = ceil_div(s.columns, s.column_block)
        s.column_block = min(s.column_block, max(1, s.columns))
        s.row_block = max(2 * TILE, CHUNK // s.column_block // TILE * TILE)
        s.row_blocks = ceil_div(s.rows, s.row_block)
        s.jobs = s.row_blocks * s.column_blocks
        for n, _, _ in axes:
            s.jobs *= n
        s.per_chunk = per_chunk(min(s.rows, s.row_block) * s.column_block)
        self.chunks = ceil_div(s.jobs, s.per_chunk)


cdef class Fill(Step):
    """Every element of y is `value`.

    Args:
        build: whose loops run.
        size: elements of y.
        value: the bytes of one element: 1, 2, 4 or 8.

    Operands: y (size,).

    Raises:
        ValueError: another number of bytes.
    """

    cdef fill_arguments sizes

    def __init__(self, Build build, Py_ssize_t size, bytes value):
        if len(value) not in (1, 2, 4, 8):
            raise ValueError(f"Fill: an element has 1, 2, 4 or 8 bytes; found {len(value)}")
        self.operands = 1
        self.loop = build.loop("copy", "fill")
        self.arguments = &self.sizes
        self.sizes.size = size
        self.sizes.itemsize = len(value)
        memcpy(self.sizes.value, <const char*>value, len(value))
        self.chunks = ceil_div(size, CHUNK)
