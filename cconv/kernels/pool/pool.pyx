"""Pooling over channels-last feature maps (N, depth, height, width, C); missing spatial axes have size 1.

Forward and backward are one loop. Each pixel of the target gathers from the pixels of the source that belong to it, row by
row, a vector of channels at a time. In the forward pass the target is the output, and the taps of a window are gathered. In
the backward pass the target is dx, and the windows that have a tap on its pixel are gathered. So no chunk adds to memory
that another chunk writes, and dx needs no pass that sets it to 0.

Along one axis, window o has tap k at position i if o * stride + k * dilation = i + pads_begin. For a given o the positions
i are an arithmetic progression with step `dilation`. For a given i the windows o are one, too: the equation fixes o modulo
dilation / gcd(stride, dilation). So for either direction a table of first and count, and one step, describe an axis. Padding,
dilation and ragged ends are in the tables, and the loops test no borders.

Parallel over pixels of the target, flattened over images.
"""

import math

import numpy as np

from libc.math cimport INFINITY
from libc.stdint cimport uintptr_t

from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.step cimport Step, per_chunk
from cconv.kernels.pool.pool cimport (
    BLOCK, MAX_AXES, global_arguments, sliding_arguments, winner_arguments,
)


def winner_dtype(Build build):
    """dtype of the winners that MaxPool writes: an integer as wide as the build's reals."""
    return np.dtype(f"i{build.itemsize}")


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
        build: whose loops run.
        images, channels: sizes of the axes N and C.
        sizes: spatial sizes of the feature maps that are pooled.
        windows: spatial sizes of the result, the number of windows along each axis.
        kernel, stride, dilation, pads_begin: of the window, one entry per spatial axis.

    Raises:
        ValueError: more than three spatial axes, axes that disagree in number, an image of 2^31 pixels.
    """

    cdef sliding_arguments sizes

    cdef int plan(self, images, channels, sizes, windows, kernel, stride, dilation, pads_begin,
                  bint backward) except -1:
        if len({len(axes) for axes in (sizes, windows, kernel, stride, dilation, pads_begin)}) != 1:
            raise ValueError("pooling: sizes, windows, kernel, stride, dilation and pads have one entry per axis")
        geometry = list(zip(spatial(sizes, 1), spatial(windows, 1), spatial(kernel, 1), spatial(stride, 1),
                            spatial(dilation, 1), spatial(pads_begin, 0)))
        cdef sliding_arguments* s = &self.sizes
        self.arguments = s
        s.channels = channels
        s.source_pixels = s.target_pixels = 1
        s.single = True
        busiest = 1
        for axis, (size, window, k, step, d, begin) in enumerate(geometry):
            table = windows_over if backward else taps_inside
            first, count, between = table(size, window, k, step, d, begin)
            s.first[axis], s.count[axis], s.step[axis] = self.longs(first), self.longs(count), between
            s.source_size[axis], s.target_size[axis] = (window, size) if backward else (size, window)
            s.source_pixels *= s.source_size[axis]
            s.target_pixels *= s.target_size[axis]
            s.single &= bool((count == 1).all())
            busiest *= max(1, int(count.max(initial=0)))
        if max(s.source_pixels, s.target_pixels) >= 2**31:
            raise ValueError("pooling: an image has fewer than 2^31 pixels")
        s.pixels = images * s.target_pixels
        s.per_chunk = per_chunk(busiest * max(1, channels))
        self.chunks = ceil_div(s.pixels, s.per_chunk)
        return 0


cdef class MaxPool(Sliding):
    """y = the largest x under each window; winner = its pixel in the image, depth x height x width row-major.

    The first of equals wins, in row-major order; a NaN wins over all. A window without a tap inside yields the
    lowest finite number and the winner -1.

    Args:
        floor: if given, a window none of whose x is above it yields the floor and the winner -1.
        The others as for Sliding.

    Operands: x (images, *sizes, channels), y (images, *windows, channels), winner like y, of dtype winner_dtype(build)
    (may be absent).
    """

    def __init__(self, Build build, images, channels, sizes, windows, kernel, stride, dilation, pads_begin, floor=None):
        self.operands = 3
        self.loop = build.loop("pool", "max_pool")
        self.plan(images, channels, sizes, windows, kernel, stride, dilation, pads_begin, False)
        self.sizes.floored = floor is not None
        self.sizes.floor = -INFINITY if floor is None else floor


cdef class MaxPoolGradient(Sliding):
    """dx = the sum of dy over the windows that the pixel won.

    Args: as for Sliding.

    Operands: dy and winner (images, *windows, channels), dx (images, *sizes, channels).
    """

    def __init__(self, Build build, images, channels, sizes, windows, kernel, stride, dilation, pads_begin):
        self.operands = 3
        self.loop = build.loop("pool", "max_pool_gradient")
        self.plan(images, channels, sizes, windows, kernel, stride, dilation, pads_begin, True)


cdef class Averaging(Sliding):
    """Base of average pooling: the number that each window divides by is a product over the axes."""

    cdef int divide(self, Build build, sizes, windows, kernel, stride, dilation, pads_begin, pads_end,
                    bint include_pad, bint inverse) except -1:
        """Make the tables of divisors: the window's taps inside the feature map, or inside the padded one. The gradient
        gets their inverses, as it would have to divide at every tap."""
        geometry = zip(spatial(sizes, 1), spatial(windows, 1), spatial(kernel, 1), spatial(stride, 1),
                       spatial(dilation, 1), spatial(pads_begin, 0), spatial(pads_end, 0))
        for axis, (size, window, k, s, d, begin, end) in enumerate(geometry):
            if include_pad:
                _, count, _ = taps_inside(size + begin + end, window, k, s, d, 0)
            else:
                _, count, _ = taps_inside(size, window, k, s, d, begin)
            # A window without a tap sums to zero, whatever that is divided by.
            table = np.ascontiguousarray(np.maximum(1, count), dtype=build.dtype)
            if inverse:
                np.reciprocal(table, out=table)
            self.held.append(table)
            self.sizes.divisor[axis] = <const void*><uintptr_t>table.ctypes.data
        return 0


cdef class AveragePool(Averaging):
    """y = the mean of x under each window.

    Args:
        pads_end: as pads_begin, after each axis.
        include_pad: whether padding counts as zeros (what lies past it, under ceil_mode, never counts).
        The others as for Sliding.

    Operands: x (images, *sizes, channels), y (images, *windows, channels).
    """

    def __init__(self, Build build, images, channels, sizes, windows, kernel, stride, dilation, pads_begin, pads_end,
                 include_pad):
        self.operands = 2
        self.loop = build.loop("pool", "average_pool")
        self.plan(images, channels, sizes, windows, kernel, stride, dilation, pads_begin, False)
        self.divide(build, sizes, windows, kernel, stride, dilation, pads_begin, pads_end, include_pad, False)


cdef class AveragePoolGradient(Averaging):
    """dx = the sum of dy / divisor over the windows that have a tap on the pixel.

    Args: as for AveragePool.

    Operands: dy (images, *windows, channels), dx (images, *sizes, channels).
    """

    def __init__(self, Build build, images, channels, sizes, windows, kernel, stride, dilation, pads_begin, pads_end,
                 include_pad):
        self.operands = 2
        self.loop = build.loop("pool", "average_pool_gradient")
        self.plan(images, channels, sizes, windows, kernel, stride, dilation, pads_begin, True)
        self.divide(build, sizes, windows, kernel, stride, dilation, pads_begin, pads_end, include_pad, True)


cdef class WinnerIndex(Step):
    """index = the winner's place in the row-major input (N, C, spatial...), as ONNX's second output has it.

    Args:
        build: whose loops run.
        images, channels: sizes of the axes N and C.
        sizes: spatial sizes of the input.
        windows: spatial sizes of the output.
        column_major: count a pixel's place in its image with the first spatial axis fastest (storage_order 1).

    Operands: winner (images, *windows, channels) of dtype winner_dtype(build), index int64 of the same shape.
    """

    cdef winner_arguments sizes

    def __init__(self, Build build, images, channels, sizes, windows, column_major):
        self.operands = 2
        self.loop = build.loop("pool", "winner_index")
        self.arguments = &self.sizes
        self.sizes.channels = channels
        self.sizes.window_count = math.prod(windows)
        self.sizes.pixel_count = math.prod(sizes)
        self.sizes.pixels = images * self.sizes.window_count
        self.sizes.per_chunk = per_chunk(channels)
        self.sizes.column_major = column_major
        for axis, n in enumerate(spatial(sizes, 1)):
            self.sizes.size[axis] = n
        self.chunks = ceil_div(self.sizes.pixels, self.sizes.per_chunk)


cdef class GlobalAverage(Step):
    """y = the mean of x over all pixels of an image.

    Sums of PART pixels are taken in `real` and added up in double, so that the error does not grow with the
    image. Parallel over images and blocks of channels.

    Args:
        build: whose loops run.
        images, pixels, channels: sizes of the axes.

    Operands: x (images, pixels, channels), y (images, channels).
    """

    cdef global_arguments sizes

    def __init__(self, Build build, Py_ssize_t images, Py_ssize_t pixels, Py_ssize_t channels):
        self.operands = 2
        self.loop = build.loop("pool", "global_average")
        self.arguments = &self.sizes
        self.sizes.images, self.sizes.pixels, self.sizes.channels = images, pixels, channels
        self.sizes.blocks = ceil_div(channels, BLOCK)
        self.scratch_bytes = BLOCK * (sizeof(double) + build.itemsize)
        self.chunks = images * self.sizes.blocks


cdef class GlobalAverageGradient(Step):
    """dx = dy / pixels at every pixel of the image.

    Parallel over images and ranges of pixels.

    Args:
        build: whose loops run.
        images, pixels, channels: sizes of the axes.

    Operands: dy (images, channels), dx (images, pixels, channels).
    """

    cdef global_arguments sizes

    def __init__(self, Build build, Py_ssize_t images, Py_ssize_t pixels, Py_ssize_t channels):
        self.operands = 2
        self.loop = build.loop("pool", "global_average_gradient")
        self.arguments = &self.sizes
        self.sizes.images, self.sizes.pixels, self.sizes.channels = images, pixels, channels
        self.sizes.per_chunk = per_chunk(channels)
        self.sizes.ranges = ceil_div(pixels, self.sizes.per_chunk)
        self.chunks = images * self.sizes.ranges
