"""Sums over a window that slides along an axis: the neighbouring channels of LRN.

The array is (outer, n, inner) in memory with the axis in the middle, so any axis in any layout will do. Each sum is
taken anew: windows are short, and a sum carried along would drift. Parallel over outer.
"""

from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport OK, Step

# Elements of a chunk.
CHUNK = 8192


cdef class WindowSum(Step):
    """y[o, k, i] = sum of x[o, k - before .. k + after, i], as far as there are such elements.

    Args:
        outer, n, inner: sizes of the axes before, of it, and of those after it.
        before, after: extent of the window on either side.

    Operands: x, y, both (outer, n, inner); they must not overlap.

    Raises:
        ValueError: a negative extent.
    """

    cdef Py_ssize_t outer, n, inner, before, after, per_chunk

    def __init__(self, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, Py_ssize_t before, Py_ssize_t after):
        if before < 0 or after < 0:
            raise ValueError(f"WindowSum: a window has no negative extent; found {before} and {after}")
        self.operands = 2
        # Beyond the axis there is nothing to walk through, and no offset to overflow.
        self.before, self.after = min(before, max(n - 1, 0)), min(after, max(n - 1, 0))
        self.outer, self.n, self.inner = outer, n, inner
        self.per_chunk = max(1, CHUNK // max(1, n * inner))

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.outer + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t chunk, int thread) noexcept nogil:
        cdef Py_ssize_t o, offset, first, end, i, size = self.n * self.inner
        cdef const real* x
        cdef real* y
        for o in range(chunk * self.per_chunk, min((chunk + 1) * self.per_chunk, self.outer)):
            x = <const real*>self.operand[0] + o * size
            y = <real*>self.operand[1] + o * size
            for i in range(size):
                y[i] = x[i]
            for offset in range(-self.before, self.after + 1):
                if offset == 0:
                    continue
                first = max(<Py_ssize_t>0, -offset) * self.inner
                end = min(self.n, self.n - offset) * self.inner
                for i in range(first, end):
                    y[i] += x[i + offset * self.inner]
