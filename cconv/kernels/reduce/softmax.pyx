"""Softmax and LogSoftmax over one axis of a dense array, and their gradients as functions of the output y.

    y = exp(x - m) / s     dx = y * (dy - sum(dy * y))         m = max x, s = sum exp(x - m)
    y = x - m - log s      dx = dy - exp(y) * sum(dy)

The array is (outer, n, inner) in memory, and the softmax is taken over the middle axis. So any axis in any layout will
do. If inner is 1, a row of n elements is contiguous and is read a vector at a time. Otherwise up to WIDTH neighbouring
columns are worked on side by side, with their maxima and sums in the thread's scratch memory.

Parallel over rows, or over the outer axis times blocks of columns.
"""

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport Step, per_chunk
from cconv.kernels.reduce.softmax cimport WIDTH, softmax_arguments

cdef enum:
    CHUNK = 8192   # elements of a chunk: fewer than in other kernels, as each costs an exponential


cdef class Columns(Step):
    """Base: cuts (outer, n, inner) into rows if inner is 1, else into blocks of columns.

    Args:
        build: whose loops run.
        outer, n, inner: sizes of the axes; the softmax is over the middle one.
        logarithm: LogSoftmax in place of Softmax.
    """

    cdef softmax_arguments sizes

    cdef int plan(self, Build build, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, bint logarithm) except -1:
        cdef softmax_arguments* s = &self.sizes
        self.arguments = s
        s.n, s.inner, s.logarithm = n, inner, logarithm
        s.blocks = ceil_div(inner, WIDTH)
        s.jobs = outer * s.blocks if n else 0
        s.per_chunk = per_chunk(n * min(inner, WIDTH), CHUNK)
        self.chunks = ceil_div(s.jobs, s.per_chunk)
        self.scratch_bytes = 0 if inner == 1 else 2 * WIDTH * build.itemsize
        return 0


cdef class Softmax(Columns):
    """Softmax, or its logarithm, over the middle axis of (outer, n, inner).

    A row that contains NaN or +inf, or that is -inf throughout, becomes NaN.

    Args: as for Columns.

    Operands: x, y (outer, n, inner); y may be x.
    """

    def __init__(self, Build build, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, bint logarithm=False):
        self.operands = 2
        self.loop = build.loop("softmax", "softmax")
        self.plan(build, outer, n, inner, logarithm)


cdef class SoftmaxGradient(Columns):
    """Gradient of Softmax as a function of its output y.

    Args: as for Columns.

    Operands: dy, y, dx (outer, n, inner); dx may be dy or y.
    """

    def __init__(self, Build build, Py_ssize_t outer, Py_ssize_t n, Py_ssize_t inner, bint logarithm=False):
        self.operands = 3
        self.loop = build.loop("softmax", "softmax_gradient")
        self.plan(build, outer, n, inner, logarithm)
