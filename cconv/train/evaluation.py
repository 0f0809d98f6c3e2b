"""What `Trainer.evaluate` finds, and the mean over batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cconv.errors import TrainingError, explain
from cconv.train.metrics import Metric
from cconv.train.metrics.metric import column_of


class Evaluation(tuple[float, float | None]):
    """Loss and metrics over all examples of a dataset. `loss, accuracy = evaluation` takes the two apart.

    Attributes:
        numbers: loss and metrics by name; a metric that is not defined is left out.
    """

    numbers: Mapping[str, float]

    def __new__(cls, numbers: Mapping[str, float]) -> Evaluation:
        found = super().__new__(cls, (numbers["loss"], numbers.get("accuracy")))
        found.numbers = dict(numbers)
        return found

    @property
    def loss(self) -> float:
        return self.numbers["loss"]

    @property
    def accuracy(self) -> float | None:
        """0..1; None if it is no metric of the trainer."""
        return self.numbers.get("accuracy")

    def __reduce__(self) -> tuple[type, tuple[Mapping[str, float]]]:
        return Evaluation, (self.numbers,)

    def __repr__(self) -> str:
        return f"Evaluation({', '.join(f'{name}={value:.4g}' for name, value in self.numbers.items())})"


class Means:
    """Loss and metrics over the batches of an epoch; the loss is weighted by the batches' examples.

    Args:
        metrics: of each output, by its name.
    """

    def __init__(self, metrics: Mapping[str, Sequence[Metric]]) -> None:
        self.examples, self._total = 0, 0.0
        several = sum(bool(each) for each in metrics.values()) > 1
        self._accumulators = [
            (output, f"{output}.{column_of(metric)}" if several else column_of(metric), metric.accumulator())
            for output, each in metrics.items()
            for metric in each
        ]

    @property
    def loss(self) -> float:
        """The mean so far."""
        return self._total / self.examples

    def add(
        self, examples: int, loss: float, outputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> None:
        """Take in a batch."""
        self.examples += examples
        self._total += examples * loss
        for output, _, accumulator in self._accumulators:
            accumulator.add(outputs[output], targets[output])

    def numbers(self) -> dict[str, float]:
        """Loss and metrics by name; a metric that is not defined is left out.

        Raises:
            TrainingError: there was no batch.
        """
        if not self.examples:
            raise TrainingError(explain("data", "gives at least one batch", "none"))
        values = {name: accumulator.value() for _, name, accumulator in self._accumulators}
        return {"loss": self.loss, **{name: value for name, value in values.items() if value is not None}}
