"""Broadcasting arithmetic: z = x op y where either may have fewer axes, or axes of size 1.

Neighbouring axes that both operands walk alike are merged, so that the usual cases come down to two axes: a
scalar, a row (one value per channel, channels-last), a column (one value per channel, row-major).
Parallel over blocks of rows, or of columns where a row is long; every chunk writes elements of its own.
"""

from libc.stdint cimport uintptr_t

from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport OK, Step

cdef extern from "elementwise.h" nogil:
    ctypedef void (*binary_loop)(
        const real* x, Py_ssize_t xr, Py_ssize_t xs, const real* y, Py_ssize_t yr, Py_ssize_t ys,
        real* z, Py_ssize_t zr, Py_ssize_t rows, Py_ssize_t n) noexcept nogil
    ctypedef struct binary_row:
        const char* name
        binary_loop loop
    const binary_row binary_rows[1]
    const int binary_count

cdef enum:
    MAX_AXES = 8

CHUNK = 32768

# name: address of the loop.
LOOPS = {binary_rows[i].name.decode(): <uintptr_t>binary_rows[i].loop for i in range(binary_count)}


def merged(shape, x_strides, y_strides):
    """Neighbouring axes as one where both operands allow it: [(size, x stride, y stride)], slowest first."""
    result = []
    for n, x, y in zip(shape, x_strides, y_strides):
        if n == 1:
            continue
        if result and result[-1][1] == n * x and result[-1][2] == n * y:
            result[-1] = (result[-1][0] * n, x, y)
        else:
            result.append((n, x, y))
    return result


cdef class Broadcast(Step):
    """z[i, j, ...] = x[i, j, ...] op y[i, j, ...].

    Args:
        kind: a binary loop of elementwise.h, such as "add".
        shape: z's sizes in the order of its memory, slowest first; z is dense.
        x_strides, y_strides: elements between neighbours along each of these axes; 0 where it is repeated.

    Operands: x, y, z. z may be x or y where that one is dense in z's order.

    Raises:
        ValueError: another kind, or more than 8 axes that do not merge.
    """

    cdef binary_loop formula
    cdef Py_ssize_t sizes[MAX_AXES]     # all axes but the fastest two
    cdef Py_ssize_t x_stride[MAX_AXES]
    cdef Py_ssize_t y_stride[MAX_AXES]
    cdef int outer
    cdef Py_ssize_t rows, x_row, y_row, all_rows
    cdef Py_ssize_t columns, x_column, y_column
    cdef Py_ssize_t block_rows, block_columns, column_blocks

    def __init__(self, str kind, shape, x_strides, y_strides):
        self.operands = 3
        if kind not in LOOPS:
            raise ValueError(f"no loop {kind!r}; there are {', '.join(LOOPS)}")
        self.formula = <binary_loop><uintptr_t>LOOPS[kind]
        axes = merged(shape, x_strides, y_strides)
        if len(axes) > MAX_AXES:
            raise ValueError(f"Broadcast: at most {MAX_AXES} axes that do not merge; found {len(axes)}")
        self.columns, self.x_column, self.y_column = axes.pop() if axes else (1, 1, 1)
        self.rows, self.x_row, self.y_row = axes.pop() if axes else (1, 0, 0)
        self.outer, self.all_rows = len(axes), self.rows
        for i, (n, x, y) in enumerate(axes):
            self.sizes[i], self.x_stride[i], self.y_stride[i] = n, x, y
            self.all_rows *= n
        self.block_columns = max(1, min(self.columns, CHUNK))
        self.column_blocks = (self.columns + self.block_columns - 1) // self.block_columns
        self.block_rows = CHUNK // self.block_columns

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.all_rows + self.block_rows - 1) // self.block_rows * self.column_blocks)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t column = i % self.column_blocks * self.block_columns
        cdef Py_ssize_t columns = min(self.block_columns, self.columns - column)
        cdef Py_ssize_t row = i // self.column_blocks * self.block_rows
        cdef Py_ssize_t end = min(row + self.block_rows, self.all_rows)
        cdef Py_ssize_t x, y, n, rest
        cdef int axis
        while row < end:
            n = min(self.rows - row % self.rows, end - row)
            x = column * self.x_column + row % self.rows * self.x_row
            y = column * self.y_column + row % self.rows * self.y_row
            rest = row // self.rows
            for axis in range(self.outer - 1, -1, -1):
                x += rest % self.sizes[axis] * self.x_stride[axis]
                y += rest % self.sizes[axis] * self.y_stride[axis]
                rest //= self.sizes[axis]
            self.formula(<real*>self.operand[0] + x, self.x_row, self.x_column,
                      <real*>self.operand[1] + y, self.y_row, self.y_column,
                      <real*>self.operand[2] + row * self.columns + column, self.columns, n, columns)
            row += n
