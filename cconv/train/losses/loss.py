"""What a loss is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from cconv.ops.tensor import Spec
from cconv.plan.loss import Loss as PlannedLoss
from cconv.train.metrics import Metric


class Loss(PlannedLoss, Protocol):
    """What training needs of a loss, beyond what a plan does."""

    def check_target(self, output: Spec, target: np.ndarray, place: str) -> np.ndarray:
        """`target` in the shape and dtype of target_spec(output), or an error that says what is wrong."""
        ...

    def metrics(self) -> Sequence[Metric]:
        """The metrics that a Trainer takes for an output with this loss, unless it is given others."""
        ...


METHODS = ("target_spec", "weight", "emit", "check_target", "metrics")


def checks_values(loss: Loss) -> bool:
    """Whether the loss's steps stop at every target that `check_target` refuses although shape and dtype are right.

    A class says so with an attribute `checks_values`. A class derived from it must say so itself: it may refuse more.
    """
    return bool(vars(type(loss)).get("checks_values", False))
