"""Mean absolute error, the L1 loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cconv.train.losses.elementwise import ElementwiseLoss


@dataclass(frozen=True)
class MeanAbsoluteError(ElementwiseLoss):
    """Mean over all elements of |output - target|, as torch.nn.L1Loss; the target has the output's shape.

    The gradient is 0 where output and target are equal.
    """

    name: ClassVar[str] = "l1"
    checks_values: ClassVar[bool] = True
    formula: ClassVar[str] = "absolute_error"
