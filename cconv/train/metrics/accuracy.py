"""The share of right predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cconv.train.metrics.metric import Accumulator, Ratio


@dataclass(frozen=True)
class Accuracy:
    """The share of targets (N, spatial...) whose class has the largest of the outputs (N, classes, spatial...), 0..1.

    Args:
        ignore_index: target that does not count.
    """

    ignore_index: int = -100

    name: ClassVar[str] = "accuracy"

    def accumulator(self) -> Accumulator:
        return Ratio(self.count)

    def count(self, output: np.ndarray, target: np.ndarray) -> tuple[int, int]:
        """How many are right, of how many."""
        counted = target != self.ignore_index
        right = (output.argmax(axis=1) == target) & counted
        return int(np.count_nonzero(right)), int(np.count_nonzero(counted))
