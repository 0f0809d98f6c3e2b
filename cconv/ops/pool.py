"""Pooling: the largest or the mean value under each window, channel by channel.

All of it works channels-last. What the gradient of a maximum needs is where it was, not the input: the
forward step of a training plan stores each window's winner, and the input's memory is free afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

import cconv.kernels.pool.pool as pool
from cconv.errors import DTypeError, ShapeError, ValueRangeError
from cconv.ops.elementwise import cast, is_real
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.ops.window import Window, kernel_of, output_sizes, require_pads_below_kernel, window_of

AXES = "(N, C, one to three spatial axes)"
LARGEST_IMAGE = 2**31 - 1  # a winner is a 32-bit number


class Pool(Operator):
    """Base of all pooling."""

    per_example = True
    also: tuple[type, ...] = ()
    """Dtypes besides the floating-point ones."""

    def feature_map(self, call: Call, most: int, axes: str) -> Spec:
        """Input 0, which must hold numbers that the operator takes and have a rank of 3..most."""
        spec = self.require_rank(call, 0, 3, most, axes)
        if not is_real(spec.dtype) and spec.dtype not in self.also:
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        return spec


class WindowPool(Pool):
    """Base of pooling under a sliding window. Attributes that came after opset 7 are read at any opset."""

    def shapes(self, call: Call) -> list[Spec]:
        spec = self.feature_map(call, 5, AXES)
        window = self.window(call)
        require_pads_below_kernel(call, window)
        sizes = output_sizes(call, window, spec.shape[2:], bool(call.attribute("ceil_mode", 0)))
        if max(math.prod(spec.shape[2:]), math.prod(sizes)) > LARGEST_IMAGE:
            raise call.error(ShapeError, f"an image has at most {LARGEST_IMAGE} pixels", f"{spec.shape[2:]} to {sizes}")
        return [Spec((*spec.shape[:2], *sizes), spec.dtype)]

    def window(self, call: Call) -> Window:
        return window_of(call, call.spec(0).shape[2:], kernel_of(call))

    def geometry(self, call: Call) -> tuple[Any, ...]:
        """What the steps of kernels/pool/pool.pyx take: images, channels, spatial sizes, windows, the window."""
        images, channels, *sizes = call.spec(0).shape
        w = self.window(call)
        windows = call.results[0].shape[2:]
        return images, channels, sizes, windows, w.kernel, w.stride, w.dilation, w.pads_begin


class MaxPool(WindowPool):
    """y = the largest x under each window; optionally also its index in x (int64, without a gradient).

    Of equal values the first in row-major order wins, forward and backward; NaN wins over all.
    """

    type = "MaxPool"
    also = (np.int8, np.uint8)
    floor: float | None = None

    def shapes(self, call: Call) -> list[Spec]:
        (spec,) = super().shapes(call)
        if call.attribute("storage_order", 0) not in (0, 1):
            raise call.error(
                ValueRangeError,
                "storage_order is 0 (row-major) or 1 (column-major)",
                str(call.attribute("storage_order")),
            )
        return [spec, Spec(spec.shape, np.dtype(np.int64))]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return call.output_count == 1  # an index counts from the first image of the batch

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        # Integers of 8 bits, which quantised networks pool, are exact as floats.
        x = cast(lower, lower.as_layout(call.input(0), Layout.CHANNELS_LAST), lower.dtype)
        y = lower.tensor(call.results[0].shape, Layout.CHANNELS_LAST)
        winner = None
        if call.needs_gradient(0) or call.output_count > 1:
            winner = lower.tensor(y.shape, Layout.CHANNELS_LAST, pool.winner_dtype(lower.build))
            call.saved["winner"] = winner
        geometry = self.geometry(call)
        lower.emit(pool.MaxPool(lower.build, *geometry, self.floor), reads=[x], writes=[y, winner])
        y = cast(lower, y, call.results[0].dtype)
        if call.output_count == 1:
            return [y]
        index = lower.tensor(y.shape, Layout.CHANNELS_LAST, np.int64)
        column_major = bool(call.attribute("storage_order", 0))
        step = pool.WinnerIndex(lower.build, *geometry[:4], column_major)
        lower.emit(step, reads=[winner], writes=[index])
        return [y, index]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        if grads[0] is None:  # only the indices were used
            return [None]
        dy = lower.as_layout(grads[0], Layout.CHANNELS_LAST)
        dx = lower.tensor(call.spec(0).shape, Layout.CHANNELS_LAST)
        step = pool.MaxPoolGradient(lower.build, *self.geometry(call))
        lower.emit(step, reads=[dy, call.saved["winner"]], writes=[dx])
        return [dx]


class RectifiedMaxPool(MaxPool):
    """MaxPool(Relu(x)): what is not positive loses against zero, and a window that nothing wins passes no gradient on.

    No ONNX operator, but a pattern of patterns.py. Forward it is as fast as MaxPool; on the way back neither the
    large feature map is needed nor a pass over its gradient for Relu.
    """

    floor = 0.0


class AveragePool(WindowPool):
    """y = the mean of x under each window.

    Padding counts as zeros if count_include_pad says so, else not at all; what a window covers past the
    padding, as ceil_mode allows, never counts.
    """

    type = "AveragePool"

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        if self.is_global(call):
            return [global_average(lower, call)]
        x = lower.as_layout(call.input(0), Layout.CHANNELS_LAST)
        y = lower.tensor(call.results[0].shape, Layout.CHANNELS_LAST)
        lower.emit(pool.AveragePool(lower.build, *self.arguments(call)), reads=[x], writes=[y])
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        if self.is_global(call):
            return [global_average_gradient(lower, call, grads[0])]
        dy = lower.as_layout(grads[0], Layout.CHANNELS_LAST)
        dx = lower.tensor(call.spec(0).shape, Layout.CHANNELS_LAST)
        lower.emit(pool.AveragePoolGradient(lower.build, *self.arguments(call)), reads=[dy], writes=[dx])
        return [dx]

    def arguments(self, call: Call) -> tuple[Any, ...]:
        include_pad = bool(call.attribute("count_include_pad", 0))
        return *self.geometry(call), self.window(call).pads_end, include_pad

    def is_global(self, call: Call) -> bool:
        """Whether there is one window and it is the whole image, as older exporters write a global mean."""
        window = self.window(call)
        return (
            window.kernel == call.spec(0).shape[2:]
            and not any(window.pads_begin + window.pads_end)
            and all(d == 1 or k == 1 for k, d in zip(window.kernel, window.dilation))
        )


class GlobalPool(Pool):
    """Base of pooling over all spatial axes, which stay with size 1."""

    def shapes(self, call: Call) -> list[Spec]:
        spec = self.feature_map(call, 8, "(N, C, spatial...)")
        if not 1 <= math.prod(spec.shape[2:]) <= LARGEST_IMAGE:
            raise call.error(ShapeError, f"an image has 1 to {LARGEST_IMAGE} pixels", f"spatial sizes {spec.shape[2:]}")
        return [Spec((*spec.shape[:2], *(1 for _ in spec.shape[2:])), spec.dtype)]


class GlobalAveragePool(GlobalPool):
    """y = the mean of x over all spatial axes."""

    type = "GlobalAveragePool"

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [global_average(lower, call)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return [global_average_gradient(lower, call, grads[0])]


class GlobalMaxPool(GlobalPool):
    """y = the largest x over all spatial axes; the first of equals passes the gradient on."""

    type = "GlobalMaxPool"

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = lower.as_layout(call.input(0), Layout.CHANNELS_LAST)
        y = lower.tensor(call.results[0].shape, Layout.CHANNELS_LAST)
        winner = lower.tensor(y.shape, y.layout, pool.winner_dtype(lower.build)) if call.needs_gradient(0) else None
        call.saved["winner"] = winner
        lower.emit(pool.MaxPool(lower.build, *self.geometry(call)), reads=[x], writes=[y, winner])
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        dy = lower.as_layout(grads[0], Layout.CHANNELS_LAST)
        dx = lower.tensor(call.spec(0).shape, Layout.CHANNELS_LAST)
        step = pool.MaxPoolGradient(lower.build, *self.geometry(call))
        lower.emit(step, reads=[dy, call.saved["winner"]], writes=[dx])
        return [dx]

    def geometry(self, call: Call) -> tuple[Any, ...]:
        """One window over the image's pixels in a row."""
        images, channels, *sizes = call.spec(0).shape
        pixels = (math.prod(sizes),)
        return images, channels, pixels, (1,), pixels, (1,), (1,), (0,)


def global_average(lower: Lowering, call: Call, x: Tensor | None = None) -> Tensor:
    """The mean over all spatial axes (of x, default: the input) as a tensor of the call's output."""
    x = lower.as_layout(call.input(0) if x is None else x, Layout.CHANNELS_LAST)
    y = lower.tensor(call.results[0].shape, Layout.CHANNELS_LAST)
    lower.emit(pool.GlobalAverage(lower.build, *_image_shape(call)), reads=[x], writes=[y])
    return y


def global_average_gradient(lower: Lowering, call: Call, grad: Tensor) -> Tensor:
    """dy / pixels, spread over the image."""
    dy = lower.as_layout(grad, Layout.CHANNELS_LAST)
    dx = lower.tensor(call.spec(0).shape, Layout.CHANNELS_LAST)
    lower.emit(pool.GlobalAverageGradient(lower.build, *_image_shape(call)), reads=[dy], writes=[dx])
    return dx


def _image_shape(call: Call) -> tuple[int, int, int]:
    """(images, pixels, channels)"""
    images, channels, *sizes = call.spec(0).shape
    return images, math.prod(sizes), channels


OPERATORS: list[Operator] = [MaxPool(), AveragePool(), GlobalAveragePool(), GlobalMaxPool()]
