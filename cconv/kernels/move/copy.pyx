"""Copying with strides: layout changes, Transpose, Concat, slices.

A copy between two orders of axes is a batch of 2-D transpositions: `row` is the axis that is fastest in the
source, `column` the one that is fastest in the target, and all others are looped over. Each transposition
goes tile by tile, so that the cache lines of both sides are used whole while they are in L1.
Parallel over the other axes times blocks of rows and columns; every chunk writes elements of its own.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

from cconv.kernels.core.simd cimport VL, real, vf, vstore, vstore_n
from cconv.kernels.core.step cimport OK, Step
from cconv.kernels.core.turn cimport LANES, load_turned

ctypedef fused item:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

cdef enum:
    MAX_AXES = 8
    TILE = 16
    CHUNK = 32768   # elements that a chunk should at least copy


cdef inline void squares(const real* source, real* target, Py_ssize_t rows, Py_ssize_t columns,
                         Py_ssize_t source_column, Py_ssize_t target_row) noexcept nogil:
    """transpose() with both sides contiguous, for elements as large as `real`, in registers: 2 to 2.5 times as fast where
    they are in a cache (32 times 16 x 25 floats, 7.5 and 2.9 us)."""
    cdef Py_ssize_t r = 0, c, k, count, live
    cdef vf turned[LANES]
    while r < rows:
        count = min(<Py_ssize_t>VL, rows - r)
        c = 0
        while c < columns:
            live = min(<Py_ssize_t>VL, columns - c)
            load_turned(source + r + c * source_column, source_column, live, count, turned)
            for k in range(count):
                if live == VL:
                    vstore(target + (r + k) * target_row + c, turned[k])
                else:
                    vstore_n(target + (r + k) * target_row + c, turned[k], live)
            c += VL
        r += VL


cdef inline void shuffle(const item* source, item* target, Py_ssize_t pixels, Py_ssize_t plane, const int planes,
                         const bint apart) noexcept nogil:
    """transpose() of a constant few planes, an image's colours or a map of few pixels, to pixels or `apart` again:
    compilers make shuffles of this, 5 times as fast."""
    cdef Py_ssize_t i
    cdef int p
    for i in range(pixels):
        for p in range(planes):
            if apart:
                target[p * plane + i] = source[planes * i + p]
            else:
                target[planes * i + p] = source[p * plane + i]


cdef inline bint shuffled(const item* source, item* target, Py_ssize_t pixels, Py_ssize_t plane, Py_ssize_t planes,
                          const bint apart) noexcept nogil:
    """Whether there are so few planes; then it is done."""
    if planes == 2:
        shuffle(source, target, pixels, plane, 2, apart)
    elif planes == 3:
        shuffle(source, target, pixels, plane, 3, apart)
    elif planes == 4:
        shuffle(source, target, pixels, plane, 4, apart)
    else:
        return False
    return True


cdef void transpose(
    const item* source, item* target, Py_ssize_t rows, Py_ssize_t columns,
    Py_ssize_t source_row, Py_ssize_t source_column, Py_ssize_t target_row, Py_ssize_t target_column
) noexcept nogil:
    """target[r * target_row + c * target_column] = source[r * source_row + c * source_column]."""
    cdef Py_ssize_t i, j, r, c
    cdef bint whole = source_row == 1 and target_column == 1
    if rows == 1 and source_column == 1 and target_column == 1:
        memcpy(target, source, columns * sizeof(item))
        return
    if whole and columns == target_row and shuffled(source, target, rows, source_column, columns, False):
        return
    if whole and rows == source_column and shuffled(source, target, columns, target_row, rows, True):
        return
    if whole and sizeof(item) == sizeof(real):
        squares(<const real*>source, <real*>target, rows, columns, source_column, target_row)
        return
    for i in range((rows + TILE - 1) // TILE):
        for j in range((columns + TILE - 1) // TILE):
            for r in range(i * TILE, min((i + 1) * TILE, rows)):
                for c in range(j * TILE, min((j + 1) * TILE, columns)):
                    target[r * target_row + c * target_column] = source[r * source_row + c * source_column]


def collapse(shape, source_strides, target_strides):
    """The same copy with as few axes as possible, slowest in the target first: [(size, source, target)]."""
    axes = sorted(
        ((n, s, t) for n, s, t in zip(shape, source_strides, target_strides) if n != 1),
        key=lambda axis: -axis[2],
    )
    result = []
    for n, s, t in axes:
        if result and result[-1][1] == n * s and result[-1][2] == n * t:
            result[-1] = (result[-1][0] * n, s, t)
        else:
            result.append((n, s, t))
    return result


cdef class Copy(Step):
    """target[i, j, ...] = source[i, j, ...] for arrays of one shape with strides of their own.

    Args:
        shape: sizes of the axes.
        source_strides, target_strides: elements between neighbours along each axis.
        itemsize: bytes of an element: 1, 2, 4 or 8.
        source_offset, target_offset: elements before the first one.

    Operands: source, target. They must not overlap.

    Raises:
        ValueError: more than 8 axes that do not merge, or another item size.
    """

    cdef Py_ssize_t sizes[MAX_AXES]
    cdef Py_ssize_t source[MAX_AXES]
    cdef Py_ssize_t target[MAX_AXES]
    cdef int outer              # axes looped over outside of the transposition
    cdef Py_ssize_t outer_size
    cdef Py_ssize_t rows, columns
    cdef Py_ssize_t row_source, row_target, column_source, column_target
    cdef Py_ssize_t row_block, row_blocks, column_block, column_blocks, per_chunk, jobs
    cdef Py_ssize_t source_offset, target_offset
    cdef int itemsize

    def __init__(self, shape, source_strides, target_strides, int itemsize=4, Py_ssize_t source_offset=0,
                 Py_ssize_t target_offset=0):
        self.operands = 2
        if itemsize not in (1, 2, 4, 8):
            raise ValueError(f"Copy: an element has 1, 2, 4 or 8 bytes; found {itemsize}")
        self.itemsize = itemsize
        self.source_offset = source_offset
        self.target_offset = target_offset
        empty = any(n == 0 for n in shape)
        axes = collapse(shape, source_strides, target_strides) or [(1, 1, 1)]
        if len(axes) > MAX_AXES:
            raise ValueError(f"Copy: at most {MAX_AXES} axes that do not merge; found {len(axes)}")
        self.columns, self.column_source, self.column_target = axes.pop()
        self.rows, self.row_source, self.row_target = 1, 0, 0
        if self.column_source != 1 and axes:
            fastest = min(range(len(axes)), key=lambda i: abs(axes[i][1]))
            self.rows, self.row_source, self.row_target = axes.pop(fastest)
        self.outer = len(axes)
        self.outer_size = 1
        for i, (n, s, t) in enumerate(axes):
            self.sizes[i], self.source[i], self.target[i] = n, s, t
            self.outer_size *= n
        self.column_block = max(2 * TILE, CHUNK // max(self.rows, 1) // TILE * TILE)
        self.column_blocks = (self.columns + self.column_block - 1) // self.column_block
        self.column_block = min(self.column_block, max(1, self.columns))
        self.row_block = max(2 * TILE, CHUNK // self.column_block // TILE * TILE)
        self.row_blocks = (self.rows + self.row_block - 1) // self.row_block
        self.per_chunk = max(1, CHUNK // max(1, min(self.rows, self.row_block) * self.column_block))
        self.jobs = 0 if empty else self.outer_size * self.row_blocks * self.column_blocks

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.jobs + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t job, rest, row, rows, column, columns, s, t, k
        cdef int axis
        for job in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.jobs)):
            column = job % self.column_blocks * self.column_block
            columns = min(self.column_block, self.columns - column)
            rest = job // self.column_blocks
            row = rest % self.row_blocks * self.row_block
            rows = min(self.row_block, self.rows - row)
            rest //= self.row_blocks
            s = self.source_offset + row * self.row_source + column * self.column_source
            t = self.target_offset + row * self.row_target + column * self.column_target
            for axis in range(self.outer - 1, -1, -1):
                k = rest % self.sizes[axis]
                rest //= self.sizes[axis]
                s += k * self.source[axis]
                t += k * self.target[axis]
            if self.itemsize == 4:
                self.block[uint32_t](<uint32_t*>self.operand[0] + s, <uint32_t*>self.operand[1] + t, rows, columns)
            elif self.itemsize == 8:
                self.block[uint64_t](<uint64_t*>self.operand[0] + s, <uint64_t*>self.operand[1] + t, rows, columns)
            elif self.itemsize == 1:
                self.block[uint8_t](<uint8_t*>self.operand[0] + s, <uint8_t*>self.operand[1] + t, rows, columns)
            else:
                self.block[uint16_t](<uint16_t*>self.operand[0] + s, <uint16_t*>self.operand[1] + t, rows, columns)

    cdef void block(self, const item* source, item* target, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
        transpose(source, target, rows, columns, self.row_source, self.column_source, self.row_target,
                  self.column_target)


cdef class Fill(Step):
    """Every element of y is `value`, the bytes of one element (1, 2, 4 or 8). Operands: y."""

    cdef Py_ssize_t size
    cdef int itemsize
    cdef char value[8]

    def __init__(self, Py_ssize_t size, bytes value):
        self.operands = 1
        if len(value) not in (1, 2, 4, 8):
            raise ValueError(f"Fill: an element has 1, 2, 4 or 8 bytes; found {len(value)}")
        self.size = size
        self.itemsize = len(value)
        memcpy(self.value, <const char*>value, len(value))

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.size + CHUNK - 1) // CHUNK)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t start = i * CHUNK, n = min(CHUNK, self.size - start)
        if self.itemsize == 4:
            self.fill(<uint32_t*>self.operand[0] + start, n)
        elif self.itemsize == 8:
            self.fill(<uint64_t*>self.operand[0] + start, n)
        elif self.itemsize == 1:
            self.fill(<uint8_t*>self.operand[0] + start, n)
        else:
            self.fill(<uint16_t*>self.operand[0] + start, n)

    cdef void fill(self, item* y, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t k
        cdef item value
        memcpy(&value, self.value, sizeof(item))
        for k in range(n):
            y[k] = value
