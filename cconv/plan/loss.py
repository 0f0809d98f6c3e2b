"""What a plan needs of a loss, and the steps around it: a loss gives a sum and a weight, and these steps divide."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cconv.kernels.loss.loss import AddMean, Denominator
from cconv.ops.operator import Lowering
from cconv.ops.tensor import Spec, Tensor


class Loss(Protocol):
    """What a plan needs of a loss; the losses are in cconv/train/losses.

    The loss of a batch is sum / weight, for example the sum of all examples' losses divided by their number.
    """

    def target_spec(self, output: Spec) -> Spec:
        """Shape and dtype of the target for an output of this shape."""
        ...

    def weight(self, lower: Lowering, output: Tensor, target: Tensor) -> float | Tensor:
        """The weight of a batch: a number if it follows from the shapes; else partial sums (n,) float64.

        The partial sums are computed by steps that this method emits. They read the target, not the output's values. A
        negative partial sum says that a target is out of range, and stops the program.
        """
        ...

    def emit(
        self, lower: Lowering, output: Tensor, target: Tensor, denominator: Tensor, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Emit the steps that compute the loss.

        Args:
            denominator: (2,) float64, the weight and its reciprocal; see kernels/loss/loss.pyx.
            gradient: whether the output's gradient is needed.

        Returns:
            Partial sums (n,) float64 of the loss, not divided; and the output's gradient, divided by the weight.
        """
        ...


def emit_loss(lower: Lowering, loss: Loss, output: Tensor, target: Tensor, gradient: bool) -> Tensor | None:
    """Emit the steps that add sum / weight to control.loss. Returns the output's gradient if it is needed."""
    weight = loss.weight(lower, output, target)
    if isinstance(weight, Tensor):
        denominator = lower.tensor((2,), dtype=np.float64, name="denominator of the loss")
        lower.emit(Denominator(weight.size), reads=[weight], writes=[denominator])
    else:
        pair = np.array([weight, 1 / weight if weight else 0], np.float64)
        denominator = lower.external(pair, "denominator of the loss")
    sums, result = loss.emit(lower, output, target, denominator, gradient)
    # Multiplying by a rounded reciprocal and dividing differ in the last bit. Each loss keeps the bits it always had.
    add = AddMean(sums.size, by_reciprocal=isinstance(weight, Tensor))
    lower.emit(add, reads=[sums, denominator], updates=[lower.control])
    return result
