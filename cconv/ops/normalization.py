"""LpNormalization and MeanVarianceNormalization, built from reductions and elementwise steps because both are rare."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from cconv.errors import DTypeError, ShapeError, ValueRangeError
from cconv.ops.elementwise import binary, is_real, scaled, unary
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.reduce import extent, reduced
from cconv.ops.tensor import Spec, Tensor


def real_input(call: Call) -> Spec:
    spec = call.spec(0)
    if not is_real(spec.dtype):
        raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
    return spec


class LpNormalization(Operator):
    """y = x / n, where n is the 1-norm (p=1) or the 2-norm (p=2) of x along an axis.

    If n is 0, y and the gradient are 0. The gradient, with s = sign(x) for p=1 and s = y for p=2, is

        dx = (dy - s * sum(dy * y)) / n
    """

    type = "LpNormalization"

    def axis(self, call: Call) -> int:
        return normalize_axis(call, call.attribute("axis", -1), len(call.spec(0).shape))

    def shapes(self, call: Call) -> list[Spec]:
        spec = real_input(call)
        self.axis(call)
        if call.attribute("p", 2) not in (1, 2):
            raise call.error(ValueRangeError, "p is 1 or 2", f"{call.attribute('p')}")
        return [spec]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.axis(call) != 0

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, axis = call.input(0), self.axis(call)
        norm = reduced(lower, "sum", unary(lower, "abs" if call.attribute("p", 2) == 1 else "square", x), [axis])
        if call.attribute("p", 2) == 2:
            norm = unary(lower, "sqrt", norm)
        call.saved["norm"] = norm
        return [binary(lower, "div_or_zero", x, norm)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        dy, y = grads[0], call.outputs[0]
        assert dy is not None
        along = reduced(lower, "sum", binary(lower, "mul", dy, y), [self.axis(call)])
        direction = unary(lower, "sign", call.input(0)) if call.attribute("p", 2) == 1 else y
        rest = binary(lower, "sub", dy, binary(lower, "mul", direction, along))
        return [binary(lower, "div_or_zero", rest, call.saved["norm"])]


class MeanVarianceNormalization(Operator):
    """y = d / (s + 1e-9) with d = x - mean and s = sqrt(mean of d^2) over `axes` (default: 0, 2, 3).

    dx = e - mean of e, with e = (dy - d * mean of (dy * d) / (s * (s + 1e-9))) / (s + 1e-9)
    """

    type = "MeanVarianceNormalization"
    since = 9

    def axes(self, call: Call) -> list[int]:
        rank = len(call.spec(0).shape)
        return [normalize_axis(call, axis, rank) for axis in call.attribute("axes", [0, 2, 3])]

    def shapes(self, call: Call) -> list[Spec]:
        spec, axes = real_input(call), self.axes(call)
        if len(set(axes)) != len(axes):
            raise call.error(ShapeError, "each axis is named once", f"axes {call.attribute('axes')}")
        if extent(spec.shape, axes) == 0:
            raise call.error(ShapeError, "the mean is of at least one element", f"shape {spec.shape}, axes {axes}")
        return [spec]

    def mean(self, lower: Lowering, call: Call, x: Tensor) -> Tensor:
        axes = self.axes(call)
        return scaled(lower, reduced(lower, "sum", x, axes), 1 / extent(x.shape, axes))

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return 0 not in self.axes(call)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        d = binary(lower, "sub", x, self.mean(lower, call, x))
        s = unary(lower, "sqrt", self.mean(lower, call, unary(lower, "square", d)))
        divisor = binary(lower, "add", s, lower.external(np.full((), 1e-9, lower.dtype), "epsilon"))
        call.saved.update(d=d, s=s, divisor=divisor)
        return [binary(lower, "div", d, divisor)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        d, s, divisor = call.saved["d"], call.saved["s"], call.saved["divisor"]
        dy = grads[0]
        assert dy is not None
        slope = binary(lower, "div_or_zero", self.mean(lower, call, binary(lower, "mul", dy, d)), s)
        slope = binary(lower, "div", slope, divisor)
        e = binary(lower, "div", binary(lower, "sub", dy, binary(lower, "mul", d, slope)), divisor)
        return [binary(lower, "sub", e, self.mean(lower, call, e))]


OPERATORS: list[Operator] = [LpNormalization(), MeanVarianceNormalization()]
