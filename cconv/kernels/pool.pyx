"""Pooling over channels-last feature maps (N, depth, height, width, C); missing spatial axes have size 1.

Forward and backward are one loop: each pixel of the target gathers from the pixels of the source that belong to
it, row by row, a vector of channels at a time. Forward, the target is the output and a window's taps are gathered.
Backward, the target is dx and the windows that have a tap on its pixel are gathered, so nothing is added into
memory that another chunk writes, and no pass to zero dx is needed.

Along one axis, window o has tap k at position i when o * stride + k * dilation = i + pads_begin. For a given
o the positions i are an arithmetic progression (step: dilation). For a given i the windows o are one, too:
the equation fixes o modulo dilation / gcd(stride, dilation). So for either direction a table of first and
count, and one step, say all there is to know; padding, dilation and ragged ends are in the tables, and
the loops have no test for a border.

Parallel over pixels of the target, flattened over images; every chunk writes pixels of its own.
"""

import math

import numpy as np

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from cconv.kernels.simd cimport VL, real, vf, vload, vload_n, vset, vstore, vstore_n, vzero
from cconv.kernels.step cimport OK, Step

cdef extern from *:
    """
    #include <float.h>
    /* What a window without any tap yields, the same as in onnxruntime. */
    #ifdef CCONV_FLOAT64
    #define LOWEST (-DBL_MAX)
    #else
    #define LOWEST (-FLT_MAX)
    #endif

    /* best = max(best, x), where = at for the lanes that changed. The first of equals stays; a NaN is taken and
       kept, so that it shows in the output, as in PyTorch. */
    INLINE void keep_max(vf x, lane at, vf *best, vi *where)
    {
        vi take = (x > *best) | (x != x);
        *best = vselect(take, x, *best);
        *where = (at & take) | (*where & ~take);
    }
    INLINE vi lanes_of(lane at) { return (vi){0} + at; }
    INLINE vf bits_of(vi v) { return (vf)v; }

    /* value where winner == at, else 0. The winners come through vload, as bits. */
    INLINE vf if_winner(vf winner, lane at, vf value) { return (vf)(((vi)winner == at) & (vi)value); }
    """
    ctypedef int lane "lane"     # integer as wide as `real`: int32, in the float64 build int64
    ctypedef int vi
    const real LOWEST
    void keep_max(vf x, lane at, vf* best, vi* where) nogil
    vi lanes_of(lane at) nogil
    vf bits_of(vi v) nogil
    vf if_winner(vf winner, lane at, vf value) nogil

# dtype of the winners that MaxPool keeps.
WINNER = np.dtype(np.int32 if sizeof(real) == 4 else np.int64)

cdef enum:
    MAX_AXES = 3
    PART = 32     # rows that are summed in `real` before the sum goes to a double
    BLOCK = 256   # channels of a chunk of the global average

# Loads that a chunk should at least do.
CHUNK = 32768


cdef inline vf load(const real* p, Py_ssize_t n) noexcept nogil:
    return vload(p) if n == VL else vload_n(p, n)


cdef inline void store(real* p, vf v, Py_ssize_t n) noexcept nogil:
    if n == VL:
        vstore(p, v)
    else:
        vstore_n(p, v, n)


def spatial(values, int fill):
    """`values` of one to three spatial axes as depth, height, width.

    Raises:
        ValueError: more than three axes.
    """
    if len(values) > MAX_AXES:
        raise ValueError(f"pooling: at most {MAX_AXES} spatial axes; found {len(values)}")
    return (fill,) * (MAX_AXES - len(values)) + tuple(int(value) for value in values)


def taps_inside(size, windows, kernel, stride, dilation, begin):
    """For each window along one axis the positions of its taps inside 0..size-1: (first, count, step)."""
    start = np.arange(windows) * stride - begin
    lowest = np.maximum(0, -(start // dilation))
    past = np.minimum(kernel, (size - 1 - start) // dilation + 1)
    return start + lowest * dilation, np.maximum(0, past - lowest), dilation


def windows_over(size, windows, kernel, stride, dilation, begin):
    """For each position along one axis the windows that have a tap on it: (first, count, step)."""
    common = math.gcd(stride, dilation)
    step = dilation // common
    place = np.arange(size) + begin
    lowest = np.maximum(0, -((dilation * (kernel - 1) - place) // stride))
    highest = np.minimum(windows - 1, place // stride)
    residue = place // common % step * pow(stride // common, -1, step) % step
    first = lowest + (residue - lowest) % step
    count = np.where(place % common == 0, np.maximum(0, (highest - first) // step + 1), 0)
    return first, count, step


cdef class Sliding(Step):
    """Base: every target pixel gathers from the source pixels that the tables name.

    Args:
        images, channels: sizes of the axes N and C.
        sizes: spatial sizes of the feature maps that are pooled.
        windows: spatial sizes of what comes out, the number of windows along each axis.
        kernel, stride, dilation, pads_begin: of the window, one entry per spatial axis.

    Raises:
        ValueError: more than three spatial axes, axes that disagree in number, an image of 2^31 pixels.
    """

    cdef Py_ssize_t channels, vectors
    cdef Py_ssize_t source_size[MAX_AXES]
    cdef Py_ssize_t target_size[MAX_AXES]
    cdef Py_ssize_t source_pixels, target_pixels     # of one image
    cdef Py_ssize_t* first[MAX_AXES]
    cdef Py_ssize_t* count[MAX_AXES]
    cdef Py_ssize_t step[MAX_AXES]
    cdef Py_ssize_t pixels, per_chunk
    cdef bint single                                  # each target pixel has one source pixel
    cdef list tables                                 # owners of the memory that first and count point to

    cdef int plan(self, images, channels, sizes, windows, kernel, stride, dilation, pads_begin,
                  bint backward) except -1:
        if len({len(axes) for axes in (sizes, windows, kernel, stride, dilation, pads_begin)}) != 1:
            raise ValueError("pooling: sizes, windows, kernel, stride, dilation and pads have one entry per axis")
        geometry = list(zip(spatial(sizes, 1), spatial(windows, 1), spatial(kernel, 1), spatial(stride, 1),
                            spatial(dilation, 1), spatial(pads_begin, 0)))
        self.channels = channels
        self.vectors = (self.channels + VL - 1) // VL
        self.tables = []
        self.source_pixels = self.target_pixels = 1
        self.single = True
        busiest = 1
        for axis, (size, window, k, s, d, begin) in enumerate(geometry):
            table = windows_over if backward else taps_inside
            first, count, step = table(size, window, k, s, d, begin)
            first, count = (np.ascontiguousarray(array, dtype=np.intp) for array in (first, count))
            self.tables += [first, count]
            self.first[axis] = <Py_ssize_t*><uintptr_t>first.ctypes.data
            self.count[axis] = <Py_ssize_t*><uintptr_t>count.ctypes.data
            self.step[axis] = step
            self.source_size[axis], self.target_size[axis] = (window, size) if backward else (size, window)
            self.source_pixels *= self.source_size[axis]
            self.target_pixels *= self.target_size[axis]
            self.single &= bool((count == 1).all())
            busiest *= max(1, int(count.max(initial=0)))
        if max(self.source_pixels, self.target_pixels) >= 2**31:
            raise ValueError("pooling: an image has fewer than 2^31 pixels")
        self.pixels = images * self.target_pixels
        self.per_chunk = max(1, CHUNK // (busiest * max(1, self.channels)))
        return 0

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.pixels + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t t = i * self.per_chunk
        cdef Py_ssize_t end = min(t + self.per_chunk, self.pixels)
        cdef Py_ssize_t w = t % self.target_size[2]
        cdef Py_ssize_t h = t // self.target_size[2] % self.target_size[1]
        cdef Py_ssize_t d = t // (self.target_size[2] * self.target_size[1]) % self.target_size[0]
        cdef Py_ssize_t image = t // self.target_pixels, stop
        while t < end:
            stop = min(self.target_size[2], w + end - t)
            self.row(image * self.source_pixels, d, h, w, stop, t)
            t += stop - w
            w = 0
            h += 1
            if h == self.target_size[1]:
                h = 0
                d += 1
                if d == self.target_size[0]:
                    d = 0
                    image += 1

    cdef void row(self, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t stop,
                  Py_ssize_t t) noexcept nogil:
        """Compute target pixels t.., at (d, h, w..stop-1) in their image, whose source image begins at pixel `source`."""


cdef class MaxPool(Sliding):
    """y = the largest x under each window; winner = its pixel in the image, depth x height x width row-major.

    The first of equals wins, in row-major order; a NaN wins over all. A window without a tap inside yields the
    lowest finite number and the winner -1.

    Args:
        floor: where it is given, a window none of whose x is above it yields the floor and the winner -1.
        The others as for Sliding.

    Operands: x (images, *sizes, channels), y (images, *windows, channels), winner like y, of dtype WINNER
    (may be absent).
    """

    cdef real floor
    cdef bint floored

    def __init__(self, images, channels, sizes, windows, kernel, stride, dilation, pads_begin, floor=None):
        self.operands = 3
        self.floored = floor is not None
        self.floor = floor if self.floored else -INFINITY
        self.plan(images, channels, sizes, windows, kernel, stride, dilation, pads_begin, False)

    cdef void row(self, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t stop,
                  Py_ssize_t t) noexcept nogil:
        # Here and below what the loops need of `self` is held in variables: the compiler cannot know that a store leaves
        # it as it is, and loads it anew.
        cdef Py_ssize_t channels = self.channels
        cdef const real* image = <real*>self.operand[0] + source * channels
        cdef real* y = <real*>self.operand[1] + t * channels
        cdef real* winner = <real*>self.operand[2]
        cdef const Py_ssize_t* first = self.first[2]
        cdef const Py_ssize_t* count = self.count[2]
        cdef Py_ssize_t deep = self.count[0][d], high = self.count[1][h], wide
        cdef Py_ssize_t line = (self.first[0][d] * self.source_size[1] + self.first[1][h]) * self.source_size[2]
        cdef Py_ssize_t across = self.step[2], down = self.step[1] * self.source_size[2]
        cdef Py_ssize_t deeper = self.step[0] * self.source_size[1] * self.source_size[2] - high * down
        cdef Py_ssize_t begin, at, pixel, n, v, i, j, k
        cdef const real* x
        cdef bint floored = self.floored
        cdef vf floor = vset(self.floor), best
        cdef vi where
        if winner != NULL:
            winner += t * channels
        for w in range(w, stop):
            wide = count[w]
            begin = line + first[w]
            v = 0
            while v < channels:
                n = min(<Py_ssize_t>VL, channels - v)
                if deep > 0 and high > 0 and wide > 0:
                    best = floor
                    where = lanes_of(<lane>-1 if floored else <lane>begin)
                else:
                    best = vset(LOWEST)
                    where = lanes_of(-1)
                at = begin
                for i in range(deep):
                    for j in range(high):
                        pixel = at
                        x = image + at * channels + v
                        for k in range(wide):
                            keep_max(load(x, n), <lane>pixel, &best, &where)
                            pixel += across
                            x += across * channels
                        at += down
                    at += deeper
                store(y + v, best, n)
                if winner != NULL:
                    store(winner + v, bits_of(where), n)
                v += VL
            y += channels
            if winner != NULL:
                winner += channels


cdef class MaxPoolGradient(Sliding):
    """dx = the sum of dy over the windows that the pixel won.

    Args: as for Sliding.

    Operands: dy and winner (images, *windows, channels), dx (images, *sizes, channels).
    """

    def __init__(self, images, channels, sizes, windows, kernel, stride, dilation, pads_begin):
        self.operands = 3
        self.plan(images, channels, sizes, windows, kernel, stride, dilation, pads_begin, True)

    cdef void row(self, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t stop,
                  Py_ssize_t t) noexcept nogil:
        cdef Py_ssize_t deep = self.count[0][d], high = self.count[1][h], wide
        cdef Py_ssize_t line = (self.first[0][d] * self.source_size[1] + self.first[1][h]) * self.source_size[2]
        cdef const real* dy = <const real*>self.operand[0] + (source + line) * self.channels
        cdef const real* winner = <const real*>self.operand[1] + (source + line) * self.channels
        cdef real* dx = <real*>self.operand[2] + t * self.channels
        cdef Py_ssize_t here = (d * self.target_size[1] + h) * self.target_size[2]
        cdef Py_ssize_t at, n, v, i, j, k
        cdef vf total
        if self.single:
            self.pass_on(dy, winner, dx, <lane>here, w, stop)
            return
        for w in range(w, stop):
            wide = self.count[2][w]
            for v in range(self.vectors):
                n = min(<Py_ssize_t>VL, self.channels - v * VL)
                total = vzero()
                for i in range(deep):
                    for j in range(high):
                        at = (i * self.step[0] * self.source_size[1] + j * self.step[1]) * self.source_size[2]
                        at = (at + self.first[2][w]) * self.channels + v * VL
                        for k in range(wide):
                            total = total + if_winner(load(winner + at, n), <lane>(here + w), load(dy + at, n))
                            at += self.step[2] * self.channels
                store(dx + v * VL, total, n)
            dx += self.channels

    cdef void pass_on(self, const real* dy, const real* winner, real* dx, lane here, Py_ssize_t w,
                      Py_ssize_t stop) noexcept nogil:
        """A row of pixels that are in one window each: nothing is summed. Windows side by side are the most common
        ones, and this takes less than half as long as the loops over taps."""
        cdef const Py_ssize_t* first = self.first[2]
        cdef Py_ssize_t channels = self.channels, at, v, n
        for w in range(w, stop):
            at = first[w] * channels
            v = 0
            while v + VL <= channels:
                vstore(dx + v, if_winner(vload(winner + at + v), here + <lane>w, vload(dy + at + v)))
                v += VL
            if v < channels:
                n = channels - v
                vstore_n(dx + v, if_winner(vload_n(winner + at + v, n), here + <lane>w, vload_n(dy + at + v, n)), n)
            dx += channels


cdef class Averaging(Sliding):
    """Base of average pooling: the number that each window divides by is a product over the axes."""

    cdef real* divisor[MAX_AXES]

    cdef int divide(self, sizes, windows, kernel, stride, dilation, pads_begin, pads_end,
                    bint include_pad, bint inverse) except -1:
        """Tables of the divisors: the window's taps inside, or inside the padded feature map. Their inverses
        for the gradient, which would have to divide at every tap."""
        geometry = zip(spatial(sizes, 1), spatial(windows, 1), spatial(kernel, 1), spatial(stride, 1),
                       spatial(dilation, 1), spatial(pads_begin, 0), spatial(pads_end, 0))
        for axis, (size, window, k, s, d, begin, end) in enumerate(geometry):
            if include_pad:
                _, count, _ = taps_inside(size + begin + end, window, k, s, d, 0)
            else:
                _, count, _ = taps_inside(size, window, k, s, d, begin)
            # A window without a tap sums to zero, whatever that is divided by.
            table = np.ascontiguousarray(np.maximum(1, count), dtype=np.float32 if sizeof(real) == 4 else float)
            if inverse:
                np.reciprocal(table, out=table)
            self.tables.append(table)
            self.divisor[axis] = <real*><uintptr_t>table.ctypes.data
        return 0


cdef class AveragePool(Averaging):
    """y = the mean of x under each window.

    Args:
        pads_end: as pads_begin, after each axis.
        include_pad: whether padding counts as zeros (what lies past it, under ceil_mode, never counts).
        The others as for Sliding.

    Operands: x (images, *sizes, channels), y (images, *windows, channels).
    """

    def __init__(self, images, channels, sizes, windows, kernel, stride, dilation, pads_begin, pads_end,
                 include_pad):
        self.operands = 2
        self.plan(images, channels, sizes, windows, kernel, stride, dilation, pads_begin, False)
        self.divide(sizes, windows, kernel, stride, dilation, pads_begin, pads_end, include_pad, False)

    cdef void row(self, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t stop,
                  Py_ssize_t t) noexcept nogil:
        cdef real* y = <real*>self.operand[1] + t * self.channels
        cdef Py_ssize_t deep = self.count[0][d], high = self.count[1][h], wide
        cdef Py_ssize_t line = (self.first[0][d] * self.source_size[1] + self.first[1][h]) * self.source_size[2]
        cdef const real* image = <const real*>self.operand[0] + (source + line) * self.channels
        cdef real outer = self.divisor[0][d] * self.divisor[1][h]
        cdef Py_ssize_t at, n, v, i, j, k
        cdef const real* x
        cdef vf total, divisor
        for w in range(w, stop):
            wide = self.count[2][w]
            divisor = vset(outer * self.divisor[2][w])
            for v in range(self.vectors):
                n = min(<Py_ssize_t>VL, self.channels - v * VL)
                total = vzero()
                for i in range(deep):
                    for j in range(high):
                        at = (i * self.step[0] * self.source_size[1] + j * self.step[1]) * self.source_size[2]
                        x = image + (at + self.first[2][w]) * self.channels + v * VL
                        for k in range(wide):
                            total = total + load(x, n)
                            x += self.step[2] * self.channels
                store(y + v * VL, total / divisor, n)
            y += self.channels


cdef class AveragePoolGradient(Averaging):
    """dx = the sum of dy / divisor over the windows that have a tap on the pixel.

    Args: as for AveragePool.

    Operands: dy (images, *windows, channels), dx (images, *sizes, channels).
    """

    def __init__(self, images, channels, sizes, windows, kernel, stride, dilation, pads_begin, pads_end,
                 include_pad):
        self.operands = 2
        self.plan(images, channels, sizes, windows, kernel, stride, dilation, pads_begin, True)
        self.divide(sizes, windows, kernel, stride, dilation, pads_begin, pads_end, include_pad, True)

    cdef void row(self, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t stop,
                  Py_ssize_t t) noexcept nogil:
        cdef real* dx = <real*>self.operand[1] + t * self.channels
        cdef Py_ssize_t i, j, k, od, oh, ow
        cdef const real* dy
        cdef real outer
        memset(dx, 0, (stop - w) * self.channels * sizeof(real))
        for w in range(w, stop):
            for i in range(self.count[0][d]):
                od = self.first[0][d] + i * self.step[0]
                for j in range(self.count[1][h]):
                    oh = self.first[1][h] + j * self.step[1]
                    outer = self.divisor[0][od] * self.divisor[1][oh]
                    for k in range(self.count[2][w]):
                        ow = self.first[2][w] + k * self.step[2]
                        dy = <const real*>self.operand[0] + self.channels * (
                            source + (od * self.source_size[1] + oh) * self.source_size[2] + ow)
                        self.add_scaled(dx, dy, outer * self.divisor[2][ow])
            dx += self.channels

    cdef inline void add_scaled(self, real* dx, const real* dy, real factor) noexcept nogil:
        """dx += dy * factor, for the channels of a pixel."""
        cdef Py_ssize_t v, n
        for v in range(self.vectors):
            n = min(<Py_ssize_t>VL, self.channels - v * VL)
            store(dx + v * VL, load(dx + v * VL, n) + load(dy + v * VL, n) * vset(factor), n)


cdef class WinnerIndex(Step):
    """index = the winner's place in the row-major input (N, C, spatial...), as ONNX's second output has it.

    Args:
        images, channels: sizes of the axes N and C.
        sizes: spatial sizes of the input.
        windows: spatial sizes of the output.
        column_major: count a pixel's place in its image with the first spatial axis fastest (storage_order 1).

    Operands: winner (images, *windows, channels) of dtype WINNER, index int64 of the same shape.
    """

    cdef Py_ssize_t channels, window_count, pixel_count, pixels, per_chunk
    cdef Py_ssize_t size[MAX_AXES]
    cdef bint column_major

    def __init__(self, images, channels, sizes, windows, column_major):
        self.operands = 2
        self.channels = channels
        self.window_count = math.prod(windows)
        self.pixel_count = math.prod(sizes)
        self.pixels = images * self.window_count
        self.per_chunk = max(1, CHUNK // max(1, self.channels))
        self.column_major = column_major
        for axis, n in enumerate(spatial(sizes, 1)):
            self.size[axis] = n

    cdef int run(self) noexcept nogil:
        self.parallel(0, (self.pixels + self.per_chunk - 1) // self.per_chunk)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef const lane* winner = <const lane*>self.operand[0]
        cdef int64_t* index = <int64_t*>self.operand[1]
        cdef Py_ssize_t pixel, c, place, rest, image
        for pixel in range(i * self.per_chunk, min((i + 1) * self.per_chunk, self.pixels)):
            image = pixel // self.window_count
            for c in range(self.channels):
                place = winner[pixel * self.channels + c]
                if self.column_major and place >= 0:
                    rest = place // self.size[2]
                    place = place % self.size[2] * self.size[1] + rest % self.size[1]
                    place = place * self.size[0] + rest // self.size[1]
                index[pixel * self.channels + c] = (image * self.channels + c) * self.pixel_count + place


cdef class GlobalAverage(Step):
    """y = the mean of x over all pixels of an image.

    Sums of PART pixels are taken in `real` and added up in double, so that the error does not grow with the
    image. Parallel over images and blocks of channels.

    Args:
        images, pixels, channels: sizes of the axes.

    Operands: x (images, pixels, channels), y (images, channels).
    """

    cdef Py_ssize_t images, pixels, channels, blocks

    def __init__(self, Py_ssize_t images, Py_ssize_t pixels, Py_ssize_t channels):
        self.operands = 2
        self.images, self.pixels, self.channels = images, pixels, channels
        self.blocks = (channels + BLOCK - 1) // BLOCK
        self.scratch_bytes = BLOCK * (sizeof(double) + sizeof(real))

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.images * self.blocks)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t image = i // self.blocks, begin = i % self.blocks * BLOCK
        cdef Py_ssize_t n = min(<Py_ssize_t>BLOCK, self.channels - begin)
        cdef double* total = <double*>self.scratch_of(thread)
        cdef real* part = <real*>(total + BLOCK)
        cdef const real* x = <const real*>self.operand[0] + image * self.pixels * self.channels + begin
        cdef real* y = <real*>self.operand[1] + image * self.channels + begin
        cdef Py_ssize_t group, pixel, c
        memset(total, 0, n * sizeof(double))
        for group in range((self.pixels + PART - 1) // PART):
            memset(part, 0, n * sizeof(real))
            for pixel in range(min(<Py_ssize_t>PART, self.pixels - group * PART)):
                for c in range(n):
                    part[c] += x[c]
                x += self.channels
            for c in range(n):
                total[c] += part[c]
        for c in range(n):
            y[c] = <real>(total[c] / self.pixels)


cdef class GlobalAverageGradient(Step):
    """dx = dy / pixels at every pixel of the image.

    Parallel over images and ranges of pixels.

    Args:
        images, pixels, channels: sizes of the axes.

    Operands: dy (images, channels), dx (images, pixels, channels).
    """

    cdef Py_ssize_t images, pixels, channels, per_chunk, ranges

    def __init__(self, Py_ssize_t images, Py_ssize_t pixels, Py_ssize_t channels):
        self.operands = 2
        self.images, self.pixels, self.channels = images, pixels, channels
        self.per_chunk = max(1, CHUNK // max(1, channels))
        self.ranges = (pixels + self.per_chunk - 1) // self.per_chunk

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.images * self.ranges)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t image = i // self.ranges, begin = i % self.ranges * self.per_chunk
        cdef const real* dy = <const real*>self.operand[0] + image * self.channels
        cdef real* dx = <real*>self.operand[1] + (image * self.pixels + begin) * self.channels
        cdef real scale = <real>1 / <real>self.pixels
        cdef Py_ssize_t pixel, c
        for pixel in range(min(self.per_chunk, self.pixels - begin)):
            for c in range(self.channels):
                dx[c] = dy[c] * scale
            dx += self.channels
