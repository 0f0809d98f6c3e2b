"""Convolutions and transposed convolutions, written once for any number of spatial axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cconv.arguments import Sizes, conv_sizes, sizes
from cconv.errors import ValueRangeError, explain
from cconv.graph.builder import GraphBuilder, Value
from cconv.nn.layer import Layer, channels_fix, he_normal, positive


@dataclass(frozen=True)
class _Conv(Layer):
    """Cross-correlation of (N, in_channels, spatial...), plus a bias per channel.

    Weight: (out_channels, in_channels / groups, kernel...).

    Args:
        padding: zeros on both sides of each axis; "valid" is 0, "same" (stride 1) keeps the size.
    """

    in_channels: int
    out_channels: int
    kernel_size: Sizes
    stride: Sizes = 1
    padding: Sizes | str = 0
    dilation: Sizes = 1
    groups: int = 1
    bias: bool = True

    axes: ClassVar[int]

    def __post_init__(self) -> None:
        positive(self, in_channels=self.in_channels, out_channels=self.out_channels, groups=self.groups)
        _check_groups(self, self.in_channels, self.out_channels, self.groups)
        self._geometry()

    def _geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], list[int]]:
        """Kernel, stride, dilation, and ONNX's pads: all begins, then all ends."""
        place, axes = type(self).__name__, self.axes
        return conv_sizes(place, axes, self.kernel_size, self.stride, self.padding, self.dilation)

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        kernel, stride, dilation, pads = self._geometry()
        shape = (self.out_channels, self.in_channels // self.groups, *kernel)
        weight = builder.weight("weight", he_normal(builder, shape, math.prod(shape[1:])))
        bias = builder.weight("bias", np.zeros(self.out_channels, np.float32)) if self.bias else None
        return builder.node(
            "Conv",
            *(x, weight, bias) if bias else (x, weight),
            kernel_shape=list(kernel),
            strides=list(stride),
            dilations=list(dilation),
            pads=pads,
            group=self.groups,
            fix=channels_fix(x, self.in_channels, "in_channels", self.axes),
        )


class Conv1d(_Conv):
    """Convolution of (N, C, L); arguments as in PyTorch."""

    axes = 1


class Conv2d(_Conv):
    """Convolution of (N, C, H, W); arguments as in PyTorch."""

    axes = 2


class Conv3d(_Conv):
    """Convolution of (N, C, D, H, W); arguments as in PyTorch."""

    axes = 3


@dataclass(frozen=True)
class _ConvTranspose(Layer):
    """The gradient of a convolution by its input, as a layer.

    Weight: (in_channels, out_channels / groups, kernel...).
    """

    in_channels: int
    out_channels: int
    kernel_size: Sizes
    stride: Sizes = 1
    padding: Sizes = 0
    output_padding: Sizes = 0
    groups: int = 1
    bias: bool = True
    dilation: Sizes = 1

    axes: ClassVar[int]

    def __post_init__(self) -> None:
        positive(self, in_channels=self.in_channels, out_channels=self.out_channels, groups=self.groups)
        _check_groups(self, self.in_channels, self.out_channels, self.groups)
        self._geometry()

    def _geometry(self) -> list[tuple[int, ...]]:
        least = {"kernel_size": 1, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
        layer = type(self).__name__
        return [sizes(layer, name, getattr(self, name), self.axes, n) for name, n in least.items()]

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        kernel, stride, padding, output_padding, dilation = self._geometry()
        shape = (self.in_channels, self.out_channels // self.groups, *kernel)
        # With a stride, only every stride-th tap of the kernel meets an output pixel.
        fan_in = self.in_channels // self.groups * math.prod(k / s for k, s in zip(kernel, stride))
        weight = builder.weight("weight", he_normal(builder, shape, max(fan_in, 1.0)))
        bias = builder.weight("bias", np.zeros(self.out_channels, np.float32)) if self.bias else None
        return builder.node(
            "ConvTranspose",
            *(x, weight, bias) if bias else (x, weight),
            kernel_shape=list(kernel),
            strides=list(stride),
            dilations=list(dilation),
            pads=[*padding, *padding],
            output_padding=list(output_padding),
            group=self.groups,
            fix=channels_fix(x, self.in_channels, "in_channels", self.axes),
        )


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of (N, C, L); arguments as in PyTorch."""

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of (N, C, H, W); arguments as in PyTorch."""

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of (N, C, D, H, W); arguments as in PyTorch."""

    axes = 3


def _check_groups(layer: Layer, inputs: int, outputs: int, groups: int) -> None:
    if inputs % groups or outputs % groups:
        raise ValueRangeError(
            explain(
                type(layer).__name__,
                "groups divides in_channels and out_channels",
                f"groups={groups}, in_channels={inputs}, out_channels={outputs}",
            )
        )
