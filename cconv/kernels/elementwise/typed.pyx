"""Broadcasting steps on values of any dtype: casts, comparisons, logic, selection, whole numbers. Loops: typed.h.

Real arithmetic, which networks spend their time in, has steps of its own in elementwise.pyx and broadcast.pyx.
Parallel over blocks of rows, or of columns where a row is long; every chunk writes elements of its own.
"""

from cconv.kernels.core.step cimport OK, Step

cdef extern from "typed.h" nogil:
    ctypedef void (*typed_loop)(char** x, const Py_ssize_t* s, char* z, Py_ssize_t n) noexcept nogil
    ctypedef struct typed_row:
        const char* name
        typed_loop loop
        int operands
        Py_ssize_t bytes[4]
    const typed_row typed_rows[1]
    const int typed_count

cdef enum:
    MAX_AXES = 8
    MOST = 3        # operands

CHUNK = 32768

# name: row of the table.
LOOPS = {typed_rows[i].name.decode(): i for i in range(typed_count)}


def merged(shape, strides):
    """Neighbouring axes as one where all operands allow it: [(size, [stride of each operand])], slowest first."""
    result = []
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        here = [operand[axis] for operand in strides]
        if result and result[-1][1] == [n * stride for stride in here]:
            result[-1] = (result[-1][0] * n, here)
        else:
            result.append((n, here))
    return result


cdef class Map(Step):
    """z[i, j, ...] = f(x[i, j, ...], ...) of one to three operands.

    Args:
        kind: a loop of typed.h: function and dtype, such as "less_int64", "cast_bool_real" or "select_4".
        shape: z's sizes in the order of its memory, slowest first; z is dense.
        strides: for each operand the elements between neighbours along these axes; 0 where it is repeated.

    Operands: those of the function, then z. z may be an operand that is dense in z's order and has its itemsize.

    Raises:
        ValueError: another kind or number of operands, or more than 8 axes that do not merge.
    """

    cdef typed_loop formula
    cdef int count, outer
    cdef Py_ssize_t bytes[MOST]
    cdef Py_ssize_t result_bytes
    cdef Py_ssize_t sizes[MAX_AXES]         # all axes but the fastest
    cdef Py_ssize_t stride[MAX_AXES][MOST]
    cdef Py_ssize_t column_stride[MOST]
    cdef Py_ssize_t rows, columns, block_rows, block_columns, column_blocks

    def __init__(self, str kind, shape, *strides):
        if kind not in LOOPS:
            raise ValueError(f"no loop {kind!r}; there are {', '.join(LOOPS)}")
        cdef typed_row row = typed_rows[LOOPS[kind]]
        if len(strides) != row.operands:
            raise ValueError(f"Map: {kind!r} has {row.operands} operands; found strides of {len(strides)}")
        self.operands = row.operands + 1
        self.count, self.formula, self.result_bytes = row.operands, row.loop, row.bytes[MOST]
        axes = merged(shape, strides)
        if len(axes) > MAX_AXES:
            raise ValueError(f"Map: at most {MAX_AXES} axes that do not merge; found {len(axes)}")
        self.columns, fastest = axes.pop() if axes else (1, [0] * self.count)
        for k in range(self.count):
            self.bytes[k], self.column_stride[k] = row.bytes[k], fastest[k]
        self.outer, self.rows = len(axes), 1
        for i, (n, here) in enumerate(axes):
            self.sizes[i] = n
            self.rows *= n
            for k in range(self.count):
                self.stride[i][k] = here[k]
        self.block_columns = max(1, min(self.columns, CHUNK))
        self.column_blocks = (self.columns + self.block_columns - 1) // self.block_columns
        self.block_rows = CHUNK // self.block_columns

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.rows + self.block_rows - 1) // self.block_rows * self.column_blocks)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t column = i % self.column_blocks * self.block_columns
        cdef Py_ssize_t columns = min(self.block_columns, self.columns - column)
        cdef Py_ssize_t first = i // self.column_blocks * self.block_rows
        cdef Py_ssize_t row, rest, place
        cdef Py_ssize_t at[MOST]
        cdef char* x[MOST]
        cdef int axis, k
        for row in range(first, min(first + self.block_rows, self.rows)):
            for k in range(self.count):
                at[k] = column * self.column_stride[k]
            rest = row
            for axis in range(self.outer - 1, -1, -1):
                place = rest % self.sizes[axis]
                rest //= self.sizes[axis]
                for k in range(self.count):
                    at[k] += place * self.stride[axis][k]
            for k in range(self.count):
                x[k] = self.operand[k] + at[k] * self.bytes[k]
            self.formula(x, self.column_stride, self.operand[self.count] + (row * self.columns + column) * self.result_bytes,
                      columns)
