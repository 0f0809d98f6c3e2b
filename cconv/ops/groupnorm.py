"""GroupNormalization and InstanceNormalization: statistics per sample and group of channels.

    y = (x - mean) / sqrt(variance + epsilon) * scale + bias        mean, variance of a sample's group of channels

They use the steps of batch normalisation, with separate statistics for each sample; see kernels/norm/norm.pyx.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cconv.kernels.norm.layernorm as layernorm
import cconv.kernels.norm.norm as norm
from cconv.errors import ModelError, ShapeError, ValueRangeError
from cconv.ops.elementwise import binary, require_real, scaled
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.reduce import reduced, repeated, sum_to
from cconv.ops.tensor import Layout, Spec, Tensor, natural_layout


class GroupNormalization(Operator):
    """Group normalisation. Inputs: x (N, C, ...), scale and bias (C,); up to opset 20 scale and bias are (groups,)."""

    type = "GroupNormalization"
    since = 18
    inputs = (3, 3)
    per_example = True
    least_rank = 2

    def groups(self, call: Call) -> int:
        groups = call.attribute("num_groups")
        if groups is None:
            raise call.error(ModelError, "names the number of groups", "no attribute 'num_groups'")
        channels = call.spec(0).shape[1]
        if groups < 1 or channels % groups:
            raise call.error(ShapeError, "num_groups divides the channels", f"{channels} channels, {groups} groups")
        return int(groups)

    def parameter_shape(self, call: Call) -> tuple[int, ...]:
        return (self.groups(call) if call.opset < 21 else call.spec(0).shape[1],)

    def epsilon(self, call: Call) -> float:
        return float(call.attribute("epsilon", 1e-5))

    def shapes(self, call: Call) -> list[Spec]:
        x = self.require_rank(call, 0, self.least_rank, 8, "(N, C, ...)")
        shape = self.parameter_shape(call)
        for i, name in ((1, "scale"), (2, "bias")):
            if call.spec(i).shape != shape:
                raise call.error(ShapeError, f"input {i} ({name}) has shape {shape}", f"shape {call.spec(i).shape}")
        for i in range(3):
            require_real(call, i)
        if not self.epsilon(call) >= 0:
            raise call.error(ValueRangeError, "epsilon is at least 0", f"{self.epsilon(call)}")
        if 0 in x.shape[1:]:
            raise call.error(ShapeError, "a sample is not empty", f"shape {x.shape}")
        return [x]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = lower.as_layout(call.input(0), natural_layout(len(call.spec(0).shape)))
        batch, rows, channels = sizes = sizes_of(x)
        scale, bias = (self.to_channels(lower, call, call.input(i)) for i in (1, 2))
        mean, inverse = lower.tensor((batch, channels)), lower.tensor((batch, channels))
        groups = self.groups(call)
        lower.emit(
            norm.Statistics(lower.build, rows, channels, self.epsilon(call), batch, groups if groups < channels else 0),
            reads=[x],
            writes=[partials(lower, sizes), mean, None, inverse],
        )
        y = lower.tensor(x.shape, x.layout)
        step = norm.Normalize(lower.build, rows, channels, None, batch)
        lower.emit(step, reads=[x, mean, inverse, scale, bias, None], writes=[y], inplace=True)
        call.saved.update(x=x, mean=mean, inverse=inverse, scale=scale)
        return [y]

    def to_channels(self, lower: Lowering, call: Call, parameter: Tensor) -> Tensor:
        """Convert a parameter, scale or bias, to one value per channel, (C,)."""
        channels, groups = call.spec(0).shape[1], self.groups(call)
        if parameter.shape == (channels,):
            return parameter
        column, shape = parameter.reshaped((groups, 1)), (groups, channels // groups)
        return repeated(lower, column, shape, Layout.ROW_MAJOR).reshaped((channels,))

    def from_channels(self, lower: Lowering, call: Call, gradient: Tensor) -> Tensor:
        """The gradient of `to_channels`: from (C,) to the parameter's shape."""
        groups = self.groups(call)
        if self.parameter_shape(call) == gradient.shape:
            return gradient
        parts = gradient.reshaped((groups, gradient.size // groups))
        return reduced(lower, "sum", parts, [1]).reshaped((groups,))

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, mean, inverse = call.saved["x"], call.saved["mean"], call.saved["inverse"]
        batch, rows, channels = sizes = sizes_of(x)
        assert grads[0] is not None
        dy = lower.as_layout(grads[0], x.layout)
        scales, biases = lower.tensor((batch, channels)), lower.tensor((batch, channels))
        lower.emit(
            norm.ParameterGradient(lower.build, rows, channels, None, batch),
            reads=[dy, x, mean, inverse, None, None, None],
            writes=[None, partials(lower, sizes), scales, biases],
        )
        result: list[Tensor | None] = [None, None, None]
        for i, sums in ((1, scales), (2, biases)):
            if call.needs_gradient(i):
                result[i] = self.from_channels(lower, call, sum_to(lower, sums, (channels,)))
        if call.needs_gradient(0):
            groups, scale = self.groups(call), call.saved["scale"]
            grouped = groups < channels
            if grouped:
                scales, biases = (
                    _group_means(lower, binary(lower, "mul", sums, scale), groups) for sums in (scales, biases)
                )
            result[0] = lower.tensor(x.shape, x.layout)
            step = norm.InputGradient(lower.build, rows, channels, None, batch, grouped)
            reads = [dy, x, mean, inverse, scale, None, scales, biases]
            lower.emit(step, reads=reads, writes=[result[0]], inplace=True)
        return result


def sizes_of(x: Tensor) -> tuple[int, int, int]:
    """(samples, rows of a sample, channels) of a channels-last tensor."""
    batch, channels = x.shape[:2]
    return batch, math.prod(x.shape[2:]), channels


def partials(lower: Lowering, sizes: tuple[int, int, int]) -> Tensor:
    """A tensor (samples * blocks, 2, channels) float64 for the partial results of a reduction over rows."""
    batch, rows, channels = sizes
    blocks = norm.row_blocks_of(rows, channels)
    return lower.tensor((batch * blocks, 2, channels), dtype=float)


def _group_means(lower: Lowering, sums: Tensor, groups: int) -> Tensor:
    """Replace each channel's value in `sums` (N, C) by the mean over the channel's group."""
    batch, channels = sums.shape
    parts = (batch, groups, channels // groups)
    total = reduced(lower, "sum", sums.reshaped(parts), [2])
    mean = scaled(lower, total, groups / channels)
    return repeated(lower, mean, parts, Layout.ROW_MAJOR).reshaped((batch, channels))


class InstanceNormalization(GroupNormalization):
    """Instance normalisation: each channel is a group of its own.

    A row-major input, for example from a Reshape, is not converted to channels-last. Each channel of a sample is then a
    contiguous row, and the kernels of layer normalisation are used.
    """

    type = "InstanceNormalization"
    since = 7
    least_rank = 3

    def groups(self, call: Call) -> int:
        return call.spec(0).shape[1]

    def parameter_shape(self, call: Call) -> tuple[int, ...]:
        return (call.spec(0).shape[1],)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        if x.with_layout(natural_layout(len(x.shape))) is not None:
            return super().forward(lower, call)
        batch, columns, channels = sizes_of(x)
        rows = batch * channels
        mean, inverse = (lower.tensor((rows,)) if any(call.gradients_needed) else None for _ in range(2))
        y = lower.tensor(x.shape)
        step = layernorm.RowNorm(lower.build, rows, columns, self.epsilon(call), channels=channels)
        lower.emit(step, reads=[x, call.input(1), call.input(2)], writes=[y, mean, inverse], inplace=True)
        call.saved.update(x=x, mean=mean, inverse=inverse, by_rows=True)
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        if "by_rows" not in call.saved:
            return super().gradient(lower, call, grads)
        x = call.saved["x"]
        batch, columns, channels = sizes_of(x)
        assert grads[0] is not None
        dy = lower.as_layout(grads[0], Layout.ROW_MAJOR)
        dx = lower.tensor(x.shape) if call.needs_gradient(0) else None
        sums = (
            [lower.tensor((batch, channels)) for _ in range(2)]
            if call.needs_gradient(1) or call.needs_gradient(2)
            else [None, None]
        )
        step = layernorm.RowNormGradient(lower.build, batch * channels, columns, channels=channels)
        reads = [dy, x, call.saved["mean"], call.saved["inverse"], call.input(1)]
        lower.emit(step, reads=reads, writes=[dx, None, *sums], inplace=True)
        gradients = [t if t is None else sum_to(lower, t, (channels,)) for t in sums]
        return [dx, *(t if call.needs_gradient(1 + i) else None for i, t in enumerate(gradients))]


class SpelledGroupNormalization(GroupNormalization):
    """Group normalisation as PyTorch's exporter writes it: scale and bias are (C, 1, ...), to broadcast to the input.

    It is not in the catalogue. Only a pattern of patterns.py creates it.
    """

    def parameter_shape(self, call: Call) -> tuple[int, ...]:
        _, channels, *spatial = call.spec(0).shape
        return (channels, *[1] * len(spatial))

    def to_channels(self, lower: Lowering, call: Call, parameter: Tensor) -> Tensor:
        return lower.as_layout(parameter, Layout.ROW_MAJOR).reshaped((parameter.size,))

    def from_channels(self, lower: Lowering, call: Call, gradient: Tensor) -> Tensor:
        return gradient.reshaped(self.parameter_shape(call))


OPERATORS: list[Operator] = [GroupNormalization(), InstanceNormalization()]
