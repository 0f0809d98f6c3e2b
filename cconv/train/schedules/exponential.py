"""A learning rate that shrinks by the same factor at every update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cconv.arguments import number


@dataclass(frozen=True)
class Exponential:
    """lr * gamma^t at update t, counted from 0; torch.optim.lr_scheduler.ExponentialLR stepped after every update.

    Raises:
        ValueRangeError: an option out of its range.
    """

    lr: float
    gamma: float = 0.999

    name: ClassVar[str] = "exponential"

    def __post_init__(self) -> None:
        number("Exponential", "lr", self.lr, least=0)
        number("Exponential", "gamma", self.gamma, least=0)

    def rate(self, step: int, total: int | None) -> float:
        return self.lr * self.gamma**step
