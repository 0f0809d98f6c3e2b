"""Add, Sub, Mul, Div with broadcasting.

With z = x op y, each gradient is the product below, summed back to the operand's shape:

    add  dx = dz        dy = dz
    sub  dx = dz        dy = -dz
    mul  dx = dz * y    dy = dz * x
    div  dx = dz / y    dy = -(dz / y) * z
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from cconv.errors import DTypeError, ShapeError, UnsupportedOpError, ValueRangeError
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.reduce import sum_to
from cconv.ops.shape import is_shape_arithmetic
from cconv.ops.tensor import Spec, Tensor


class Arithmetic(Operator):
    """z = x op y.

    Args:
        type: ONNX's name.
        kind: name of the loop in kernels/elementwise.h.
    """

    inputs = (2, 2)

    def __init__(self, type: str, kind: str) -> None:
        self.type = type
        self.kind = kind

    def shapes(self, call: Call) -> list[Spec]:
        a, b = call.spec(0), call.spec(1)
        real = np.issubdtype(a.dtype, np.floating) and np.issubdtype(b.dtype, np.floating)
        if not real and a.dtype != b.dtype:
            raise call.error(DTypeError, "takes two inputs of one dtype", f"{a.dtype} and {b.dtype}")
        try:
            shape = np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            raise call.error(
                ShapeError,
                "sizes of the inputs' axes, aligned at the last, are equal or 1",
                f"shapes {a.shape} and {b.shape}",
            ) from None
        return [Spec(shape, np.result_type(a.dtype, b.dtype))]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.broadcasts_per_example(call, moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, y = call.input(0), call.input(1)
        if not np.issubdtype(x.dtype, np.floating):
            raise call.error(
                UnsupportedOpError,
                "computes on integers only where both inputs are known before the model runs",
                f"inputs of {x.dtype} that are computed at run time",
            )
        return [arithmetic(lower, self.kind, x, y)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, y = call.input(0), call.input(1)
        dz = grads[0]
        assert dz is not None
        dx = dy = None
        if self.kind in ("add", "sub"):
            dx = dy = dz
        elif self.kind == "mul":
            dx = arithmetic(lower, "mul", dz, y) if call.wanted(0) else None
            dy = arithmetic(lower, "mul", dz, x) if call.wanted(1) else None
        else:
            dx = arithmetic(lower, "div", dz, y)
            dy = arithmetic(lower, "mul", dx, call.outputs[0]) if call.wanted(1) else None
        result: list[Tensor | None] = [None, None]
        if call.wanted(0) and dx is not None:
            result[0] = sum_to(lower, dx, x.shape)
        if call.wanted(1) and dy is not None:
            total = sum_to(lower, dy, y.shape)
            result[1] = scaled(lower, total, -1.0) if self.kind in ("sub", "div") else total
        return result

    def fold(self, call: Call) -> list[np.ndarray] | None:
        if not is_shape_arithmetic(call):
            return None
        a, b = (call.constant(i, "an operand") for i in (0, 1))
        if self.kind != "div":
            op = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[self.kind]
            return [np.asarray(op(a, b), dtype=call.results[0].dtype)]
        if not np.all(b):
            raise call.error(ValueRangeError, "whole numbers are divided by other than 0", "a divisor of 0")
        quotient = np.floor_divide(a, b)  # ONNX rounds to zero
        quotient += (quotient < 0) & (quotient * b != a)
        return [np.asarray(quotient, dtype=a.dtype)]


def arithmetic(lower: Lowering, kind: str, x: Tensor, y: Tensor) -> Tensor:
    """x op y with broadcasting, in the layout of an operand of the result's shape or rank."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    if x.shape == y.shape:
        z = lower.tensor(shape, x.layout)
        step = lower.kernels.elementwise.Binary(kind, z.size)
        lower.emit(step, reads=[x, lower.as_layout(y, x.layout)], writes=[z], inplace=True)
        return z
    alike = [t for t in (x, y) if t.shape == shape] or [t for t in (x, y) if len(t.shape) == len(shape)]
    z = lower.tensor(shape, alike[0].layout)
    operands = [lower.as_layout(t, z.layout) if len(t.shape) == len(shape) else t for t in (x, y)]
    strides = [_strides(operand, z) for operand in operands]
    step = lower.kernels.broadcast.Broadcast(kind, z.memory_shape, *strides)
    lower.emit(step, reads=operands, writes=[z], inplace=x.shape == shape)
    return z


def scaled(lower: Lowering, x: Tensor, factor: float) -> Tensor:
    """factor * x."""
    if factor == 1:
        return x
    y = lower.tensor(x.shape, x.layout)
    lower.emit(lower.kernels.elementwise.Unary("scale", x.size, factor), reads=[x], writes=[y], inplace=True)
    return y


def _strides(operand: Tensor, result: Tensor) -> list[int]:
    """The operand's strides along the result's axes in the order of the result's memory; 0 where repeated."""
    missing = len(result.shape) - len(operand.shape)
    strides = [0] * missing + [s if n > 1 else 0 for n, s in zip(operand.shape, operand.strides)]
    return [strides[axis] for axis in result.order]


OPERATORS = [
    Arithmetic("Add", "add"),
    Arithmetic("Sub", "sub"),
    Arithmetic("Mul", "mul"),
    Arithmetic("Div", "div"),
]
