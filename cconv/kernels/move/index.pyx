"""Elements at places that other elements name: gathering, scattering, one-hot vectors.

Gathering and scattering take two steps. The first turns indices into places. A place is the number of elements from the
start of the array. An index outside its axis stops the program with status OUT_OF_RANGE before the second step. The
second step moves runs of neighbouring elements from or to the places.

Reading is parallel over runs. Several runs may be written to one place, so a chunk takes all runs that could meet and
writes them in order. Writing is therefore parallel over groups of runs that cannot meet (`outer`), and over blocks of
elements within a run. A sum over the runs of one place has the same order at any number of threads.

The loops that move elements and turn indices into places are in this file and compiled once. Compilers find no vector
instructions for them, so they are the same in all builds.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.element cimport item
from cconv.kernels.core.step cimport CHUNK, OK, OUT_OF_RANGE, Step, per_chunk
from cconv.kernels.move.index cimport ADD, MAXIMUM, MINIMUM, MULTIPLY, SET, one_hot_arguments, put_arguments

from cconv.kernels.core.axes import merge_axes
from cconv.kernels.core.element import KINDS

ctypedef fused whole:
    int32_t
    int64_t

cdef enum:
    MAX_AXES = 8

cdef dict REDUCTIONS = {"none": SET, "add": ADD, "mul": MULTIPLY, "min": MINIMUM, "max": MAXIMUM}


cdef struct places_arguments:
    # The grid of places, without axes of size 1. Strides are elements of the array between neighbours.
    int axes
    Py_ssize_t sizes[MAX_AXES]
    Py_ssize_t strides[MAX_AXES]
    Py_ssize_t size                         # places of the grid
    int itemsize                            # bytes of an index or a length
    bint out_of_range                       # a chunk has found an index or a length outside its axis
    # Offsets: for each index of a place the size of its axis, and elements between neighbours along it.
    int indices
    Py_ssize_t index_size[MAX_AXES]
    Py_ssize_t index_step[MAX_AXES]
    # Reversed: place i has time index i / time_grid mod time_size, likewise batch.
    Py_ssize_t time_grid, time_size, time_stride
    Py_ssize_t batch_grid, batch_size

cdef struct take_arguments:
    Py_ssize_t stride, groups, length
    Py_ssize_t rows, per_chunk              # runs of y; of a chunk
    int itemsize


cdef inline Py_ssize_t grid_place(const places_arguments* s, Py_ssize_t i) noexcept nogil:
    """Place of element i of the grid, before any index adds to it."""
    cdef Py_ssize_t total = 0
    cdef int axis
    for axis in range(s.axes - 1, -1, -1):
        total += i % s.sizes[axis] * s.strides[axis]
        i //= s.sizes[axis]
    return total


cdef inline void write_offsets(places_arguments* s, const whole* indices, int64_t* places,
                               Py_ssize_t chunk) noexcept nogil:
    cdef Py_ssize_t i, total
    cdef int64_t index
    cdef int k
    for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, s.size)):
        total = grid_place(s, i)
        for k in range(s.indices):
            index = indices[i * s.indices + k]
            if index < 0:
                index += s.index_size[k]
            if index < 0 or index >= s.index_size[k]:
                s.out_of_range = True
                index = 0
            total += index * s.index_step[k]
        places[i] = total


cdef void offsets(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef places_arguments* s = <places_arguments*>arguments
    if s.itemsize == 8:
        write_offsets(s, <const int64_t*>operand[0], <int64_t*>operand[1], i)
    else:
        write_offsets(s, <const int32_t*>operand[0], <int64_t*>operand[1], i)


cdef inline void write_reversed(places_arguments* s, const whole* lengths, int64_t* places,
                                Py_ssize_t chunk) noexcept nogil:
    cdef Py_ssize_t i, time
    cdef int64_t length
    for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, s.size)):
        time = i // s.time_grid % s.time_size
        length = lengths[i // s.batch_grid % s.batch_size]
        if length < 0 or length > s.time_size:
            s.out_of_range = True
            length = 0
        places[i] = grid_place(s, i)
        if time < length:
            places[i] += (length - 1 - 2 * time) * s.time_stride


cdef void reversed_places(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef places_arguments* s = <places_arguments*>arguments
    if s.itemsize == 8:
        write_reversed(s, <const int64_t*>operand[0], <int64_t*>operand[1], i)
    else:
        write_reversed(s, <const int32_t*>operand[0], <int64_t*>operand[1], i)


cdef inline void take_rows(const take_arguments* s, const item* x, const int64_t* places, item* y,
                           Py_ssize_t chunk) noexcept nogil:
    cdef Py_ssize_t row = chunk * s.per_chunk, end = min((chunk + 1) * s.per_chunk, s.rows)
    cdef Py_ssize_t groups = s.groups, length = s.length, n, g, k
    cdef const item* base
    while row < end:   # as many rows as have the same o
        g = row % groups
        n = min(end - row, groups - g)
        base = x + row // groups * s.stride
        if length == 1:
            for k in range(n):
                y[row + k] = base[places[g + k]]
        else:
            for k in range(n):
                memcpy(y + (row + k) * length, base + places[g + k], length * sizeof(item))
        row += n


cdef void take(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const take_arguments* s = <const take_arguments*>arguments
    cdef const char* x = operand[0]
    cdef const int64_t* places = <const int64_t*>operand[1]
    cdef char* y = operand[2]
    if s.itemsize == 4:
        take_rows(s, <const uint32_t*>x, places, <uint32_t*>y, i)
    elif s.itemsize == 8:
        take_rows(s, <const uint64_t*>x, places, <uint64_t*>y, i)
    elif s.itemsize == 1:
        take_rows(s, <const uint8_t*>x, places, <uint8_t*>y, i)
    else:
        take_rows(s, <const uint16_t*>x, places, <uint16_t*>y, i)


cdef inline void put_job(const put_arguments* s, const item* x, const int64_t* places, item* y,
                         Py_ssize_t job) noexcept nogil:
    cdef Py_ssize_t o = job // s.blocks, first = job % s.blocks * s.block
    cdef Py_ssize_t groups = s.groups, length = s.length, n = min(s.block, length - first), g
    x += o * groups * length + first
    y += o * s.stride + first
    if not s.shared:
        places += o * groups
    if length == 1:
        for g in range(groups):
            y[places[g]] = x[g]
        return
    for g in range(groups):
        memcpy(y + places[g], x + g * length, n * sizeof(item))


cdef void put(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const put_arguments* s = <const put_arguments*>arguments
    cdef const char* x = operand[0]
    cdef const int64_t* places = <const int64_t*>operand[1]
    cdef char* y = operand[2]
    cdef Py_ssize_t job
    for job in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.outer * s.blocks)):
        if s.itemsize == 4:
            put_job(s, <const uint32_t*>x, places, <uint32_t*>y, job)
        elif s.itemsize == 8:
            put_job(s, <const uint64_t*>x, places, <uint64_t*>y, job)
        elif s.itemsize == 1:
            put_job(s, <const uint8_t*>x, places, <uint8_t*>y, job)
        else:
            put_job(s, <const uint16_t*>x, places, <uint16_t*>y, job)


cdef class Places(Step):
    """Base: a place for each element of a grid, from its positions along the grid's axes times their strides."""

    cdef places_arguments sizes

    cdef int plan(self, shape, strides, int itemsize) except -1:
        if itemsize not in (4, 8):
            raise ValueError(f"{type(self).__name__}: indices have 4 or 8 bytes; found {itemsize}")
        axes = merge_axes(shape, strides)
        if len(axes) > MAX_AXES:
            raise ValueError(f"{type(self).__name__}: at most {MAX_AXES} axes that do not merge; found {len(axes)}")
        self.operands = 2
        cdef places_arguments* s = &self.sizes
        self.arguments = s
        s.itemsize = itemsize
        s.axes, s.size = len(axes), 1
        for i, (n, stride) in enumerate(axes):
            s.sizes[i], s.strides[i] = n, stride
            s.size *= n
        self.chunks = ceil_div(s.size, CHUNK)
        return 0

    cdef int run(self) noexcept nogil:
        self.sizes.out_of_range = False
        self.run_chunks(self.loop, self.chunks)
        return OUT_OF_RANGE if self.sizes.out_of_range else OK


cdef class Offsets(Places):
    """places[i] = place of i in the grid + the sum over k of indices[i, k] * steps[k].

    A negative index counts from the end of its axis.

    Args:
        shape: of the grid that i runs over.
        strides: for each axis of the grid, elements of the array from one position to the next; 0 where the place does
            not depend on the position.
        sizes: for each k, the size of the axis that the index is for.
        steps: for each k, elements between neighbours along that axis.
        itemsize: bytes of an index, 4 or 8.

    Operands: indices (*shape, len(sizes)) int32 or int64, places (*shape) int64.

    Raises:
        ValueError: more than 8 axes that do not merge, no index or more than 8, not as many steps as sizes, or another
            item size.
    """

    def __init__(self, shape, strides, sizes, steps, int itemsize=8):
        self.plan(shape, strides, itemsize)
        if not 1 <= len(sizes) <= MAX_AXES or len(steps) != len(sizes):
            raise ValueError(f"Offsets: 1 to {MAX_AXES} indices, a size and a step each; found {sizes}, {steps}")
        self.loop = offsets
        self.sizes.indices = len(sizes)
        for k, (n, step) in enumerate(zip(sizes, steps)):
            self.sizes.index_size[k], self.sizes.index_step[k] = n, step


cdef class Reversed(Places):
    """places[i] = place of i in the grid, with the first lengths[batch] positions along the time axis in reverse order.

    Args:
        shape, strides: of the grid and of the array, as for Offsets.
        time, batch: (elements of the grid between neighbours, size, elements of the array between neighbours) of the
            axis that is reversed, and of the axis that has a length for each position.
        itemsize: bytes of a length, 4 or 8.

    Operands: lengths int32 or int64, places (*shape) int64.

    Raises:
        ValueError: more than 8 axes that do not merge, or another item size.
    """

    def __init__(self, shape, strides, time, batch, int itemsize=8):
        self.plan(shape, strides, itemsize)
        self.loop = reversed_places
        self.sizes.time_grid, self.sizes.time_size, self.sizes.time_stride = time
        self.sizes.batch_grid, self.sizes.batch_size, _ = batch


cdef class Take(Step):
    """y[o, g, r] = x[o * stride + places[g] + r].

    Args:
        outer: how often the places are read through.
        stride: elements of x from one time to the next.
        groups: number of places.
        length: elements of a run.
        itemsize: bytes of an element: 1, 2, 4 or 8.

    Operands: x, places (groups,) int64, y (outer, groups, length).

    Raises:
        ValueError: another item size.
    """

    cdef take_arguments sizes

    def __init__(self, Py_ssize_t outer, Py_ssize_t stride, Py_ssize_t groups, Py_ssize_t length, int itemsize=4):
        if itemsize not in (1, 2, 4, 8):
            raise ValueError(f"Take: an element has 1, 2, 4 or 8 bytes; found {itemsize}")
        self.operands = 3
        self.loop = take
        cdef take_arguments* s = &self.sizes
        self.arguments = s
        s.stride, s.groups, s.length, s.itemsize = stride, groups, length, itemsize
        s.rows = outer * groups if length else 0
        s.per_chunk = per_chunk(length)
        self.chunks = ceil_div(s.rows, s.per_chunk)


cdef class Put(Step):
    """y[o * stride + places[o, g] + r] becomes x[o, g, r], or is reduced with it, for g in order.

    Elements that differ in o or in r must have different places.

    Args:
        build: whose loops run.
        reduction: "none" (x replaces y, and the last of equal places stays), "add", "mul", "min" or "max".
        outer: groups of places.
        stride: elements of y from one group to the next.
        groups: places of a group.
        length: elements of a run.
        shared: whether all groups have the same places.
        kind: what an element is: "real", "int32" or "int64"; for "none" also its bytes: "1", "2", "4", "8".

    Operands: x (outer, groups, length), places (outer, groups), or (groups,) if shared, int64, y.

    Raises:
        ValueError: another reduction, or another kind.
    """

    cdef put_arguments sizes

    def __init__(self, Build build, str reduction, Py_ssize_t outer, Py_ssize_t stride, Py_ssize_t groups,
                 Py_ssize_t length, bint shared, str kind="real"):
        if reduction not in REDUCTIONS:
            raise ValueError(f"Put: no reduction {reduction!r}; there are {', '.join(REDUCTIONS)}")
        itemsizes = {"real": build.itemsize, "int32": 4, "int64": 8, "1": 1, "2": 2, "4": 4, "8": 8}
        kinds = tuple(itemsizes) if reduction == "none" else KINDS
        if kind not in kinds:
            raise ValueError(f"Put: reduction {reduction!r} is for elements of {', '.join(kinds)}; found {kind!r}")
        self.operands = 3
        cdef put_arguments* s = &self.sizes
        self.arguments = s
        s.reduction = REDUCTIONS[reduction]
        if s.reduction == SET:
            self.loop = put
            s.itemsize = itemsizes[kind]
        else:
            self.loop = build.loop("index", "put_reduced")
            s.kind = KINDS.index(kind)
        s.outer, s.stride, s.groups, s.length, s.shared = outer, stride, groups, length, shared
        # A block has at least a few cache lines, so that few cache lines of y are written by two chunks.
        s.block = max(1, min(length, max(64, CHUNK // max(1, groups))))
        s.blocks = ceil_div(length, s.block)
        s.per_chunk = per_chunk(groups * s.block)
        self.chunks = ceil_div(outer * s.blocks, s.per_chunk)


cdef class OneHot(Step):
    """y[o, d, i] = values[1] if indices[o, i] is d or d - depth, else values[0].

    Parallel over `outer`.

    Args:
        build: whose loops run.
        outer, inner: sizes of the axes before and after the new one.
        depth: size of the new axis.
        kind: what an index is: "real", "int32" or "int64".
        itemsize: bytes of a value: 1, 2, 4 or 8.

    Operands: indices (outer, inner), values (2,), y (outer, depth, inner).

    Raises:
        ValueError: another kind or item size.
    """

    cdef one_hot_arguments sizes

    def __init__(self, Build build, Py_ssize_t outer, Py_ssize_t depth, Py_ssize_t inner, str kind="int64",
                 int itemsize=4):
        if kind not in KINDS or itemsize not in (1, 2, 4, 8):
            raise ValueError(f"OneHot: indices {', '.join(KINDS)}, 1, 2, 4 or 8 bytes; found {kind!r}, {itemsize}")
        self.operands = 3
        self.loop = build.loop("index", "one_hot")
        cdef one_hot_arguments* s = &self.sizes
        self.arguments = s
        s.kind, s.itemsize = KINDS.index(kind), itemsize
        s.outer, s.depth, s.inner = outer, depth, inner
        s.per_chunk = per_chunk(depth * inner)
        self.chunks = ceil_div(outer, s.per_chunk)
