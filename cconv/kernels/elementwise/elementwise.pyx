"""Elementwise steps: activations, their gradients, arithmetic on equal and on broadcast shapes. Formulas: elementwise.h.

On equal shapes, parallel over flat chunks: elements are independent. With broadcasting either operand may have fewer axes,
or axes of size 1. Neighbouring axes that both operands step through alike are merged, so that the usual cases come down to
two axes: a scalar, a row (one value per channel, channels-last), a column (one value per channel, row-major). Parallel over
blocks of rows, or of columns if a row is long.
"""

from libc.stdint cimport uintptr_t

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport CHUNK, Step
from cconv.kernels.elementwise.elementwise cimport MAX_AXES, broadcast_arguments, flat_arguments

from cconv.kernels.core.axes import merge_axes


def formulas(Build build, str table):
    """Names of the formulas of "UNARY", "GRADIENT" or "BINARY"."""
    return list(build.table("elementwise", table))


cdef void* formula_of(Build build, str table, str kind) except NULL:
    known = build.table("elementwise", table)
    if kind not in known:
        raise ValueError(f"no loop {kind!r}; there are {', '.join(known)}")
    return <void*><uintptr_t>known[kind]


cdef class Flat(Step):
    """Base of steps over `size` independent elements."""

    cdef flat_arguments sizes

    cdef int lay_out(self, Build build, str loop, str table, str kind, Py_ssize_t size, double a=0, double b=0) except -1:
        self.sizes.formula = formula_of(build, table, kind)
        self.sizes.size, self.sizes.a, self.sizes.b = size, a, b
        self.arguments = &self.sizes
        self.loop = build.loop("elementwise", loop)
        self.chunks = ceil_div(size, CHUNK)
        return 0


cdef class Unary(Flat):
    """y = f(x; a, b). Operands: x, y; y may be x.

    Raises:
        ValueError: `kind` is no unary formula.
    """

    def __init__(self, Build build, str kind, Py_ssize_t size, double a=0, double b=0):
        self.operands = 2
        self.lay_out(build, "unary", "UNARY", kind, size, a, b)


cdef class UnaryGradient(Flat):
    """dx = dy * f'(v; a, b), v being x or y as elementwise.h says. Operands: dy, v, dx; dx may be dy or v.

    Raises:
        ValueError: `kind` is no gradient formula.
    """

    def __init__(self, Build build, str kind, Py_ssize_t size, double a=0, double b=0):
        self.operands = 3
        self.lay_out(build, "gradient", "GRADIENT", kind, size, a, b)


cdef class Binary(Flat):
    """z = x op y, equal shapes. Operands: x, y, z; z may be either.

    Raises:
        ValueError: `kind` is no binary formula.
    """

    def __init__(self, Build build, str kind, Py_ssize_t size):
        self.operands = 3
        self.lay_out(build, "binary", "BINARY", kind, size)


cdef class Broadcast(Step):
    """z[i, j, ...] = x[i, j, ...] op y[i, j, ...].

    Args:
        build: whose loops run.
        kind: a binary formula of elementwise.h, such as "add".
        shape: z's sizes in the order of its memory, slowest first; z is dense.
        x_strides, y_strides: elements between neighbours along each of these axes; 0 if it is repeated.

    Operands: x, y, z. z may be x or y if that one is dense in z's order.

    Raises:
        ValueError: another kind, or more than 8 axes that do not merge.
    """

    cdef broadcast_arguments sizes

    def __init__(self, Build build, str kind, shape, x_strides, y_strides):
        cdef broadcast_arguments* s = &self.sizes
        self.operands = 3
        self.arguments = s
        self.loop = build.loop("elementwise", "broadcast")
        s.formula = formula_of(build, "BINARY", kind)
        axes = merge_axes(shape, x_strides, y_strides)
        if len(axes) > MAX_AXES:
            raise ValueError(f"Broadcast: at most {MAX_AXES} axes that do not merge; found {len(axes)}")
        s.columns, s.x_column, s.y_column = axes.pop() if axes else (1, 1, 1)
        s.rows, s.x_row, s.y_row = axes.pop() if axes else (1, 0, 0)
        s.outer, s.all_rows = len(axes), s.rows
        for i, (n, x, y) in enumerate(axes):
            s.sizes[i], s.x_stride[i], s.y_stride[i] = n, x, y
            s.all_rows *= n
        s.block_columns = max(<Py_ssize_t>1, min(s.columns, <Py_ssize_t>CHUNK))
        s.column_blocks = ceil_div(s.columns, s.block_columns)
        s.block_rows = CHUNK // s.block_columns
        self.chunks = ceil_div(s.all_rows, s.block_rows) * s.column_blocks
