"""Operators that map each element on its own: the base class of activations, and the elementary functions.

Each gradient is dx = dy * f'(x). If f' can be computed from y = f(x), the backward pass reads y and not x, so that the
memory of x is free after the forward pass. Where f' is 0 almost everywhere (Sign, Floor, Ceil, Round), the operator has
no gradient. A weight that only such nodes read is then not trainable, and naming it in `trainable` is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import cconv.kernels.elementwise.elementwise as elementwise
from cconv.errors import DTypeError
from cconv.ops.elementwise import is_real, is_whole, scaled, unary, whole
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor

Parameters = Callable[[Call], tuple[float, float]]


class Unary(Operator):
    """y = f(x; a, b) for each element.

    Args:
        type: ONNX's name of the operator.
        kind: name of the loops for f and its derivative in kernels/elementwise/elementwise.h.
        reads: "x" or "y": the variable from which that file computes the derivative. "": the operator has no gradient.
        since: oldest opset that has the operator with these semantics.
        parameters: function that gives a and b from the node's attributes.
    """

    per_example = True

    def __init__(
        self,
        type: str,
        kind: str,
        reads: str = "x",
        since: int = 7,
        parameters: Parameters = lambda call: (0.0, 0.0),
    ) -> None:
        self.type = type
        self.kind = kind
        self.reads = reads
        self.since = since
        self._parameters = parameters
        if not reads:
            self.differentiable = ()  # type: ignore[misc]

    def is_loop(self, call: Call) -> bool:
        """Whether one run of the loop computes the node: x is floating-point, and a and b are known."""
        return is_real(call.spec(0).dtype)

    def loop(self, call: Call) -> str:
        """Name of the loop that computes this node, in kernels/elementwise/elementwise.h."""
        return self.kind

    def parameters(self, call: Call) -> tuple[float, float]:
        """The loop's parameters a and b."""
        return self._parameters(call)

    def reads_output(self, call: Call) -> bool:
        """Whether the derivative is computed from the output y, not from the input x."""
        return self.reads == "y"

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        if not is_real(spec.dtype):
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        self.loop(call), self.parameters(call)
        return [spec]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [unary(lower, self.loop(call), call.input(0), *self.parameters(call))]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x_or_y = call.outputs[0] if self.reads_output(call) else call.input(0)
        assert grads[0] is not None
        dy = lower.as_layout(grads[0], x_or_y.layout)
        dx = lower.tensor(x_or_y.shape, x_or_y.layout)
        step = elementwise.UnaryGradient(lower.build, self.loop(call), x_or_y.size, *self.parameters(call))
        lower.emit(step, reads=[dy, x_or_y], writes=[dx], inplace=True)
        return [dx, *[None] * (len(call.specs) - 1)]


class OfNumbers(Unary):
    """An elementwise function that also works on integers: Neg, Abs, Sign. Neg does not take unsigned integers."""

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        if is_whole(spec.dtype) and not (self.type == "Neg" and np.issubdtype(spec.dtype, np.unsignedinteger)):
            return [spec]
        return super().shapes(call)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        if is_real(x.dtype):
            return super().forward(lower, call)
        if self.type == "Abs" and np.issubdtype(x.dtype, np.unsignedinteger):
            return [x]
        return [whole(lower, self.type.lower(), [x])]


class Neg(OfNumbers):
    """y = -x. The gradient -dy needs neither x nor y."""

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return [scaled(lower, grads[0], -1.0)]


OPERATORS: list[Operator] = [
    Neg("Neg", "scale", parameters=lambda call: (-1.0, 0.0)),
    OfNumbers("Abs", "abs"),
    OfNumbers("Sign", "sign", reads="", since=9),
    Unary("Floor", "floor", reads=""),
    Unary("Ceil", "ceil", reads=""),
    Unary("Round", "round", reads="", since=11),
    Unary("Exp", "exp", reads="y"),
    Unary("Log", "log"),
    Unary("Sqrt", "sqrt", reads="y"),
    Unary("Reciprocal", "reciprocal", reads="y"),
    Unary("Erf", "erf", since=9),
    Unary("Sin", "sin"),
    Unary("Cos", "cos"),
    Unary("Tan", "tan", reads="y"),
    Unary("Asin", "asin"),
    Unary("Acos", "acos"),
    Unary("Atan", "atan"),
    Unary("Sinh", "sinh", since=9),
    Unary("Cosh", "cosh", since=9),
    Unary("Asinh", "asinh", since=9),
    Unary("Acosh", "acosh", since=9),
    Unary("Atanh", "atanh", since=9),
]
