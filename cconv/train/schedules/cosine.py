"""Half a cosine, with warmup."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from cconv.arguments import number, whole
from cconv.errors import TrainingError, explain


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from lr down to `final`, after `warmup` updates of rising linearly to lr.

    The rate at update t of T is final + (lr - final) (1 + cos(pi (t - warmup) / (T - warmup))) / 2
    (Loshchilov and Hutter, "SGDR", 2017, without restarts).

    Args:
        lr: the largest learning rate.
        steps: T, counted from the trainer's first update. None: the end of the running `fit`. A second `fit` then goes
            on at the rate that its own end implies: more epochs raise T, and the rate rises again.
        warmup: updates before the peak; the first has the rate lr / warmup.
        final: the rate at T and after it.
    """

    lr: float
    steps: int | None = None
    warmup: int = 0
    final: float = 0.0

    name: ClassVar[str] = "cosine"

    def __post_init__(self) -> None:
        number("Cosine", "lr", self.lr, least=0)
        number("Cosine", "final", self.final, least=0)
        whole("Cosine", "warmup", self.warmup, least=0)
        if self.steps is not None:
            whole("Cosine", "steps", self.steps, least=self.warmup + 1)

    def rate(self, step: int, total: int | None) -> float:
        """Raises TrainingError outside of `fit` if `steps` was not given."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        end = total if self.steps is None else self.steps
        if end is None:
            raise TrainingError(
                explain(
                    "Cosine",
                    "needs the number of updates it stretches over",
                    "steps=None outside of fit",
                    "Give Cosine(lr, steps=...).",
                )
            )
        progress = min(1.0, (step - self.warmup) / max(1, end - self.warmup))
        return self.final + (self.lr - self.final) * (1 + math.cos(math.pi * progress)) / 2
