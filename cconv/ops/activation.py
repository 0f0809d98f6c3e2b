"""Activations: one value in, one value out.

Each gradient is dx = dy * f'(x). Those that can tell f' from y = f(x) read y, not x, so that the input's
memory is free once the forward step has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from cconv.errors import DTypeError, ShapeError
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor


class Activation(Operator):
    """y = f(x; a, b) for each element.

    Args:
        type: ONNX's name.
        kind: name of the loop in kernels/elementwise.pyx.
    """

    per_example = True

    def __init__(self, type: str, kind: str) -> None:
        self.type = type
        self.kind = kind

    def parameters(self, call: Call) -> tuple[float, float]:
        """The loop's parameters a and b."""
        return 0.0, 0.0

    def reads_output(self, call: Call) -> bool:
        """Whether the derivative is written in y, not in x."""
        return True

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        if not np.issubdtype(spec.dtype, np.floating):
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        return [spec]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        y = lower.tensor(x.shape, x.layout)
        step = lower.kernels.elementwise.Unary(self.kind, x.size, *self.parameters(call))
        lower.emit(step, reads=[x], writes=[y], inplace=True)
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        kept = call.outputs[0] if self.reads_output(call) else call.input(0)
        assert grads[0] is not None
        dy = lower.as_layout(grads[0], kept.layout)
        dx = lower.tensor(kept.shape, kept.layout)
        step = lower.kernels.elementwise.UnaryGradient(self.kind, kept.size, *self.parameters(call))
        lower.emit(step, reads=[dy, kept], writes=[dx], inplace=True)
        return [dx, *[None] * (len(call.specs) - 1)]


class LeakyRelu(Activation):
    """x for x >= 0, alpha * x below. The gradient at 0 is alpha's, as in PyTorch."""

    def parameters(self, call: Call) -> tuple[float, float]:
        return call.attribute("alpha", 0.01), 0.0

    def reads_output(self, call: Call) -> bool:
        return call.attribute("alpha", 0.01) >= 0  # y then has x's sign


class Clip(Activation):
    """min(max(x, low), high); the gradient on the bounds is 0.

    Bounds are attributes up to opset 10, constant scalar inputs from 11 on; either may be missing.
    """

    inputs = (1, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def shapes(self, call: Call) -> list[Spec]:
        for i in (1, 2):
            if call.has(i) and call.spec(i).size != 1:
                raise call.error(ShapeError, f"input {i} is a scalar", f"shape {call.spec(i).shape}")
        return super().shapes(call)

    def parameters(self, call: Call) -> tuple[float, float]:
        if call.opset < 11:
            return call.attribute("min", -np.inf), call.attribute("max", np.inf)
        low = call.constant(1, "the lower bound").item() if call.has(1) else -np.inf
        high = call.constant(2, "the upper bound").item() if call.has(2) else np.inf
        return low, high


OPERATORS = [
    Activation("Relu", "relu"),
    Activation("Sigmoid", "sigmoid"),
    Activation("Tanh", "tanh"),
    LeakyRelu("LeakyRelu", "leaky_relu"),
    Clip("Clip", "clip"),
]
