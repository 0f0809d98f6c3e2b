"""A learning rate that drops every few updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cconv.arguments import number, whole


@dataclass(frozen=True)
class StepDecay:
    """lr, multiplied by `gamma` after every `every` updates."""

    lr: float
    every: int
    gamma: float = 0.1

    name: ClassVar[str] = "step"

    def __post_init__(self) -> None:
        number("StepDecay", "lr", self.lr, least=0)
        whole("StepDecay", "every", self.every, least=1)
        number("StepDecay", "gamma", self.gamma, least=0)

    def rate(self, step: int, total: int | None) -> float:
        return self.lr * self.gamma ** (step // self.every)
