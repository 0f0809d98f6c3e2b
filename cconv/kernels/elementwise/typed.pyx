"""Broadcasting steps on values of any dtype: casts, comparisons, logic, selection, whole numbers. Formulas: typed.h.

Real arithmetic, which networks spend their time in, has steps of its own in elementwise.pyx.
Parallel over blocks of rows, or of columns if a row is long; every chunk writes elements of its own.
"""

from libc.stdint cimport uintptr_t

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport CHUNK, Step
from cconv.kernels.elementwise.typed cimport MAX_AXES, MOST, map_arguments

from cconv.kernels.core.axes import merge_axes


def formulas(Build build):
    """Names of all formulas."""
    return list(build.table("typed", "FORMULAS"))


cdef class Map(Step):
    """z[i, j, ...] = f(x[i, j, ...], ...) of one to three operands.

    Args:
        build: whose loops run.
        kind: a formula of typed.h: function and dtype, such as "less_int64", "cast_bool_real" or "select_4".
        shape: z's sizes in the order of its memory, slowest first; z is dense.
        strides: for each operand the elements between neighbours along these axes; 0 if it is repeated.

    Operands: those of the function, then z. z may be an operand that is dense in z's order and has its itemsize.

    Raises:
        ValueError: another kind or number of operands, or more than 8 axes that do not merge.
    """

    cdef map_arguments sizes

    def __init__(self, Build build, str kind, shape, *strides):
        cdef map_arguments* s = &self.sizes
        table = build.table("typed", "FORMULAS")
        if kind not in table:
            raise ValueError(f"no loop {kind!r}; there are {', '.join(table)}")
        formula, count, nbytes = table[kind]
        if len(strides) != count:
            raise ValueError(f"Map: {kind!r} has {count} operands; found strides of {len(strides)}")
        self.operands = count + 1
        self.arguments = s
        self.loop = build.loop("typed", "map")
        s.count, s.formula, s.result_bytes = count, <void*><uintptr_t>formula, nbytes[MOST]
        axes = merge_axes(shape, *strides)
        if len(axes) > MAX_AXES:
            raise ValueError(f"Map: at most {MAX_AXES} axes that do not merge; found {len(axes)}")
        s.columns, *fastest = axes.pop() if axes else (1, *[0] * count)
        for k in range(count):
            s.bytes[k], s.column_stride[k] = nbytes[k], fastest[k]
        s.outer, s.rows = len(axes), 1
        for i, (n, *here) in enumerate(axes):
            s.sizes[i] = n
            s.rows *= n
            for k in range(count):
                s.stride[i][k] = here[k]
        s.block_columns = max(<Py_ssize_t>1, min(s.columns, <Py_ssize_t>CHUNK))
        s.column_blocks = ceil_div(s.columns, s.block_columns)
        s.block_rows = CHUNK // s.block_columns
        self.chunks = ceil_div(s.rows, s.block_rows) * s.column_blocks
