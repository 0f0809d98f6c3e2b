"""LpPool and GlobalLpPool: y = (sum of |x|^p over a window)^(1 / p).

They are computed in three steps: p-th powers, average pooling, p-th root. The gradient is

    dx = sign(x) |x|^(p - 1) * sum of dy / y^(p - 1) over the windows that cover x

A window with y = 0 adds 0, because the root has no derivative there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cconv.kernels.pool.pool as pool
from cconv.errors import ValueRangeError
from cconv.ops.elementwise import binary, scaled, unary
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.pool import GlobalPool, Pool, WindowPool, global_average, global_average_gradient
from cconv.ops.tensor import Layout, Spec, Tensor


class Norm(Pool):
    """Base class of both: the powers before the mean, the root after it, the gradient. Subclasses compute the mean."""

    per_example = True

    def order(self, call: Call) -> int:
        p = call.attribute("p", 2)
        if p < 1:
            raise call.error(ValueRangeError, "p is at least 1", f"{p}")
        return int(p)

    def taps(self, call: Call) -> int:
        """Number of values in each mean."""
        raise NotImplementedError

    def mean(self, lower: Lowering, call: Call, x: Tensor) -> Tensor:
        raise NotImplementedError

    def mean_gradient(self, lower: Lowering, call: Call, dy: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        p = self.order(call)
        x = lower.as_layout(call.input(0), Layout.CHANNELS_LAST)
        powers = unary(lower, "square", x) if p == 2 else power(lower, unary(lower, "abs", x), p)
        total = scaled(lower, self.mean(lower, call, powers), self.taps(call))
        return [unary(lower, "sqrt", total) if p == 2 else power(lower, total, 1 / p)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        p, y = self.order(call), call.outputs[0]
        x = lower.as_layout(call.input(0), Layout.CHANNELS_LAST)
        dy = lower.as_layout(grads[0], Layout.CHANNELS_LAST)
        if p > 1:
            dy = binary(lower, "div_or_zero", dy, power(lower, y, p - 1))
        dx = scaled(lower, self.mean_gradient(lower, call, dy), self.taps(call))
        if p == 2:
            return [binary(lower, "mul", dx, x)]
        slope = unary(lower, "sign", x)
        if p > 1:
            slope = binary(lower, "mul", slope, power(lower, unary(lower, "abs", x), p - 1))
        return [binary(lower, "mul", dx, slope)]


def power(lower: Lowering, x: Tensor, exponent: float) -> Tensor:
    """Emit x^exponent for x >= 0."""
    return x if exponent == 1 else unary(lower, "power", x, exponent)


class LpPool(Norm, WindowPool):
    """The p-norm of each window. Padding adds nothing."""

    type = "LpPool"

    def taps(self, call: Call) -> int:
        return math.prod(self.window(call).kernel)

    def arguments(self, call: Call) -> tuple[object, ...]:
        """Arguments of pool.AveragePool. The padding at the end is large enough that every window lies within the
        padded image, so that every mean divides by the same number of values, `taps`."""
        images, channels, sizes, windows, kernel, stride, dilation, begin = self.geometry(call)
        extent = self.window(call).extent
        ends = [max(0, (count - 1) * s + e - n - b) for count, s, e, n, b in zip(windows, stride, extent, sizes, begin)]
        return images, channels, sizes, windows, kernel, stride, dilation, begin, ends, True

    def mean(self, lower: Lowering, call: Call, x: Tensor) -> Tensor:
        y = lower.tensor(call.results[0].shape, Layout.CHANNELS_LAST)
        lower.emit(pool.AveragePool(lower.build, *self.arguments(call)), reads=[x], writes=[y])
        return y

    def mean_gradient(self, lower: Lowering, call: Call, dy: Tensor) -> Tensor:
        dx = lower.tensor(call.spec(0).shape, Layout.CHANNELS_LAST)
        lower.emit(pool.AveragePoolGradient(lower.build, *self.arguments(call)), reads=[dy], writes=[dx])
        return dx


class GlobalLpPool(Norm, GlobalPool):
    """The p-norm over all spatial axes."""

    type = "GlobalLpPool"

    def taps(self, call: Call) -> int:
        return math.prod(call.spec(0).shape[2:])

    def mean(self, lower: Lowering, call: Call, x: Tensor) -> Tensor:
        return global_average(lower, call, x)

    def mean_gradient(self, lower: Lowering, call: Call, dy: Tensor) -> Tensor:
        return global_average_gradient(lower, call, dy)

    def shapes(self, call: Call) -> list[Spec]:
        self.order(call)
        return super().shapes(call)


OPERATORS: list[Operator] = [LpPool(), GlobalLpPool()]
