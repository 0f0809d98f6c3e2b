"""What a callback is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from cconv.arguments import closest
from cconv.errors import TrainingError, explain
from cconv.model import Model
from cconv.train.evaluation import Evaluation
from cconv.train.history import History, Row


class Training(Protocol):
    """What a callback may use of the Trainer."""

    model: Model
    epoch: int
    history: History

    @property
    def steps(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    def evaluate(self, data: Any, batch_size: int = 32) -> Evaluation: ...

    def save(self, path: str | os.PathLike[str]) -> None: ...


class Callback:
    """Base of callbacks; override what you need. The trainer may be used in each method (save, evaluate)."""

    def on_fit_begin(self, trainer: Training) -> None:
        """Before the first step of a `fit`."""

    def on_epoch_begin(self, trainer: Training) -> None:
        """Before the first step of an epoch; trainer.epoch epochs are finished."""

    def on_step_end(self, trainer: Training, loss: float) -> None:
        """After a step, with the loss of its batch before the update."""

    def on_evaluation_end(self, trainer: Training, evaluation: Evaluation) -> None:
        """After the validation data of an epoch."""

    def on_epoch_end(self, trainer: Training, row: Row) -> bool | None:
        """After an epoch, its row already in trainer.history. True ends the training."""

    def on_fit_end(self, trainer: Training) -> None:
        """After the last epoch; not after an error or Ctrl-C."""

    def state(self) -> Mapping[str, Any]:
        """What must survive a kill: strings, numbers, None, and lists, dicts and arrays of them. A checkpoint saves
        it."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state that `state` gave. Called after `on_fit_begin` of the first `fit` of a resumed trainer."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def check_callbacks(callbacks: Iterable[Callback]) -> None:
    """
    Raises:
        TrainingError: an object that is no Callback, or a method on_... that `fit` does not call.
    """
    for callback in callbacks:
        kind = type(callback).__name__
        if not isinstance(callback, Callback):
            raise TrainingError(
                explain("callbacks", "are objects of classes derived from cconv.callbacks.Callback", f"a {kind}")
            )
        for name in dir(callback):
            if name.startswith("on_") and name not in HOOKS and callable(getattr(callback, name)):
                raise TrainingError(
                    explain(f"callback {kind}", f"its hooks are {', '.join(HOOKS)}", name, closest(name, HOOKS))
                )


__all__ = ["HOOKS", "Callback", "Row", "Training", "check_callbacks"]
