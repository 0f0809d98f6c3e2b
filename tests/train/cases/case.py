"""What a case says of an entry; the judge is a formula in float64, and PyTorch where it has the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cconv.train.callbacks import Callback
from cconv.train.history import History


@dataclass(frozen=True)
class LossCase:
    """
    Attributes:
        entry: the loss, with the options that are tried.
        shape: of the output.
        target: makes a target from (generator, shape).
        reference: the loss of (output, target) in float64; its gradient is found by differences.
        torch: the same in PyTorch, from (torch, output, target) as tensors; None if PyTorch does not have it.
    """

    entry: Any
    shape: tuple[int, ...]
    target: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    reference: Callable[[np.ndarray, np.ndarray], float]
    torch: Callable[[Any, Any, Any], Any] | None = None

    kind = "loss"


@dataclass(frozen=True)
class OptimizerCase:
    """
    Attributes:
        entry: the optimizer, with the options that are tried.
        reference: one update in float64: (weight, gradient, state, t) -> weight, where t is the number of the update,
            from 1, and `state` a dict of this weight's own to write to.
        torch: name in torch.optim and options; None if PyTorch does not have it.
    """

    entry: Any
    reference: Callable[[np.ndarray, np.ndarray, dict[str, Any], int], np.ndarray]
    torch: tuple[str, Mapping[str, Any]] | None = None

    kind = "optimizer"


@dataclass(frozen=True)
class ScheduleCase:
    """
    Attributes:
        entry: the schedule.
        rates: (update, updates in all) -> learning rate.
    """

    entry: Any
    rates: Mapping[tuple[int, int | None], float]

    kind = "schedule"


@dataclass(frozen=True)
class MetricCase:
    """
    Attributes:
        entry: the metric.
        batches: pairs (output, target).
        value: over all of them.
    """

    entry: Any
    batches: Sequence[tuple[np.ndarray, np.ndarray]]
    value: float | None

    kind = "metric"


@dataclass(frozen=True)
class CallbackCase:
    """
    Attributes:
        make: a new callback, which may write into the folder.
        check: asserts what the callback has done in six epochs or fewer, from (folder, history, callback). It must hold
            for a run without a break, and for one that was resumed from a checkpoint of its third epoch.
    """

    make: Callable[[Path], Callback]
    check: Callable[[Path, History, Callback], None]

    kind = "callback"

    @property
    def entry(self) -> Any:
        return self.make(Path())


Case = LossCase | OptimizerCase | ScheduleCase | MetricCase | CallbackCase
