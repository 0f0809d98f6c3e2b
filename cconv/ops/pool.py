"""Pooling: the maximum or the mean of each window, channel by channel.

All steps work channels-last. The backward pass of max pooling needs the position of each window's maximum, not the
input. In a training plan the forward step stores these positions (`winner`), so that the input's memory is free
afterwards.
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
LARGEST_IMAGE = 2**31 - 1  # The position of a maximum within the image is stored in 32 bits (in 64 for float64).


class Pool(Operator):
    """Base class of all pooling operators."""

    per_example = True
    also: tuple[type, ...] = ()
    """Dtypes that the operator takes besides the floating-point dtypes."""

    def feature_map(self, call: Call, most: int, axes: str) -> Spec:
        """Shape and dtype of input 0, whose rank must lie in 3..most.

        Raises:
            ShapeError: another rank.
            DTypeError: a dtype that the operator does not take.
        """
        spec = self.require_rank(call, 0, 3, most, axes)
        if not is_real(spec.dtype) and spec.dtype not in self.also:
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        return spec


class WindowPool(Pool):
    """Base class of pooling with a sliding window. Attributes newer than opset 7 are accepted at any opset."""

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
        """Arguments of the steps in kernels/pool/pool.pyx: images, channels, spatial sizes, number of windows along
        each axis, then kernel, stride, dilation and pads_begin of the window."""
        images, channels, *sizes = call.spec(0).shape
        w = self.window(call)
        windows = call.results[0].shape[2:]
        return images, channels, sizes, windows, w.kernel, w.stride, w.dilation, w.pads_begin


class MaxPool(WindowPool):
    """Maximum of each window, and as an optional second output its index in x (int64, without a gradient).

    Among equal values the first in row-major order is the maximum; it alone receives the gradient. NaN counts as
    greater than every number.
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
        # Indices count from the first image of the batch, so an image's indices depend on its position in the batch.
        return call.output_count == 1

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        # Quantised networks pool 8-bit integers. Floats represent these exactly.
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
        if grads[0] is None:  # Only the indices were used, which have no gradient.
            return [None]
        dy = lower.as_layout(grads[0], Layout.CHANNELS_LAST)
        dx = lower.tensor(call.spec(0).shape, Layout.CHANNELS_LAST)
        step = pool.MaxPoolGradient(lower.build, *self.geometry(call))
        lower.emit(step, reads=[dy, call.saved["winner"]], writes=[dx])
        return [dx]


class RectifiedMaxPool(MaxPool):
    """MaxPool(Relu(x)) in one pass: the maximum of 0 and the window. A window without positive values has no gradient.

    This is not an ONNX operator; patterns.py makes it from the two nodes. Forward it is as fast as MaxPool. The
    backward pass needs neither the input of MaxPool nor a pass over its gradient for Relu.
    """

    floor = 0.0


class AveragePool(WindowPool):
    """Mean of x in each window.

    With count_include_pad=1 padding counts as zeros, else it is left out of the mean. Positions past the padding, which
    ceil_mode=1 allows a window to cover, are always left out.
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
        """Whether the only window is the whole image. Older exporters write global average pooling this way."""
        window = self.window(call)
        return (
            window.kernel == call.spec(0).shape[2:]
            and not any(window.pads_begin + window.pads_end)
            and all(d == 1 or k == 1 for k, d in zip(window.kernel, window.dilation))
        )


class GlobalPool(Pool):
    """Base class of pooling over all spatial axes. These stay in the output, with size 1."""

    def shapes(self, call: Call) -> list[Spec]:
        spec = self.feature_map(call, 8, "(N, C, spatial...)")
        if not 1 <= math.prod(spec.shape[2:]) <= LARGEST_IMAGE:
            raise call.error(ShapeError, f"an image has 1 to {LARGEST_IMAGE} pixels", f"spatial sizes {spec.shape[2:]}")
        return [Spec((*spec.shape[:2], *(1 for _ in spec.shape[2:])), spec.dtype)]


class GlobalAveragePool(GlobalPool):
    """Mean of x over all spatial axes."""

    type = "GlobalAveragePool"

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [global_average(lower, call)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return [global_average_gradient(lower, call, grads[0])]


class GlobalMaxPool(GlobalPool):
    """Maximum of x over all spatial axes. Among equal values only the first receives the gradient."""

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
        """Arguments of the steps in kernels/pool/pool.pyx: the image as one spatial axis, and one window over it."""
        images, channels, *sizes = call.spec(0).shape
        pixels = (math.prod(sizes),)
        return images, channels, pixels, (1,), pixels, (1,), (1,), (0,)


def global_average(lower: Lowering, call: Call, x: Tensor | None = None) -> Tensor:
    """Emit the mean over all spatial axes. Returns a tensor of the shape of the node's output.

    Args:
        x: tensor to average, of the input's shape; default: the node's input.
    """
    x = lower.as_layout(call.input(0) if x is None else x, Layout.CHANNELS_LAST)
    y = lower.tensor(call.results[0].shape, Layout.CHANNELS_LAST)
    lower.emit(pool.GlobalAverage(lower.build, *_image_shape(call)), reads=[x], writes=[y])
    return y


def global_average_gradient(lower: Lowering, call: Call, grad: Tensor) -> Tensor:
    """Emit the gradient of `global_average`: dy / pixels at every pixel of the image."""
    dy = lower.as_layout(grad, Layout.CHANNELS_LAST)
    dx = lower.tensor(call.spec(0).shape, Layout.CHANNELS_LAST)
    lower.emit(pool.GlobalAverageGradient(lower.build, *_image_shape(call)), reads=[dy], writes=[dx])
    return dx


def _image_shape(call: Call) -> tuple[int, int, int]:
    """Number of images, of pixels per image, and of channels."""
    images, channels, *sizes = call.spec(0).shape
    return images, math.prod(sizes), channels


OPERATORS: list[Operator] = [MaxPool(), AveragePool(), GlobalAveragePool(), GlobalMaxPool()]
