"""Compiled loops of the direct convolution that merges neighbouring pixels into one; see abreast.pyx."""

from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memset

from cconv.kernels.conv.abreast cimport abreast_arguments
from cconv.kernels.core.simd cimport real


cdef inline real* long_weights(const abreast_arguments* s, Py_ssize_t a, Py_ssize_t k) noexcept nogil:
    """Address of the weights of pixel a and output channel k in the longer kernel, at the pixel's first nonzero tap."""
    return <real*>s.weights + (a * s.outputs + k) * s.rows * s.long_taps + a * s.shift


# One chunk is one output channel. Its weights are copied once for each of the m merged pixels.
cdef void lengthen_weights(const void* arguments, char** operand, Py_ssize_t k, char* scratch) noexcept nogil:
    cdef const abreast_arguments* s = <const abreast_arguments*>arguments
    cdef const real* w = <real*>operand[0] + k * s.rows * s.taps
    cdef real* target
    cdef Py_ssize_t a, row
    for a in range(s.m):
        target = long_weights(s, a, k)
        memset(target - a * s.shift, 0, s.rows * s.long_taps * sizeof(real))
        for row in range(s.rows):
            memcpy(target + row * s.long_taps, w + row * s.taps, s.taps * sizeof(real))


# One chunk is one output channel of dw: add up the gradients of its m copies in the longer kernel.
cdef void add_pixels(const void* arguments, char** operand, Py_ssize_t k, char* scratch) noexcept nogil:
    cdef const abreast_arguments* s = <const abreast_arguments*>arguments
    cdef Py_ssize_t rows = s.rows, taps = s.taps, long_taps = s.long_taps, a, row, t
    cdef real* dw = <real*>operand[3] + k * rows * taps
    cdef const real* sums
    for a in range(s.m):
        sums = long_weights(s, a, k)
        for row in range(rows):
            for t in range(taps):
                if a == 0:
                    dw[row * taps + t] = sums[row * long_taps + t]
                else:
                    dw[row * taps + t] += sums[row * long_taps + t]


LOOPS = {
    "lengthen_weights": <uintptr_t>lengthen_weights,
    "add_pixels": <uintptr_t>add_pixels,
}
