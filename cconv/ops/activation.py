"""Activations: one value in, one value out.

Each gradient is dx = dy * f'(x). Those that can tell f' from y = f(x) read y, not x, so that the input's
memory is free once the forward step has run.
"""

from __future__ import annotations

from collections.abc import Sequence

from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor


class Activation(Operator):
    """y = f(x; a, b) for each element.

    Args:
        type: ONNX's name.
        kind: name of the loop in kernels/elementwise.pyx.
        uses: which of "x" and "y" the derivative is written in.
    """

    def __init__(self, type: str, kind: str, uses: str) -> None:
        self.type = type
        self.kind = kind
        self.uses = uses

    def parameters(self, call: Call) -> tuple[float, float]:
        """The loop's parameters a and b."""
        return 0.0, 0.0

    def shapes(self, call: Call) -> list[Spec]:
        return [call.spec(0)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        y = lower.tensor(x.shape, x.layout)
        a, b = self.parameters(call)
        lower.emit(
            lower.kernels.elementwise.Unary(self.kind, x.size, a, b), reads=[x], writes=[y], inplace=True
        )
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        kept = call.outputs[0] if self.uses == "y" else call.input(0)
        assert grads[0] is not None
        dy = lower.as_layout(grads[0], kept.layout)
        dx = lower.tensor(kept.shape, kept.layout)
        a, b = self.parameters(call)
        step = lower.kernels.elementwise.UnaryGradient(self.kind, kept.size, a, b)
        lower.emit(step, reads=[dy, kept], writes=[dx], inplace=True)
        return [dx]


OPERATORS = [Activation("Relu", "relu", "y")]
