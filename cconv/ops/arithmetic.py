"""Add, Sub, Mul, Div, Mod, Pow with broadcasting.

With z = x op y, each gradient is the expression below, summed over the axes along which the operand was broadcast:

    add  dx = dz        dy = dz
    sub  dx = dz        dy = -dz
    mul  dx = dz * y    dy = dz * x
    div  dx = dz / y    dy = -(dz / y) * z
    mod  dx = dz        dy = -dz * floor(x / y), with fmod=1 trunc(x / y)
    pow  dx = dz * y * x^(y - 1)    dy = dz * z * log x, 0 where x is 0
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from cconv.errors import DTypeError, ModelError, ValueRangeError
from cconv.ops.elementwise import binary, broadcast_shape, cast, is_real, is_whole, scaled, whole
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.reduce import sum_to
from cconv.ops.tensor import Spec, Tensor


class Arithmetic(Operator):
    """z = x op y with broadcasting, on floating-point numbers or integers.

    Args:
        type: ONNX's name of the operator.
        kind: name of the loops, in kernels/elementwise/elementwise.h for floating-point numbers and in
            kernels/elementwise/typed.h for integers.
    """

    inputs = (2, 2)

    def __init__(self, type: str, kind: str) -> None:
        self.type = type
        self.kind = kind

    def shapes(self, call: Call) -> list[Spec]:
        a, b = call.spec(0), call.spec(1)
        real = is_real(a.dtype) and is_real(b.dtype)
        if not real and not (a.dtype == b.dtype and is_whole(a.dtype)):
            raise call.error(DTypeError, "takes two inputs of one dtype, of numbers", f"{a.dtype} and {b.dtype}")
        return [Spec(broadcast_shape(call), np.result_type(a.dtype, b.dtype))]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.broadcasts_per_example(call, moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, y = call.input(0), call.input(1)
        return [binary(lower, self.kind, x, y) if is_real(x.dtype) else whole(lower, self.kind, [x, y])]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, y = call.input(0), call.input(1)
        dz = grads[0]
        assert dz is not None
        dx = dy = None
        if self.kind in ("add", "sub"):
            dx = dy = dz
        elif self.kind == "mul":
            dx = binary(lower, "mul", dz, y) if call.needs_gradient(0) else None
            dy = binary(lower, "mul", dz, x) if call.needs_gradient(1) else None
        else:
            dx = binary(lower, "div", dz, y)
            dy = binary(lower, "mul", dx, call.outputs[0]) if call.needs_gradient(1) else None
        result: list[Tensor | None] = [None, None]
        if call.needs_gradient(0) and dx is not None:
            result[0] = sum_to(lower, dx, x.shape)
        if call.needs_gradient(1) and dy is not None:
            total = sum_to(lower, dy, y.shape)
            result[1] = scaled(lower, total, -1.0) if self.kind in ("sub", "div") else total
        return result

    def fold(self, call: Call) -> list[np.ndarray] | None:
        integers = call.known and is_whole(call.results[0].dtype)
        if integers and self.kind == "div" and not np.all(call.constant(1, "the divisor")):
            raise call.error(ValueRangeError, "the divisor of integers is not 0", "a divisor of 0")
        return super().fold(call)


class Mod(Arithmetic):
    """Remainder of x / y. It has the sign of y, or with fmod=1 the sign of x. Up to opset 27, floats need fmod=1."""

    since = 10

    def like_c(self, call: Call) -> bool:
        return bool(call.attribute("fmod", 0))

    def shapes(self, call: Call) -> list[Spec]:
        specs = super().shapes(call)
        if is_real(specs[0].dtype) and not self.like_c(call) and call.opset < 28:
            raise call.error(ModelError, "floating-point numbers need fmod=1 up to opset 27", "fmod=0")
        return specs

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, y = call.input(0), call.input(1)
        kind = "fmod" if self.like_c(call) else "mod"
        return [binary(lower, kind, x, y) if is_real(x.dtype) else whole(lower, kind, [x, y])]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, y = call.input(0), call.input(1)
        dz = grads[0]
        assert dz is not None
        dx = dy = None
        if call.needs_gradient(0):
            dx = sum_to(lower, dz, x.shape)
        if call.needs_gradient(1):
            quotient = binary(lower, "trunc_div" if self.like_c(call) else "floor_div", x, y)
            dy = scaled(lower, sum_to(lower, binary(lower, "mul", quotient, dz), y.shape), -1.0)
        return [dx, dy]


class Pow(Arithmetic):
    """x^y in the dtype of x. y may have another dtype."""

    def shapes(self, call: Call) -> list[Spec]:
        a, b = call.spec(0), call.spec(1)
        if not all(is_real(spec.dtype) or is_whole(spec.dtype) for spec in (a, b)):
            raise call.error(DTypeError, "takes two inputs of numbers", f"{a.dtype} and {b.dtype}")
        return [Spec(broadcast_shape(call), a.dtype)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, y = call.input(0), call.input(1)
        if is_whole(x.dtype) and is_whole(y.dtype):
            return [whole(lower, "pow", [x, y])]
        z = binary(lower, "pow", cast(lower, x, lower.dtype), cast(lower, y, lower.dtype))
        return [cast(lower, z, x.dtype)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, y = call.input(0), cast(lower, call.input(1), lower.dtype)
        dz = grads[0]
        assert dz is not None
        dx = dy = None
        if call.needs_gradient(0):
            dx = sum_to(lower, binary(lower, "mul", binary(lower, "pow_slope", x, y), dz), x.shape)
        if call.needs_gradient(1):
            dy = sum_to(lower, binary(lower, "mul", binary(lower, "pow_log", x, call.outputs[0]), dz), y.shape)
        return [dx, dy]


OPERATORS: list[Operator] = [
    Arithmetic("Add", "add"),
    Arithmetic("Sub", "sub"),
    Arithmetic("Mul", "mul"),
    Arithmetic("Div", "div"),
    Mod("Mod", "mod"),
    Pow("Pow", "pow"),
]
