"""Mean squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cconv.train.losses.elementwise import ElementwiseLoss


@dataclass(frozen=True)
class MeanSquaredError(ElementwiseLoss):
    """Mean over all elements of (output - target)^2; the target has the output's shape."""

    name: ClassVar[str] = "mse"
    checks_values: ClassVar[bool] = True
    formula: ClassVar[str] = "squared_error"
