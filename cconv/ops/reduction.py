"""ReduceSum, ReduceMean and the other reductions; ArgMax and ArgMin.

With y the reduction of x, n the number of elements reduced to one, and dy repeated along the reduced axes, the
gradients are

    Sum          dx = dy                      L1           dx = dy * sign(x)
    Mean         dx = dy / n                  L2           dx = dy * x / y, 0 where y is 0
    Max, Min     dx = dy / k at the k         SumSquare    dx = 2 * dy * x
                 elements equal to y, else 0  LogSum       dx = dy / sum(x)
    Prod         dx = dy * y / x              LogSumExp    dx = dy * exp(x - y)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

import cconv.kernels.reduce.scan as scan
from cconv.errors import DTypeError, ShapeError, UnsupportedOpError
from cconv.ops.elementwise import BOOL, LONG, binary, cast, is_real, scaled, typed, unary
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.reduce import extent, reduced, repeated, without
from cconv.ops.tensor import Layout, Spec, Tensor

Axes = Sequence[int]


class Reduction(Operator):
    """Base class of reductions. The reduced axes get size 1, or with keepdims=0 are removed.

    The axes are an attribute; from opset 18 on (ReduceSum: 13) they are an input, whose value must be known before the
    model runs. If no axes are given, all are reduced; with noop_with_empty_axes=1 none is. Every element is then a
    reduction of its own: L1 gives abs(x), for example.
    """

    inputs = (1, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)
    axes_are_input = 18

    def __init__(self) -> None:
        self.type = f"Reduce{type(self).__name__}"

    def axes(self, call: Call) -> list[int]:
        """Axes to reduce as sorted non-negative numbers.

        Raises:
            ShapeError: an axis does not exist or is named twice.
        """
        rank = len(call.spec(0).shape)
        if call.opset < self.axes_are_input:
            named = call.attribute("axes") or []
        else:
            named = call.integers(1, "axes") if call.has(1) else []
            if not named and call.attribute("noop_with_empty_axes", 0):
                return []
        axes = sorted(normalize_axis(call, axis, rank) for axis in named)
        if len(set(axes)) != len(axes):
            raise call.error(ShapeError, "each axis is named once", f"axes {list(named)}")
        return axes if named else list(range(rank))

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        axes, keep = self.axes(call), call.attribute("keepdims", 1)
        sizes = [1 if axis in axes else n for axis, n in enumerate(spec.shape) if keep or axis not in axes]
        return [Spec(tuple(sizes), spec.dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and 0 not in self.axes(call)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, axes = call.input(0), self.axes(call)
        if not is_real(x.dtype):
            return [self.of_flags(lower, call, x, axes)]
        y = self.run(lower, call, x, axes)
        call.saved["y"] = y
        return [y if call.attribute("keepdims", 1) else without(lower, y, axes)]

    def of_flags(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        raise call.error(
            UnsupportedOpError,
            "reduces integers only if they are known before the model runs",
            f"an input of {x.dtype} that is computed at run time",
            "Cast it to float before, and the result back.",
        )

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, axes, dy = call.input(0), self.axes(call), grads[0]
        assert dy is not None
        if not call.attribute("keepdims", 1):
            keepdims_shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
            dy = lower.as_layout(dy, Layout.ROW_MAJOR).reshaped(keepdims_shape)
        dx = self.back(lower, call, x, axes, dy)
        return [dx, *[None] * (len(call.specs) - 1)]

    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        """Emit the forward pass. The reduced axes of the result have size 1."""
        raise NotImplementedError(self.type)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        """Emit the backward pass. Returns the gradient of x.

        Args:
            dy: gradient of the result of `run`, with size 1 along the reduced axes.
        """
        raise NotImplementedError(self.type)


class Sum(Reduction):
    axes_are_input = 13

    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        return reduced(lower, "sum", x, axes)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        return repeated(lower, dy, x.shape, x.layout)


class Mean(Reduction):
    def factor(self, x: Tensor, axes: Axes) -> float:
        return 1 / extent(x.shape, axes) if x.size else math.nan

    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        return scaled(lower, reduced(lower, "sum", x, axes), self.factor(x, axes))

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        return repeated(lower, scaled(lower, dy, self.factor(x, axes)), x.shape, x.layout)


class Max(Reduction):
    """The maximum along the axes. For bools: whether any element is true."""

    kind = "max"

    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        return reduced(lower, self.kind, x, axes)

    def of_flags(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        if x.dtype != BOOL:
            return super().of_flags(lower, call, x, axes)
        zero = lower.external(np.zeros((), lower.dtype), "zero")
        y = typed(lower, "less_real", [zero, reduced(lower, self.kind, cast(lower, x, lower.dtype), axes)], BOOL)
        return y if call.attribute("keepdims", 1) else without(lower, y, axes)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        is_extreme = binary(lower, "equal", x, call.saved["y"])
        share = binary(lower, "div", dy, reduced(lower, "sum", is_extreme, axes))
        return binary(lower, "mul", is_extreme, share)


class Min(Max):
    """The minimum along the axes. For bools: whether all elements are true."""

    kind = "min"


class Prod(Reduction):
    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        return reduced(lower, "prod", x, axes)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        """dx is dy times the product of the other elements. That is the product of all elements, with zeros replaced by
        ones, divided by x (by 1 if x is 0); or 0 if one of the other elements is 0."""
        zero = lower.external(np.zeros((), lower.dtype), "zero")
        zeros = binary(lower, "equal", x, zero)
        filled = binary(lower, "add", x, zeros)
        others = binary(lower, "div", reduced(lower, "prod", filled, axes), filled)
        no_other_zero = binary(lower, "equal", reduced(lower, "sum", zeros, axes), zeros)
        return binary(lower, "mul", binary(lower, "mul", others, no_other_zero), dy)


class L1(Reduction):
    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        return reduced(lower, "sum", unary(lower, "abs", x), axes)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        return binary(lower, "mul", unary(lower, "sign", x), dy)


class SumSquare(Reduction):
    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        return reduced(lower, "sum", unary(lower, "square", x), axes)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        return binary(lower, "mul", x, scaled(lower, dy, 2.0))


class L2(Reduction):
    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        return unary(lower, "sqrt", reduced(lower, "sum", unary(lower, "square", x), axes))

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        return binary(lower, "mul", x, binary(lower, "div_or_zero", dy, call.saved["y"]))


class LogSum(Reduction):
    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        call.saved["sum"] = reduced(lower, "sum", x, axes)
        return unary(lower, "log", call.saved["sum"])

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        return repeated(lower, binary(lower, "div", dy, call.saved["sum"]), x.shape, x.layout)


class LogSumExp(Reduction):
    """log(sum(exp(x))), computed as max + log(sum(exp(x - max))), so that exp does not overflow.

    An infinite maximum is clamped to the largest finite number.
    """

    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        limit = float(np.finfo(lower.dtype).max)
        top = unary(lower, "clip", reduced(lower, "max", x, axes), -limit, limit)
        total = reduced(lower, "sum", unary(lower, "exp", binary(lower, "sub", x, top)), axes)
        return binary(lower, "add", unary(lower, "log", total), top)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        return binary(lower, "mul", unary(lower, "exp", binary(lower, "sub", x, call.saved["y"])), dy)


class ArgExtreme(Operator):
    """ArgMax and ArgMin: index of the largest or smallest element along an axis.

    Among equal elements the first counts, or the last with select_last_index=1 (from opset 12 on).
    """

    differentiable: ClassVar[tuple[int, ...] | None] = ()

    def __init__(self, type: str, smallest: bool) -> None:
        self.type = type
        self.smallest = smallest

    def axis(self, call: Call) -> int:
        return normalize_axis(call, call.attribute("axis", 0), len(call.spec(0).shape))

    def shapes(self, call: Call) -> list[Spec]:
        spec, axis = call.spec(0), self.axis(call)
        if not is_real(spec.dtype) and not call.known:
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        if spec.shape[axis] == 0:
            raise call.error(ShapeError, "the axis has at least one element", f"shape {spec.shape}, axis {axis}")
        middle = (1,) if call.attribute("keepdims", 1) else ()
        return [Spec((*spec.shape[:axis], *middle, *spec.shape[axis + 1 :]), LONG)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.axis(call) != 0

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, axis = call.input(0), self.axis(call)
        y = lower.tensor([1 if i == axis else n for i, n in enumerate(x.shape)], x.layout, LONG)
        place, sizes = x.order.index(axis), x.memory_shape
        step = scan.ArgExtreme(
            lower.build,
            math.prod(sizes[:place]),
            sizes[place],
            math.prod(sizes[place + 1 :]),
            smallest=self.smallest,
            last=bool(call.attribute("select_last_index", 0)),
        )
        lower.emit(step, reads=[x], writes=[y])
        return [y if call.attribute("keepdims", 1) else without(lower, y, [axis])]


OPERATORS: list[Operator] = [
    Sum(),
    Mean(),
    Max(),
    Min(),
    Prod(),
    L1(),
    L2(),
    SumSquare(),
    LogSum(),
    LogSumExp(),
    ArgExtreme("ArgMax", smallest=False),
    ArgExtreme("ArgMin", smallest=True),
]
