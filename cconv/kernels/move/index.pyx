"""Elements at places that other elements name: gathering, scattering, one-hot vectors.

Two steps each. The first turns indices into places, elements from the start of the array, and refuses those that lie
outside of their axis (status OUT_OF_RANGE; nothing else has run by then). The second moves runs of neighbours from
or to these places.

Reading is parallel over runs. Writing may meet a place twice, so a chunk takes all runs that could meet, in their
order: parallel is over groups that cannot (`outer`), and over blocks of the elements within a run. A sum over the runs
that name a place therefore has one order, whatever the number of threads.
"""

from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport OK, OUT_OF_RANGE, Step

ctypedef fused item:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused number:
    real
    int32_t
    int64_t

ctypedef fused whole:
    int32_t
    int64_t

cdef enum:
    MAX_AXES = 8
    SET = 0
    ADD = 1
    MULTIPLY = 2
    MINIMUM = 3
    MAXIMUM = 4
    CHUNK = 32768   # elements that a chunk should at least move

cdef dict REDUCTIONS = {"none": SET, "add": ADD, "mul": MULTIPLY, "min": MINIMUM, "max": MAXIMUM}


def merged(shape, strides):
    """Axes that count, neighbours as one where the strides allow it: [(size, stride)], slowest first."""
    result = []
    for n, stride in zip(shape, strides):
        if n == 1:
            continue
        if result and result[-1][1] == n * stride:
            result[-1] = (result[-1][0] * n, stride)
        else:
            result.append((n, stride))
    return result


cdef class Places(Step):
    """Base: place of element i of a grid, offset by how far along the grid's axes it is."""

    cdef Py_ssize_t sizes[MAX_AXES]
    cdef Py_ssize_t strides[MAX_AXES]
    cdef int axes, itemsize, bad
    cdef Py_ssize_t size

    cdef int plan(self, shape, strides, int itemsize) except -1:
        if itemsize not in (4, 8):
            raise ValueError(f"{type(self).__name__}: indices have 4 or 8 bytes; found {itemsize}")
        axes = merged(shape, strides)
        if len(axes) > MAX_AXES:
            raise ValueError(f"{type(self).__name__}: at most {MAX_AXES} axes that do not merge; found {len(axes)}")
        self.operands = 2
        self.itemsize = itemsize
        self.axes, self.size = len(axes), 1
        for i, (n, stride) in enumerate(axes):
            self.sizes[i], self.strides[i] = n, stride
        for n in shape:
            self.size *= n
        return 0

    cdef Py_ssize_t base(self, Py_ssize_t i) noexcept nogil:
        cdef Py_ssize_t total = 0
        cdef int axis
        for axis in range(self.axes - 1, -1, -1):
            total += i % self.sizes[axis] * self.strides[axis]
            i //= self.sizes[axis]
        return total

    cdef int run(self) noexcept nogil:
        self.bad = 0
        self.parallel(0, (self.size + CHUNK - 1) // CHUNK)
        return OUT_OF_RANGE if self.bad else OK


cdef class Offsets(Places):
    """places[i] = base(i) + the sum over k of indices[i, k] * steps[k]; a negative index counts from the end.

    Args:
        shape: of the grid that i runs over.
        strides: elements that one along each axis of the grid adds; 0 where it adds none.
        sizes: for each k, the size of the axis that the index is for.
        steps: for each k, elements between neighbours along that axis.
        itemsize: bytes of an index, 4 or 8.

    Operands: indices (*shape, len(sizes)) int32 or int64, places (*shape) int64.

    Raises:
        ValueError: more than 8 axes that do not merge, or as many indices, or another item size.
    """

    cdef Py_ssize_t index_size[MAX_AXES]
    cdef Py_ssize_t index_step[MAX_AXES]
    cdef int indices

    def __init__(self, shape, strides, sizes, steps, int itemsize=8):
        self.plan(shape, strides, itemsize)
        if not 1 <= len(sizes) <= MAX_AXES or len(steps) != len(sizes):
            raise ValueError(f"Offsets: 1 to {MAX_AXES} indices, a size and a step each; found {sizes}, {steps}")
        self.indices = len(sizes)
        for k, (n, step) in enumerate(zip(sizes, steps)):
            self.index_size[k], self.index_step[k] = n, step

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        if self.itemsize == 8:
            self.places(<const int64_t*>self.operand[0], i * CHUNK, min((i + 1) * CHUNK, self.size))
        else:
            self.places(<const int32_t*>self.operand[0], i * CHUNK, min((i + 1) * CHUNK, self.size))

    cdef void places(self, const whole* indices, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
        cdef int64_t* target = <int64_t*>self.operand[1]
        cdef int64_t index
        cdef Py_ssize_t total
        cdef int k
        while i < end:
            total = self.base(i)
            for k in range(self.indices):
                index = indices[i * self.indices + k]
                if index < 0:
                    index += self.index_size[k]
                if index < 0 or index >= self.index_size[k]:
                    self.bad = 1
                    index = 0
                total += index * self.index_step[k]
            target[i] = total
            i += 1


cdef class Reversed(Places):
    """places[i] = base(i), and of the first lengths[batch] elements along an axis the last comes first.

    Args:
        shape, strides: of the grid and of the array, as for Offsets.
        time, batch: (elements of the grid between neighbours, size, elements of the array between neighbours) of the
            axis that is reversed, and of that which lengths are for.
        itemsize: bytes of a length, 4 or 8.

    Operands: lengths int32 or int64, places (*shape) int64.
    """

    cdef Py_ssize_t time_grid, time_size, time_stride, batch_grid, batch_size

    def __init__(self, shape, strides, time, batch, int itemsize=8):
        self.plan(shape, strides, itemsize)
        self.time_grid, self.time_size, self.time_stride = time
        self.batch_grid, self.batch_size, _ = batch

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        if self.itemsize == 8:
            self.places(<const int64_t*>self.operand[0], i * CHUNK, min((i + 1) * CHUNK, self.size))
        else:
            self.places(<const int32_t*>self.operand[0], i * CHUNK, min((i + 1) * CHUNK, self.size))

    cdef void places(self, const whole* lengths, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
        cdef int64_t* target = <int64_t*>self.operand[1]
        cdef Py_ssize_t time
        cdef int64_t length
        while i < end:
            time = i // self.time_grid % self.time_size
            length = lengths[i // self.batch_grid % self.batch_size]
            if length < 0 or length > self.time_size:
                self.bad = 1
                length = 0
            target[i] = self.base(i)
            if time < length:
                target[i] += (length - 1 - 2 * time) * self.time_stride
            i += 1


cdef class Take(Step):
    """y[o, g, r] = x[o * stride + places[g] + r].

    Args:
        outer, stride: how often the places are read through, and the elements of x from one time to the next.
        groups: number of places.
        length: elements of a run.
        itemsize: bytes of an element: 1, 2, 4 or 8.

    Operands: x, places (groups,) int64, y (outer, groups, length).
    """

    cdef Py_ssize_t stride, groups, length, rows, per_chunk
    cdef int itemsize

    def __init__(self, Py_ssize_t outer, Py_ssize_t stride, Py_ssize_t groups, Py_ssize_t length, int itemsize=4):
        self.operands = 3
        if itemsize not in (1, 2, 4, 8):
            raise ValueError(f"Take: an element has 1, 2, 4 or 8 bytes; found {itemsize}")
        self.stride, self.groups, self.length, self.itemsize = stride, groups, length, itemsize
        self.rows = outer * groups if length else 0
        self.per_chunk = max(1, CHUNK // max(1, length))

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.rows + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t row = i * self.per_chunk, end = min((i + 1) * self.per_chunk, self.rows)
        if self.itemsize == 4:
            self.take(<const uint32_t*>self.operand[0], <uint32_t*>self.operand[2], row, end)
        elif self.itemsize == 8:
            self.take(<const uint64_t*>self.operand[0], <uint64_t*>self.operand[2], row, end)
        elif self.itemsize == 1:
            self.take(<const uint8_t*>self.operand[0], <uint8_t*>self.operand[2], row, end)
        else:
            self.take(<const uint16_t*>self.operand[0], <uint16_t*>self.operand[2], row, end)

    cdef void take(self, const item* x, item* y, Py_ssize_t row, Py_ssize_t end) noexcept nogil:
        cdef const int64_t* places = <const int64_t*>self.operand[1]
        cdef Py_ssize_t n, g, k
        cdef const item* base
        while row < end:   # as many rows as share o
            g = row % self.groups
            n = min(end - row, self.groups - g)
            base = x + row // self.groups * self.stride
            if self.length == 1:
                for k in range(n):
                    y[row + k] = base[places[g + k]]
            else:
                for k in range(n):
                    memcpy(y + (row + k) * self.length, base + places[g + k], self.length * sizeof(item))
            row += n


cdef class Put(Step):
    """y[o * stride + places[o, g] + r] = that op x[o, g, r], for g in order; places that differ in o or r are disjoint.

    Args:
        reduction: "none" (x replaces it; the last of equal places stays), "add", "mul", "min" or "max".
        outer, stride: number of groups of places, and the elements of y from one to the next.
        groups: places in each.
        length: elements of a run.
        shared: whether all groups have the same places.
        kind: what an element is: "real", "int32" or "int64"; with "none" also its bytes: "1", "2", "4", "8".

    Operands: x (outer, groups, length), places (outer, groups) or (groups,) int64, y.

    Raises:
        ValueError: another reduction, or another kind.
    """

    cdef Py_ssize_t outer, stride, groups, length, block, blocks, per_chunk
    cdef bint shared
    cdef int reduction, kind

    def __init__(self, str reduction, Py_ssize_t outer, Py_ssize_t stride, Py_ssize_t groups, Py_ssize_t length,
                 bint shared, str kind="real"):
        self.operands = 3
        if reduction not in REDUCTIONS:
            raise ValueError(f"Put: no reduction {reduction!r}; there are {', '.join(REDUCTIONS)}")
        self.reduction = REDUCTIONS[reduction]
        if self.reduction == SET and kind in ("real", "int32", "int64"):
            kind = {"real": str(sizeof(real)), "int32": "4", "int64": "8"}[kind]
        kinds = ["1", "2", "4", "8"] if self.reduction == SET else ["real", "int32", "int64"]
        if kind not in kinds:
            raise ValueError(f"Put: reduction {reduction!r} is for elements of {', '.join(kinds)}; found {kind!r}")
        self.kind = int(kind) if self.reduction == SET else kinds.index(kind)
        self.outer, self.stride, self.groups, self.length = outer, stride, groups, length
        self.shared = shared
        # A block is a few cache lines, so that the lines of y that chunks share are few.
        self.block = max(1, min(length, max(64, CHUNK // max(1, groups))))
        self.blocks = (length + self.block - 1) // self.block
        self.per_chunk = max(1, CHUNK // max(1, groups * self.block))

    cdef int run(self) noexcept nogil:
        cdef Py_ssize_t jobs = self.outer * self.blocks
        self.parallel(0, (jobs + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t job
        cdef char* x = self.operand[0]
        cdef char* y = self.operand[2]
        for job in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.outer * self.blocks)):
            if self.reduction == SET:
                if self.kind == 4:
                    self.place(<const uint32_t*>x, <uint32_t*>y, job)
                elif self.kind == 8:
                    self.place(<const uint64_t*>x, <uint64_t*>y, job)
                elif self.kind == 1:
                    self.place(<const uint8_t*>x, <uint8_t*>y, job)
                else:
                    self.place(<const uint16_t*>x, <uint16_t*>y, job)
            elif self.kind == 0:
                self.reduce(<const real*>x, <real*>y, job)
            elif self.kind == 1:
                self.reduce(<const int32_t*>x, <int32_t*>y, job)
            else:
                self.reduce(<const int64_t*>x, <int64_t*>y, job)

    cdef void place(self, const item* x, item* y, Py_ssize_t job) noexcept nogil:
        cdef Py_ssize_t o = job // self.blocks, first = job % self.blocks * self.block
        cdef Py_ssize_t n = min(self.block, self.length - first), g
        cdef const int64_t* places = <const int64_t*>self.operand[1] + (0 if self.shared else o * self.groups)
        x += o * self.groups * self.length + first
        y += o * self.stride + first
        if self.length == 1:
            for g in range(self.groups):
                y[places[g]] = x[g]
            return
        for g in range(self.groups):
            memcpy(y + places[g], x + g * self.length, n * sizeof(item))

    cdef void reduce(self, const number* x, number* y, Py_ssize_t job) noexcept nogil:
        cdef Py_ssize_t o = job // self.blocks, first = job % self.blocks * self.block
        cdef Py_ssize_t n = min(self.block, self.length - first), g, r
        cdef const int64_t* places = <const int64_t*>self.operand[1] + (0 if self.shared else o * self.groups)
        cdef const number* source
        cdef number* target
        x += o * self.groups * self.length + first
        y += o * self.stride + first
        for g in range(self.groups):
            source = x + g * self.length
            target = y + places[g]
            if self.reduction == ADD:
                for r in range(n):
                    target[r] += source[r]
            elif self.reduction == MULTIPLY:
                for r in range(n):
                    target[r] *= source[r]
            elif self.reduction == MINIMUM:
                for r in range(n):   # what is not a number is kept, and replaces what is
                    if source[r] < target[r] or isnan(<double>source[r]):
                        target[r] = source[r]
            else:
                for r in range(n):
                    if source[r] > target[r] or isnan(<double>source[r]):
                        target[r] = source[r]


cdef class OneHot(Step):
    """y[o, d, i] = values[1] where indices[o, i] is d (or d - depth), else values[0].

    Args:
        outer, inner: sizes of the axes before and after the new one.
        depth: size of the new axis.
        kind: what an index is: "real", "int32" or "int64".
        itemsize: bytes of a value: 1, 2, 4 or 8.

    Operands: indices (outer, inner), values (2,), y (outer, depth, inner).

    Raises:
        ValueError: another kind or item size.
    """

    cdef Py_ssize_t outer, depth, inner, per_chunk
    cdef int kind, itemsize

    def __init__(self, Py_ssize_t outer, Py_ssize_t depth, Py_ssize_t inner, str kind="int64", int itemsize=4):
        self.operands = 3
        kinds = ["real", "int32", "int64"]
        if kind not in kinds or itemsize not in (1, 2, 4, 8):
            raise ValueError(f"OneHot: indices {', '.join(kinds)}, 1, 2, 4 or 8 bytes; found {kind!r}, {itemsize}")
        self.kind, self.itemsize = kinds.index(kind), itemsize
        self.outer, self.depth, self.inner = outer, depth, inner
        self.per_chunk = max(1, CHUNK // max(1, depth * inner))

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.outer + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t o
        for o in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.outer)):
            if self.itemsize == 4:
                self.fill(<uint32_t*>self.operand[2], o)
            elif self.itemsize == 8:
                self.fill(<uint64_t*>self.operand[2], o)
            elif self.itemsize == 1:
                self.fill(<uint8_t*>self.operand[2], o)
            else:
                self.fill(<uint16_t*>self.operand[2], o)

    cdef void fill(self, item* y, Py_ssize_t o) noexcept nogil:
        cdef const item* values = <const item*>self.operand[1]
        cdef Py_ssize_t i, d
        y += o * self.depth * self.inner
        for i in range(self.depth * self.inner):
            y[i] = values[0]
        for i in range(self.inner):
            d = self.index(o * self.inner + i)
            if d < 0:
                d += self.depth
            if 0 <= d < self.depth:
                y[d * self.inner + i] = values[1]

    cdef Py_ssize_t index(self, Py_ssize_t i) noexcept nogil:
        cdef real value
        if self.kind == 2:
            return (<const int64_t*>self.operand[0])[i]
        if self.kind == 1:
            return (<const int32_t*>self.operand[0])[i]
        value = (<const real*>self.operand[0])[i]
        # Far outside a conversion is not defined; there, no index is what the depth has.
        return <Py_ssize_t>value if -self.depth <= value < self.depth else self.depth
