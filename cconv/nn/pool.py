"""Pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cconv.arguments import Sizes, sizes
from cconv.errors import ValueRangeError, explain
from cconv.graph.builder import GraphBuilder, Value
from cconv.nn.layer import Layer, channels_fix


@dataclass(frozen=True)
class _MaxPool(Layer):
    kernel_size: Sizes
    stride: Sizes | None = None
    padding: Sizes = 0
    dilation: Sizes = 1
    ceil_mode: bool = False

    axes: ClassVar[int]

    def __post_init__(self) -> None:
        self._geometry()

    def _geometry(self) -> tuple[tuple[int, ...], ...]:
        layer = type(self).__name__
        return (
            *_window(self, self.kernel_size, self.stride, self.padding, self.axes),
            sizes(layer, "dilation", self.dilation, self.axes, 1),
        )

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        kernel, stride, padding, dilation = self._geometry()
        return builder.node(
            "MaxPool",
            x,
            kernel_shape=list(kernel),
            strides=list(stride),
            pads=[*padding, *padding],
            dilations=list(dilation),
            ceil_mode=int(self.ceil_mode),
            fix=channels_fix(x, x.shape[0], "", self.axes),
        )


class MaxPool1d(_MaxPool):
    """Largest value of each window of (N, C, L)."""

    axes = 1


class MaxPool2d(_MaxPool):
    """Largest value of each window of (N, C, H, W)."""

    axes = 2


class MaxPool3d(_MaxPool):
    """Largest value of each window of (N, C, D, H, W)."""

    axes = 3


@dataclass(frozen=True)
class _AvgPool(Layer):
    kernel_size: Sizes
    stride: Sizes | None = None
    padding: Sizes = 0
    ceil_mode: bool = False
    count_include_pad: bool = True

    axes: ClassVar[int]

    def __post_init__(self) -> None:
        _window(self, self.kernel_size, self.stride, self.padding, self.axes)

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        kernel, stride, padding = _window(self, self.kernel_size, self.stride, self.padding, self.axes)
        return builder.node(
            "AveragePool",
            x,
            kernel_shape=list(kernel),
            strides=list(stride),
            pads=[*padding, *padding],
            ceil_mode=int(self.ceil_mode),
            count_include_pad=int(self.count_include_pad),
            fix=channels_fix(x, x.shape[0], "", self.axes),
        )


class AvgPool1d(_AvgPool):
    """Mean of each window of (N, C, L)."""

    axes = 1


class AvgPool2d(_AvgPool):
    """Mean of each window of (N, C, H, W)."""

    axes = 2


class AvgPool3d(_AvgPool):
    """Mean of each window of (N, C, D, H, W)."""

    axes = 3


def _window(
    layer: Layer, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, axes: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Kernel, stride (None: the kernel's size) and padding (at most half the kernel) of a pooling window."""
    name = type(layer).__name__
    kernel = sizes(name, "kernel_size", kernel_size, axes, 1)
    strides = kernel if stride is None else sizes(name, "stride", stride, axes, 1)
    pads = sizes(name, "padding", padding, axes, 0)
    if any(2 * pad > size for pad, size in zip(pads, kernel)):
        raise ValueRangeError(explain(name, "padding is at most half the kernel", f"{pads} for {kernel}"))
    return kernel, strides, pads


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """Mean over all spatial axes, which stay as axes of size 1."""

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("GlobalAveragePool", x)


@dataclass(frozen=True)
class GlobalMaxPool(Layer):
    """Largest value over all spatial axes, which stay as axes of size 1."""

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("GlobalMaxPool", x)
