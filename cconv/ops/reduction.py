"""ReduceSum and its kind, ArgMax, ArgMin.

With y the reduction of x, and dy repeated along the reduced axes, the gradients are

    Sum, Mean     dx = dy, dy / n           L1     dx = dy * sign(x)
    Max, Min      dx = dy, shared equally   L2     dx = dy * x / y, 0 where y is
                  by those that are y       SumSquare    dx = 2 * dy * x
    Prod          dx = dy * y / x           LogSum       dx = dy / sum(x)
                                            LogSumExp    dx = dy * exp(x - y)
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
    """Base: the elements along some axes combined to one; these then have size 1, or with keepdims=0 go.

    The axes are an attribute, from opset 18 on (ReduceSum: 13) a constant input. Without any, all are reduced, or with
    noop_with_empty_axes=1 none: then only what a reduction does to single elements is left.
    """

    inputs = (1, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)
    axes_are_input = 18

    def __init__(self) -> None:
        self.type = f"Reduce{type(self).__name__}"

    def axes(self, call: Call) -> list[int]:
        """Axes to reduce, counted from the front."""
        rank = len(call.spec(0).shape)
        if call.opset < self.axes_are_input:
            given = call.attribute("axes") or []
        else:
            given = call.integers(1, "axes") if call.has(1) else []
            if not given and call.attribute("noop_with_empty_axes", 0):
                return []
        axes = sorted(normalize_axis(call, axis, rank) for axis in given)
        if len(set(axes)) != len(axes):
            raise call.error(ShapeError, "each axis is named once", f"axes {list(given)}")
        return axes if given else list(range(rank))

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
            "reduces integers only where they are known before the model runs",
            f"an input of {x.dtype} that is computed at run time",
            "Cast it to float before, and the result back.",
        )

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, axes, dy = call.input(0), self.axes(call), grads[0]
        assert dy is not None
        if not call.attribute("keepdims", 1):
            kept = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
            dy = lower.as_layout(dy, Layout.ROW_MAJOR).reshaped(kept)
        dx = self.back(lower, call, x, axes, dy)
        return [dx, *[None] * (len(call.specs) - 1)]

    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        """The reduction of x, with axes of size 1 for the reduced ones."""
        raise NotImplementedError(self.type)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        """x's gradient out of that of what `run` gave."""
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
    """The largest, or of bools whether any is true."""

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
        those = binary(lower, "equal", x, call.saved["y"])
        share = binary(lower, "div", dy, reduced(lower, "sum", those, axes))
        return binary(lower, "mul", those, share)


class Min(Max):
    """The smallest, or of bools whether all are true."""

    kind = "min"


class Prod(Reduction):
    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        return reduced(lower, "prod", x, axes)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        """With ones in the place of zeros: the product over x, where there are as many zeros as x itself is."""
        zero = lower.external(np.zeros((), lower.dtype), "zero")
        zeros = binary(lower, "equal", x, zero)
        filled = binary(lower, "add", x, zeros)
        others = binary(lower, "div", reduced(lower, "prod", filled, axes), filled)
        known = binary(lower, "equal", reduced(lower, "sum", zeros, axes), zeros)
        return binary(lower, "mul", binary(lower, "mul", others, known), dy)


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
    """The largest is taken out of the sum, so that it does not overflow; an infinite one is cut to what is finite."""

    def run(self, lower: Lowering, call: Call, x: Tensor, axes: Axes) -> Tensor:
        limit = float(np.finfo(lower.dtype).max)
        top = unary(lower, "clip", reduced(lower, "max", x, axes), -limit, limit)
        total = reduced(lower, "sum", unary(lower, "exp", binary(lower, "sub", x, top)), axes)
        return binary(lower, "add", unary(lower, "log", total), top)

    def back(self, lower: Lowering, call: Call, x: Tensor, axes: Axes, dy: Tensor) -> Tensor:
        return binary(lower, "mul", unary(lower, "exp", binary(lower, "sub", x, call.saved["y"])), dy)


class ArgExtreme(Operator):
    """The index of the largest or smallest element along an axis, of equal ones the first unless
    select_last_index=1 (from opset 12 on)."""

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
