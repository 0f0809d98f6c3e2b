"""What a metric is: options, and an accumulator that goes through the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np


class Accumulator(Protocol):
    """What a metric has seen so far."""

    def add(self, output: np.ndarray, target: np.ndarray) -> None:
        """Take in a batch: the model's output in ONNX's layout, and its target as the loss has it."""
        ...

    def value(self) -> float | None:
        """The metric over all batches; None if it is not defined, as when no example counts."""
        ...


class Metric(Protocol):
    """Options of a metric; one object serves many epochs.

    Attributes:
        name: of the class in the registry, and of its column in the history, such as "accuracy".
        column: optional; the column's name, if it depends on the options.
    """

    @property
    def name(self) -> str: ...

    def accumulator(self) -> Accumulator:
        """A new accumulator."""
        ...


def column_of(metric: Metric) -> str:
    """The name of the metric's column in the history."""
    return str(getattr(metric, "column", metric.name))


class Ratio:
    """An accumulator of sums: value = (sum of numerators) / (sum of denominators).

    Args:
        count: the numerator and denominator of one batch.
    """

    def __init__(self, count: Callable[[np.ndarray, np.ndarray], tuple[float, float]]) -> None:
        self._count = count
        self._numerator, self._denominator = 0.0, 0.0

    def add(self, output: np.ndarray, target: np.ndarray) -> None:
        numerator, denominator = self._count(output, target)
        self._numerator += numerator
        self._denominator += denominator

    def value(self) -> float | None:
        return self._numerator / self._denominator if self._denominator else None
