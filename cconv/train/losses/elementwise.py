"""Base of the losses that compare each output element with a target element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

import cconv.kernels.loss.loss as loss
from cconv.errors import ShapeError, explain
from cconv.ops.operator import Lowering
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.train.arrays import as_dtype
from cconv.train.metrics import Metric


class ElementwiseLoss:
    """Mean over all elements of a formula of output and target; the target has the output's shape.

    A subclass is a dataclass with a `name` and the `formula`. A formula with parameters also has `parameters`.

    Attributes:
        formula: a name in kernels/loss/elementwise_loss.h.
    """

    formula: ClassVar[str]

    @property
    def parameters(self) -> tuple[float, ...]:
        """The parameters a and b of the formula, as far as it has them."""
        return ()

    def target_spec(self, output: Spec) -> Spec:
        return output

    def weight(self, lower: Lowering, output: Tensor, target: Tensor) -> float | Tensor:
        return float(output.size)

    def emit(
        self, lower: Lowering, output: Tensor, target: Tensor, denominator: Tensor, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        values = lower.as_layout(output, Layout.ROW_MAJOR)
        step = loss.ElementwiseLoss(lower.build, self.formula, values.size, *self.parameters)
        sums = lower.tensor((step.chunks,), dtype=np.float64, name="loss")
        result = lower.tensor(values.shape) if gradient else None
        lower.emit(step, reads=[values, target, denominator], writes=[sums, result])
        return sums, result

    def check_target(self, output: Spec, target: np.ndarray, place: str) -> np.ndarray:
        """
        Raises:
            ShapeError: another shape than the output's.
            DTypeError, ValueRangeError: values that the output's dtype does not hold, see as_dtype.
        """
        if target.shape != output.shape:
            raise ShapeError(explain(place, f"a target has the output's shape {output.shape}", f"shape {target.shape}"))
        return as_dtype(target, output.dtype, place)

    def metrics(self) -> Sequence[Metric]:
        return ()
