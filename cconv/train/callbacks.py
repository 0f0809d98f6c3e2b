"""Callbacks: what `fit` calls between epochs; and its progress bar."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from cconv.graph.weights import memory_of
from cconv.train.history import Row
from cconv.train.options import whole

if TYPE_CHECKING:
    from cconv.train.trainer import Trainer


class Callback:
    """Base of callbacks; override what you need. The trainer may be used in each (save, evaluate)."""

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step of a `fit`."""

    def on_epoch_end(self, trainer: Trainer, row: Row) -> bool | None:
        """After an epoch, its row already in trainer.history. True ends the training."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch; not after an error or Ctrl-C."""


class EarlyStopping(Callback):
    """Ends training once the loss has not got better for `patience` epochs.

    The validation loss counts where there is one, else the training loss; NaN is never better.

    Args:
        restore_best: at the end, put back the weights and running statistics of the best epoch. The
            optimizer's state stays that of the last.

    Raises:
        ValueRangeError: patience below 1.
    """

    def __init__(self, patience: int, restore_best: bool = True) -> None:
        whole("EarlyStopping", "patience", patience, least=1)
        self.patience = patience
        self.restore_best = restore_best
        self.best: Row | None = None
        self._waited = 0
        self._weights: dict[str, np.ndarray] = {}

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.best, self._waited, self._weights = None, 0, {}

    def on_epoch_end(self, trainer: Trainer, row: Row) -> bool:
        if self.best is None or _monitored(row) < _monitored(self.best):
            self.best, self._waited = row, 0
            if self.restore_best:
                self._weights = {name: array.copy() for name, array in memory_of(trainer.model.weights).items()}
        else:
            self._waited += 1
        return self._waited >= self.patience

    def on_fit_end(self, trainer: Trainer) -> None:
        for name, array in self._weights.items():
            trainer.model.weights[name] = array
        self._weights = {}


def _monitored(row: Row) -> float:
    loss = row.loss if row.val_loss is None else row.val_loss
    return math.inf if math.isnan(loss) else loss


def note(line: str, shown: bool) -> None:
    """A line where the bars are, if there is anything to say."""
    from tqdm import tqdm

    if line and shown:
        tqdm.write(line, file=sys.stderr)


class ProgressBar:
    """One epoch's tqdm bar: examples done, examples per second, mean loss. A context manager."""

    def __init__(self, examples: int, title: str, shown: bool) -> None:
        from tqdm import tqdm  # only now: `import cconv` shall not pay for it

        self._bar: Any = tqdm(total=examples, desc=title, unit="img", disable=not shown, dynamic_ncols=True)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self, examples: int, loss: float) -> None:
        if not self._bar.disable:
            self._bar.set_postfix_str(f"loss={loss:.4f}", refresh=False)
            self._bar.update(examples)

    def finish(self, row: Row) -> None:
        """Show the whole epoch's figures."""
        shown = {"loss": f"{row.loss:.4f}"}
        if row.accuracy is not None:
            shown["accuracy"] = f"{100 * row.accuracy:.2f} %"
        if row.val_loss is not None:
            shown["val_loss"] = f"{row.val_loss:.4f}"
        if row.val_accuracy is not None:
            shown["val_accuracy"] = f"{100 * row.val_accuracy:.2f} %"
        self._bar.set_postfix(shown)
