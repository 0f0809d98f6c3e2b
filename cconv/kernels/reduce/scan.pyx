"""Along one axis, in its order: running sums and products, and the k largest or smallest elements with their places.

Parallel over the other axes; an element of the result depends on its own line of the source alone.
"""

from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t

from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport OK, Step

ctypedef fused number:
    real
    int32_t
    int64_t

cdef enum:
    CHUNK = 32768
    BLOCK = 1024    # neighbours whose running results go side by side

KINDS = ("real", "int32", "int64")


def kind_of(str kind):
    """Number of an element's kind.

    Raises:
        ValueError: another one.
    """
    if kind not in KINDS:
        raise ValueError(f"an element is one of {', '.join(KINDS)}; found {kind!r}")
    return KINDS.index(kind)


cdef class Cumulative(Step):
    """y[o, i, r] = the sum of x[o, :, r] up to place i, or the product.

    Args:
        outer, size, inner: sizes of the axes before, of it, and of those after it.
        exclusive: whether place i itself does not count.
        reverse: whether it runs from the end.
        product: whether elements are multiplied.
        kind: what an element is: "real", "int32" or "int64".

    Operands: x, y; both (outer, size, inner).

    Raises:
        ValueError: another kind.
    """

    cdef Py_ssize_t outer, size, inner, blocks, per_chunk
    cdef bint exclusive, reverse, product
    cdef int kind

    def __init__(self, Py_ssize_t outer, Py_ssize_t size, Py_ssize_t inner, bint exclusive=False,
                 bint reverse=False, str kind="real", bint product=False):
        self.operands = 2
        self.kind = kind_of(kind)
        self.outer, self.size, self.inner = outer, size, inner
        self.exclusive, self.reverse, self.product = exclusive, reverse, product
        self.blocks = (inner + BLOCK - 1) // BLOCK
        self.per_chunk = max(1, CHUNK // max(1, size * min(inner, <Py_ssize_t>BLOCK)))

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.outer * self.blocks + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t job
        for job in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.outer * self.blocks)):
            if self.kind == 0:
                self.accumulate(<const real*>self.operand[0], <real*>self.operand[1], job)
            elif self.kind == 1:
                self.accumulate(<const int32_t*>self.operand[0], <int32_t*>self.operand[1], job)
            else:
                self.accumulate(<const int64_t*>self.operand[0], <int64_t*>self.operand[1], job)

    cdef void accumulate(self, const number* x, number* y, Py_ssize_t job) noexcept nogil:
        cdef Py_ssize_t first = job % self.blocks * BLOCK, n = min(<Py_ssize_t>BLOCK, self.inner - first), i, r
        cdef Py_ssize_t start = job // self.blocks * self.size * self.inner + first, step = self.inner
        cdef const number* before = NULL    # the results one place earlier
        cdef const number* term
        if self.reverse:
            start += (self.size - 1) * self.inner
            step = -step
        for i in range(self.size):
            term = x + start + (i - self.exclusive) * step
            if i == 0:
                for r in range(n):
                    y[start + r] = <number>self.product if self.exclusive else term[r]
            else:
                before = y + start + (i - 1) * step
                if self.product:
                    for r in range(n):
                        y[start + i * step + r] = before[r] * term[r]
                    continue
                for r in range(n):
                    y[start + i * step + r] = before[r] + term[r]


cdef class TopK(Step):
    """The k largest (or smallest) elements along an axis, the first of equals first, and where they were.

    What is not a number is larger than all numbers.

    Args:
        outer, size, inner: sizes of the axes before, of it, and of those after it.
        k: how many, at most `size`.
        largest: whether the largest.
        kind: what an element is: "real", "int32" or "int64".

    Operands: x (outer, size, inner), values (outer, k, inner), places (outer, k, inner) int64.

    Raises:
        ValueError: another kind, or k > size.
    """

    cdef Py_ssize_t size, inner, k, lines, per_chunk
    cdef bint largest
    cdef int kind

    def __init__(self, Py_ssize_t outer, Py_ssize_t size, Py_ssize_t inner, Py_ssize_t k, bint largest=True,
                 str kind="real"):
        self.operands = 3
        if not 0 <= k <= size:
            raise ValueError(f"TopK: k lies in 0..{size}; found {k}")
        self.kind = kind_of(kind)
        self.size, self.inner, self.k, self.largest = size, inner, k, largest
        self.lines = outer * inner if k else 0
        self.per_chunk = max(1, CHUNK // max(1, 8 * size))
        self.scratch_bytes = (k * sizeof(int64_t) + 63) // 64 * 64

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.lines + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t line
        cdef int64_t* heap = <int64_t*>self.scratch_of(thread)
        for line in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.lines)):
            if self.kind == 0:
                self.select(<const real*>self.operand[0], <real*>self.operand[1], line, heap)
            elif self.kind == 1:
                self.select(<const int32_t*>self.operand[0], <int32_t*>self.operand[1], line, heap)
            else:
                self.select(<const int64_t*>self.operand[0], <int64_t*>self.operand[1], line, heap)

    cdef bint before(self, const number* x, int64_t i, int64_t j) noexcept nogil:
        """Whether element i comes before element j."""
        cdef number a = x[i * self.inner], b = x[j * self.inner]
        cdef bint no_a = isnan(<double>a), no_b = isnan(<double>b)
        if a == b or (no_a and no_b):
            return i < j
        if no_a or no_b:
            return no_a == self.largest
        return (a > b) == self.largest

    cdef void sink(self, const number* x, int64_t* heap, Py_ssize_t count, Py_ssize_t at) noexcept nogil:
        """Restore the order of a heap, the last element at its root, after a change at `at`."""
        cdef int64_t moved = heap[at]
        cdef Py_ssize_t child = 2 * at + 1
        while child < count:
            if child + 1 < count and self.before(x, heap[child], heap[child + 1]):
                child += 1
            if not self.before(x, moved, heap[child]):
                break
            heap[at] = heap[child]
            at = child
            child = 2 * at + 1
        heap[at] = moved

    cdef void select(self, const number* x, number* values, Py_ssize_t line, int64_t* heap) noexcept nogil:
        cdef Py_ssize_t o = line // self.inner, r = line % self.inner, i, count
        cdef int64_t* places = <int64_t*>self.operand[2] + o * self.k * self.inner + r
        x += o * self.size * self.inner + r
        values += o * self.k * self.inner + r
        for i in range(self.k):
            heap[i] = i
        for i in range(self.k // 2):
            self.sink(x, heap, self.k, self.k // 2 - 1 - i)
        for i in range(self.k, self.size):
            if self.before(x, i, heap[0]):
                heap[0] = i
                self.sink(x, heap, self.k, 0)
        count = self.k
        while count > 0:   # the root is the last of those that are left
            count -= 1
            places[count * self.inner] = heap[0]
            values[count * self.inner] = x[heap[0] * self.inner]
            heap[0] = heap[count]
            self.sink(x, heap, count, 0)
