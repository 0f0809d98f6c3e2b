"""The share of targets among the k largest outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cconv.arguments import whole
from cconv.train.metrics.metric import Accumulator, Ratio


@dataclass(frozen=True)
class TopKAccuracy:
    """The share of targets (N, spatial...) whose class is among the k largest outputs (N, classes, spatial...), 0..1.

    A target is right if fewer than k outputs are larger than its own. So with k classes or fewer all are right.

    Args:
        k: how many guesses the model has.
        ignore_index: target that does not count.

    Raises:
        ValueRangeError: k below 1.
    """

    k: int = 5
    ignore_index: int = -100

    name: ClassVar[str] = "top_k_accuracy"

    def __post_init__(self) -> None:
        whole("TopKAccuracy", "k", self.k, least=1)

    @property
    def column(self) -> str:
        return f"top_{self.k}_accuracy"

    def accumulator(self) -> Accumulator:
        return Ratio(self.count)

    def count(self, output: np.ndarray, target: np.ndarray) -> tuple[int, int]:
        """How many are right, of how many."""
        counted = target != self.ignore_index
        classes = np.where(counted, target, 0)
        own = np.take_along_axis(output, classes[:, None], axis=1)
        larger = np.count_nonzero(output > own, axis=1)
        # An output of NaN is larger than none and smaller than none; it must not count as right.
        right = (larger < self.k) & counted & ~np.isnan(own[:, 0])
        return int(np.count_nonzero(right)), int(np.count_nonzero(counted))
