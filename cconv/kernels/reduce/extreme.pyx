"""Where the largest or the smallest element along an axis lies: ArgMax, ArgMin.

The array is (outer, n, inner) in memory with the axis in the middle, so any axis in any layout will do. Up to WIDTH
neighbouring columns are worked on side by side, their best values kept in the thread's scratch. Parallel over outer
times blocks of columns.
"""

from libc.stdint cimport int64_t

from cconv.kernels.core.simd cimport real
from cconv.kernels.core.step cimport OK, Step

cdef enum:
    WIDTH = 256

# Elements of a chunk.
CHUNK = 16384


cdef class ArgExtreme(Step):
    """y[o, i] = the k of the largest (or smallest) x[o, k, i]; of equal ones the first (or last). NaN beats all.

    Args:
        outer, n, inner: sizes of the axes before, of it, and of those after it.
        smallest, last: as above.

    Operands: x (outer, n, inner), y (outer, inner) int64.

    Raises:
        ValueError: n is 0.
    """

    cdef Py_ssize_t outer, n, inner, blocks, jobs, per_chunk
    cdef real sign
    cdef bint last

    def __init__(self, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, bint smallest=False, bint last=False):
        if n < 1:
            raise ValueError("ArgExtreme: the axis has at least one element")
        self.operands = 2
        self.outer, self.n, self.inner = outer, n, inner
        self.sign = -1 if smallest else 1
        self.last = last
        self.blocks = (inner + WIDTH - 1) // WIDTH
        self.jobs = outer * self.blocks
        self.per_chunk = max(1, CHUNK // max(1, n * min(inner, WIDTH)))
        self.scratch_bytes = WIDTH * sizeof(real)

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.jobs + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t job, column, width, k, c, outer
        cdef real* best = <real*>self.scratch_of(thread)
        cdef const real* x
        cdef int64_t* y
        cdef real value
        for job in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.jobs)):
            outer = job // self.blocks
            column = job % self.blocks * WIDTH
            width = min(<Py_ssize_t>WIDTH, self.inner - column)
            x = <const real*>self.operand[0] + outer * self.n * self.inner + column
            y = <int64_t*>self.operand[1] + outer * self.inner + column
            for c in range(width):
                best[c] = self.sign * x[c]
                y[c] = 0
            for k in range(1, self.n):
                x += self.inner
                for c in range(width):
                    value = self.sign * x[c]
                    # A comparison with a best that is NaN is false; NaN itself differs from itself.
                    if value > best[c] or (value != value and (self.last or best[c] == best[c])) \
                            or (self.last and value == best[c]):
                        best[c] = value
                        y[c] = k
