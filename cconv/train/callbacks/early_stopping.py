"""Ending training when it no longer helps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from cconv.arguments import whole
from cconv.graph.weights import memory_of
from cconv.train.callbacks.callback import Callback, Training
from cconv.train.history import Row


class EarlyStopping(Callback):
    """Ends training once the loss has not improved for `patience` epochs.

    The validation loss counts if there is one, else the training loss; NaN is never an improvement.

    Args:
        restore_best: at the end, put back the weights and running statistics of the best epoch. The optimizer's state
            stays that of the last.

    Attributes:
        best: the row of the best epoch so far; None before the first.

    Raises:
        ValueRangeError: patience below 1.
    """

    name: ClassVar[str] = "early_stopping"

    def __init__(self, patience: int, restore_best: bool = True) -> None:
        whole("EarlyStopping", "patience", patience, least=1)
        self.patience = patience
        self.restore_best = restore_best
        self.best: Row | None = None
        self._waited = 0
        self._weights: dict[str, np.ndarray] = {}

    def on_fit_begin(self, trainer: Training) -> None:
        self.best, self._waited, self._weights = None, 0, {}

    def on_epoch_end(self, trainer: Training, row: Row) -> bool:
        if self.best is None or _monitored(row) < _monitored(self.best):
            self.best, self._waited = row, 0
            if self.restore_best:
                self._weights = {name: array.copy() for name, array in memory_of(trainer.model.weights).items()}
        else:
            self._waited += 1
        return self._waited >= self.patience

    def on_fit_end(self, trainer: Training) -> None:
        for name, array in self._weights.items():
            trainer.model.weights[name] = array
        self._weights = {}

    def state(self) -> Mapping[str, Any]:
        best = None if self.best is None else dict(self.best)
        return {"best": best, "waited": self._waited, "weights": self._weights}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.best, self._waited, self._weights = state["best"], state["waited"], dict(state["weights"])


def _monitored(row: Row) -> float:
    loss = row.get("val_loss", row["loss"])
    return math.inf if math.isnan(loss) else loss
