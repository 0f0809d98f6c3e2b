"""Along one axis: running sums and products, sums over a window, the k largest elements, the place of the largest.

Arrays are (outer, size, inner) in memory with the axis in the middle, so any axis in any layout will do. A line is all
elements along this axis. Each element of a result depends on its own line of the source alone.

Parallel over the other axes.
"""

from libc.stdint cimport int64_t

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport Step, per_chunk
from cconv.kernels.reduce.scan cimport (
    BLOCK, WIDTH, cumulative_arguments, extreme_arguments, top_arguments, window_arguments,
)

from cconv.kernels.core.element import kind_of

cdef enum:
    WINDOW_CHUNK = 8192     # elements of a chunk of WindowSum, which reads each of them once per place of the window
    EXTREME_CHUNK = 16384   # elements of a chunk of ArgExtreme


cdef class Cumulative(Step):
    """y[o, i, r] = the sum, or the product, of x[o, 0..i, r].

    Args:
        build: whose loops run.
        outer, size, inner: sizes of the axes before the line, of the line, and after it.
        exclusive: leave out x[o, i, r] itself.
        reverse: from the end of the line: x[o, i..size-1, r].
        kind: what an element is: "real", "int32" or "int64".
        product: multiply instead of adding.

    Operands: x, y, both (outer, size, inner).

    Raises:
        ValueError: another kind.
    """

    cdef cumulative_arguments sizes

    def __init__(self, Build build, Py_ssize_t outer, Py_ssize_t size, Py_ssize_t inner, bint exclusive=False,
                 bint reverse=False, str kind="real", bint product=False):
        self.operands = 2
        self.loop = build.loop("scan", "cumulative")
        cdef cumulative_arguments* s = &self.sizes
        self.arguments = s
        s.kind = kind_of(kind)
        s.size, s.inner = size, inner
        s.exclusive, s.reverse, s.product = exclusive, reverse, product
        s.blocks = ceil_div(inner, BLOCK)
        s.jobs = outer * s.blocks
        s.per_chunk = per_chunk(size * min(inner, <Py_ssize_t>BLOCK))
        self.chunks = ceil_div(s.jobs, s.per_chunk)


cdef class WindowSum(Step):
    """y[o, k, i] = the sum of x[o, k - before .. k + after, i] over the places that exist: the window of LRN.

    Each sum is computed from scratch. Windows are short, and a sum that is updated from place to place would accumulate
    rounding errors. Parallel over `outer`.

    Args:
        build: whose loops run.
        outer, size, inner: sizes of the axes before the line, of the line, and after it.
        before, after: extent of the window on either side.

    Operands: x, y, both (outer, size, inner). They must not overlap.

    Raises:
        ValueError: a negative extent.
    """

    cdef window_arguments sizes

    def __init__(self, Build build, Py_ssize_t outer, Py_ssize_t size, Py_ssize_t inner, Py_ssize_t before,
                 Py_ssize_t after):
        if before < 0 or after < 0:
            raise ValueError(f"WindowSum: a window has no negative extent; found {before} and {after}")
        self.operands = 2
        self.loop = build.loop("scan", "window_sum")
        cdef window_arguments* s = &self.sizes
        self.arguments = s
        s.outer, s.size, s.inner = outer, size, inner
        # A larger extent would add nothing, and its offsets might overflow.
        s.before, s.after = min(before, max(size - 1, 0)), min(after, max(size - 1, 0))
        s.per_chunk = per_chunk(size * inner, WINDOW_CHUNK)
        self.chunks = ceil_div(outer, s.per_chunk)


cdef class TopK(Step):
    """The k largest (or smallest) elements of each line in descending (or ascending) order, and their places.

    Of equal elements the first comes first. NaN counts as larger than all numbers.

    Args:
        build: whose loops run.
        outer, size, inner: sizes of the axes before the line, of the line, and after it.
        k: number of elements, at most `size`.
        largest: the largest ones; else the smallest.
        kind: what an element is: "real", "int32" or "int64".

    Operands: x (outer, size, inner), values (outer, k, inner), places (outer, k, inner) int64.

    Raises:
        ValueError: another kind, or a k outside 0..size.
    """

    cdef top_arguments sizes

    def __init__(self, Build build, Py_ssize_t outer, Py_ssize_t size, Py_ssize_t inner, Py_ssize_t k,
                 bint largest=True, str kind="real"):
        if not 0 <= k <= size:
            raise ValueError(f"TopK: k lies in 0..{size}; found {k}")
        self.operands = 3
        self.loop = build.loop("scan", "top_k")
        cdef top_arguments* s = &self.sizes
        self.arguments = s
        s.kind = kind_of(kind)
        s.size, s.inner, s.k, s.largest = size, inner, k, largest
        s.lines = outer * inner if k else 0
        s.per_chunk = per_chunk(8 * size)
        self.scratch_bytes = ceil_div(k * sizeof(int64_t), 64) * 64
        self.chunks = ceil_div(s.lines, s.per_chunk)


cdef class ArgExtreme(Step):
    """y[o, i] = the k of the largest (or smallest) x[o, k, i].

    Of equal elements the first (or last) counts. NaN beats all numbers. Parallel over `outer` times blocks of WIDTH
    neighbouring lines. A block keeps the best values so far in the scratch of the thread.

    Args:
        build: whose loops run.
        outer, size, inner: sizes of the axes before the line, of the line, and after it.
        smallest: the smallest; else the largest.
        last: the last of equal elements; else the first.

    Operands: x (outer, size, inner), y (outer, inner) int64.

    Raises:
        ValueError: size is 0.
    """

    cdef extreme_arguments sizes

    def __init__(self, Build build, Py_ssize_t outer, Py_ssize_t size, Py_ssize_t inner, bint smallest=False,
                 bint last=False):
        if size < 1:
            raise ValueError("ArgExtreme: the axis has at least one element")
        self.operands = 2
        self.loop = build.loop("scan", "arg_extreme")
        cdef extreme_arguments* s = &self.sizes
        self.arguments = s
        s.size, s.inner, s.last = size, inner, last
        s.sign = -1 if smallest else 1
        s.blocks = ceil_div(inner, WIDTH)
        s.jobs = outer * s.blocks
        s.per_chunk = per_chunk(size * min(inner, <Py_ssize_t>WIDTH), EXTREME_CHUNK)
        self.scratch_bytes = WIDTH * build.itemsize
        self.chunks = ceil_div(s.jobs, s.per_chunk)
