"""Layers that build graphs.

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 10),
    ).build((1, 8, 8), seed=0)

Names, argument names, defaults and meaning are PyTorch's; so are the names of the weights ("0.weight",
"1.running_mean"). A layer is a plain value that says which nodes it adds; it holds no arrays and can be built
any number of times. `build` gives an ordinary ONNX model, the same as one that was loaded.

Weights of convolutions and linear layers are drawn from a normal distribution of variance 2 / fan-in, biases
are zero: He et al., "Delving Deep into Rectifiers" (ICCV 2015), section 2.2. The same seed gives the same
weights; a layer's do not depend on what the other layers draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import cconv.plan  # noqa: F401  (gives the models built here their `run`)
from cconv.errors import ShapeError, ValueRangeError, explain
from cconv.graph.builder import Builder, Value
from cconv.graph.model import Model

Sizes = int | Sequence[int]


class Layer:
    """Base of all layers."""

    def add(self, builder: Builder, x: Value) -> Value:
        """Add this layer's nodes to the graph; returns its output."""
        raise NotImplementedError

    def build(self, input_shape: Sequence[int], seed: int = 0, name: str = "network") -> Model:
        """A model of this layer alone.

        Args:
            input_shape: of one sample, (C, spatial...) for feature maps. The batch, "N", may be of any size.
            seed: decides the initial weights.

        Returns:
            A model with the input "input" and the output "output", both float32.

        Raises:
            ShapeError: a layer does not fit the one before it; the message names it.
            UnsupportedOpError: a layer needs an operator that cconv does not have.
        """
        shape = _tuple("build", "input_shape", input_shape, None, least=1)
        if not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise ValueRangeError(explain("build", "seed is a whole number in 0..2**63-1", repr(seed)))
        builder = Builder(seed)
        x = builder.input(shape)
        with builder.scope("", type(self).__name__):
            y = self.add(builder, x)
        return builder.build(x, y, name)


def _tuple(layer: str, name: str, value: Sizes, length: int | None, least: int) -> tuple[int, ...]:
    """`value` as whole numbers >= least; one number stands for all axes.

    Raises:
        ValueRangeError: anything else.
    """
    found = value
    if isinstance(value, (int, np.integer)) and length is not None:
        value = (int(value),) * length
    right = isinstance(value, Sequence) and not isinstance(value, str)
    if right and (length is None or len(value) == length):  # type: ignore[arg-type]
        sizes = tuple(value)  # type: ignore[arg-type]
        if all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= least for n in sizes):
            return tuple(int(n) for n in sizes)
    form = "a tuple of whole numbers" if length is None else f"a whole number or a tuple of {length}"
    raise ValueRangeError(explain(layer, f"{name} is {form}, each >= {least}", repr(found)))


def _positive(layer: Layer, **values: int) -> None:
    for name, value in values.items():
        _tuple(type(layer).__name__, name, value, 1, least=1)


def _he_normal(builder: Builder, shape: Sequence[int], fan_in: float) -> np.ndarray:
    """Normal numbers of variance 2 / fan_in, float32."""
    draw = builder.random().standard_normal(tuple(shape), dtype=np.float32)
    return draw * np.float32(math.sqrt(2.0 / fan_in))


def _channels(x: Value, wanted: int, argument: str, axes: int) -> str:
    """What to do where a layer for feature maps (C, spatial...) does not fit its input."""
    if len(x.shape) != axes + 1:
        return f"Its input should be a feature map of {axes} spatial axes; here a sample has shape {x.shape}."
    return f"{argument} should be {x.shape[0]}." if x.shape[0] != wanted else ""


# Containers.


class Sequential(Layer):
    """Layers one after another; names count them: "0.weight", "1.bias"."""

    def __init__(self, *layers: Layer) -> None:
        _check_layers("Sequential", layers)
        self.layers = layers

    def add(self, builder: Builder, x: Value) -> Value:
        for i, layer in enumerate(self.layers):
            with builder.scope(str(i), f"[{i}] {type(layer).__name__}"):
                x = layer.add(builder, x)
        return x

    def __getitem__(self, i: int) -> Layer:
        return self.layers[i]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"


@dataclass(frozen=True)
class Residual(Layer):
    """body(x) + shortcut(x); without a shortcut, body(x) + x."""

    body: Layer
    shortcut: Layer | None = None

    def __post_init__(self) -> None:
        _check_layers("Residual", [self.body, *([self.shortcut] if self.shortcut else [])])

    def add(self, builder: Builder, x: Value) -> Value:
        with builder.scope("body", f".body {type(self.body).__name__}"):
            y = self.body.add(builder, x)
        if self.shortcut is not None:
            with builder.scope("shortcut", f".shortcut {type(self.shortcut).__name__}"):
                x = self.shortcut.add(builder, x)
        if x.shape != y.shape:  # Add itself would broadcast
            raise ShapeError(
                explain(
                    builder.place,
                    "body and shortcut give the same shape",
                    f"{y.shape} and {x.shape}",
                    "Give it a shortcut that changes the shape as the body does.",
                )
            )
        return builder.node("Add", y, x)


class Concat(Layer):
    """Branches side by side, their outputs joined along axis `dim` (1: channels)."""

    def __init__(self, *branches: Layer, dim: int = 1) -> None:
        _check_layers("Concat", branches)
        if not branches or dim == 0:
            raise ValueRangeError(
                explain("Concat", "joins at least one branch, along an axis after the batch",
                        f"{len(branches)} branches, dim={dim}")
            )  # fmt: skip
        self.branches = branches
        self.dim = dim

    def add(self, builder: Builder, x: Value) -> Value:
        outputs = []
        for i, branch in enumerate(self.branches):
            with builder.scope(str(i), f"[{i}] {type(branch).__name__}"):
                outputs.append(branch.add(builder, x))
        return builder.node("Concat", *outputs, axis=self.dim)

    def __repr__(self) -> str:
        return f"Concat({', '.join(map(repr, self.branches))}, dim={self.dim})"


def _check_layers(place: str, layers: Sequence[Layer]) -> None:
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            hint = f"Write nn.{layer.__name__}(...)." if isinstance(layer, type) else ""
            raise TypeError(explain(f"{place}[{i}]", "is a layer of cconv.nn", repr(layer), hint))


# Layers with weights.


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
        _positive(self, in_channels=self.in_channels, out_channels=self.out_channels, groups=self.groups)
        _check_groups(self, self.in_channels, self.out_channels, self.groups)
        self._geometry()

    def _geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], list[int]]:
        """Kernel, stride, dilation, and ONNX's pads: all begins, then all ends."""
        layer = type(self).__name__
        kernel = _tuple(layer, "kernel_size", self.kernel_size, self.axes, 1)
        stride = _tuple(layer, "stride", self.stride, self.axes, 1)
        dilation = _tuple(layer, "dilation", self.dilation, self.axes, 1)
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid") or (self.padding == "same" and max(stride) > 1):
                rule = 'padding is a size, "valid", or, with stride 1, "same"'
                raise ValueRangeError(explain(layer, rule, f"{self.padding!r} with stride {stride}"))
            total = [d * (k - 1) if self.padding == "same" else 0 for k, d in zip(kernel, dilation)]
            return kernel, stride, dilation, [n // 2 for n in total] + [n - n // 2 for n in total]
        padding = _tuple(layer, "padding", self.padding, self.axes, 0)
        return kernel, stride, dilation, [*padding, *padding]

    def add(self, builder: Builder, x: Value) -> Value:
        kernel, stride, dilation, pads = self._geometry()
        shape = (self.out_channels, self.in_channels // self.groups, *kernel)
        weight = builder.weight("weight", _he_normal(builder, shape, math.prod(shape[1:])))
        bias = builder.weight("bias", np.zeros(self.out_channels, np.float32)) if self.bias else None
        return builder.node(
            "Conv",
            *(x, weight, bias) if bias else (x, weight),
            kernel_shape=list(kernel),
            strides=list(stride),
            dilations=list(dilation),
            pads=pads,
            group=self.groups,
            fix=_channels(x, self.in_channels, "in_channels", self.axes),
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
        _positive(self, in_channels=self.in_channels, out_channels=self.out_channels, groups=self.groups)
        _check_groups(self, self.in_channels, self.out_channels, self.groups)
        self._geometry()

    def _geometry(self) -> list[tuple[int, ...]]:
        least = {"kernel_size": 1, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
        layer = type(self).__name__
        return [_tuple(layer, name, getattr(self, name), self.axes, n) for name, n in least.items()]

    def add(self, builder: Builder, x: Value) -> Value:
        kernel, stride, padding, output_padding, dilation = self._geometry()
        shape = (self.in_channels, self.out_channels // self.groups, *kernel)
        # With a stride, only every stride-th tap of the kernel meets an output pixel.
        fan_in = self.in_channels // self.groups * math.prod(k / s for k, s in zip(kernel, stride))
        weight = builder.weight("weight", _he_normal(builder, shape, max(fan_in, 1.0)))
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
            fix=_channels(x, self.in_channels, "in_channels", self.axes),
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


@dataclass(frozen=True)
class Linear(Layer):
    """y = x W^T + b over the last axis. Weight: (out_features, in_features)."""

    in_features: int
    out_features: int
    bias: bool = True

    def __post_init__(self) -> None:
        _positive(self, in_features=self.in_features, out_features=self.out_features)

    def add(self, builder: Builder, x: Value) -> Value:
        fix = ""
        if x.shape[-1] != self.in_features:
            flat = math.prod(x.shape)
            fix = f"in_features should be {x.shape[-1]}."
            if len(x.shape) > 1:
                fix = f"Put nn.Flatten() before it; in_features should then be {flat}."
        shape = (self.out_features, self.in_features)
        weight = builder.weight("weight", _he_normal(builder, shape, self.in_features))
        bias = builder.weight("bias", np.zeros(self.out_features, np.float32)) if self.bias else None
        if len(x.shape) == 1:
            return builder.node("Gemm", *(x, weight, bias) if bias else (x, weight), transB=1, fix=fix)
        y = builder.node("MatMul", x, builder.node("Transpose", weight, perm=[1, 0]), fix=fix)
        return builder.node("Add", y, bias) if bias else y


@dataclass(frozen=True)
class _BatchNorm(Layer):
    """Normalises each channel, then scales and shifts it.

    Training may use the batch's statistics or the running ones: see `Trainer(batchnorm=...)`.

    Args:
        momentum: share of a new batch in the running statistics.
    """

    num_features: int
    eps: float = 1e-5
    momentum: float = 0.1

    axes: ClassVar[tuple[int, ...]]

    def __post_init__(self) -> None:
        _positive(self, num_features=self.num_features)
        if not (self.eps > 0 and 0 <= self.momentum <= 1):
            raise ValueRangeError(
                explain(
                    type(self).__name__,
                    "eps > 0, and momentum lies in 0..1",
                    f"eps={self.eps}, momentum={self.momentum}",
                )
            )

    def add(self, builder: Builder, x: Value) -> Value:
        fix = ""
        if len(x.shape) - 1 not in self.axes:
            wanted = " or ".join(map(str, self.axes))
            raise ShapeError(
                explain(builder.place, f"its input has {wanted} spatial axes", f"a sample of shape {x.shape}")
            )
        if x.shape[0] != self.num_features:
            fix = f"num_features should be {x.shape[0]}."
        fill = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        count = self.num_features
        arrays = [builder.weight(name, np.full(count, value, np.float32)) for name, value in fill.items()]
        # ONNX counts the share of the old statistics.
        return builder.node(
            "BatchNormalization", x, *arrays, epsilon=float(self.eps), momentum=1.0 - self.momentum, fix=fix
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L)."""

    axes = (0, 1)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W)."""

    axes = (2,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W)."""

    axes = (3,)


# Activations.


@dataclass(frozen=True)
class ReLU(Layer):
    """max(x, 0)"""

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("Relu", x)


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """x where x >= 0, else negative_slope * x"""

    negative_slope: float = 0.01

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("LeakyRelu", x, alpha=float(self.negative_slope))


@dataclass(frozen=True)
class ReLU6(Layer):
    """min(max(x, 0), 6)"""

    def add(self, builder: Builder, x: Value) -> Value:
        low = builder.weight("min", np.array(0, np.float32))
        high = builder.weight("max", np.array(6, np.float32))
        return builder.node("Clip", x, low, high)


@dataclass(frozen=True)
class Sigmoid(Layer):
    """1 / (1 + exp(-x))"""

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("Sigmoid", x)


@dataclass(frozen=True)
class Tanh(Layer):
    """tanh(x)"""

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("Tanh", x)


@dataclass(frozen=True)
class Softmax(Layer):
    """exp(x) / sum(exp(x)) along axis `dim` (1: classes, channels)."""

    dim: int = 1

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("Softmax", x, axis=self.dim)


@dataclass(frozen=True)
class LogSoftmax(Layer):
    """log(softmax(x)) along axis `dim` (1: classes, channels)."""

    dim: int = 1

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("LogSoftmax", x, axis=self.dim)


# Pooling.


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
            _tuple(layer, "dilation", self.dilation, self.axes, 1),
        )

    def add(self, builder: Builder, x: Value) -> Value:
        kernel, stride, padding, dilation = self._geometry()
        return builder.node(
            "MaxPool",
            x,
            kernel_shape=list(kernel),
            strides=list(stride),
            pads=[*padding, *padding],
            dilations=list(dilation),
            ceil_mode=int(self.ceil_mode),
            fix=_channels(x, x.shape[0], "", self.axes),
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

    def add(self, builder: Builder, x: Value) -> Value:
        kernel, stride, padding = _window(self, self.kernel_size, self.stride, self.padding, self.axes)
        return builder.node(
            "AveragePool",
            x,
            kernel_shape=list(kernel),
            strides=list(stride),
            pads=[*padding, *padding],
            ceil_mode=int(self.ceil_mode),
            count_include_pad=int(self.count_include_pad),
            fix=_channels(x, x.shape[0], "", self.axes),
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
    kernel = _tuple(name, "kernel_size", kernel_size, axes, 1)
    strides = kernel if stride is None else _tuple(name, "stride", stride, axes, 1)
    pads = _tuple(name, "padding", padding, axes, 0)
    if any(2 * pad > size for pad, size in zip(pads, kernel)):
        raise ValueRangeError(explain(name, "padding is at most half the kernel", f"{pads} for {kernel}"))
    return kernel, strides, pads


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """Mean over all spatial axes, which stay as axes of size 1."""

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("GlobalAveragePool", x)


@dataclass(frozen=True)
class GlobalMaxPool(Layer):
    """Largest value over all spatial axes, which stay as axes of size 1."""

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("GlobalMaxPool", x)


# The rest.


@dataclass(frozen=True)
class Flatten(Layer):
    """The axes start_dim..end_dim as one; start_dim >= 1 keeps the batch."""

    start_dim: int = 1
    end_dim: int = -1

    def add(self, builder: Builder, x: Value) -> Value:
        rank = len(x.shape) + 1
        start, end = (n + rank if n < 0 else n for n in (self.start_dim, self.end_dim))
        if not 1 <= start <= end < rank:
            raise ShapeError(
                explain(
                    builder.place,
                    f"1 <= start_dim <= end_dim < {rank}, the input's number of axes",
                    f"start_dim={self.start_dim}, end_dim={self.end_dim}",
                )
            )
        if (start, end) == (1, rank - 1):
            return builder.node("Flatten", x, axis=1)
        # 0 copies an axis, which keeps the batch open.
        target = [0] * start + [-1] + list(x.spec.shape[end + 1 :])
        return builder.node("Reshape", x, builder.weight("shape", np.array(target, np.int64)))


@dataclass(frozen=True)
class Dropout(Layer):
    """In training, zeroes values with probability p and scales the others by 1 / (1 - p)."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            raise ValueRangeError(explain("Dropout", "p lies in 0 <= p < 1", repr(self.p)))

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("Dropout", x, builder.weight("ratio", np.array(self.p, np.float32)))


@dataclass(frozen=True)
class Identity(Layer):
    """x"""

    def add(self, builder: Builder, x: Value) -> Value:
        return builder.node("Identity", x)


__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Concat",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
