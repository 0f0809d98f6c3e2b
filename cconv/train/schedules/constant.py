"""The same learning rate throughout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cconv.arguments import number


@dataclass(frozen=True)
class Constant:
    """The same learning rate throughout."""

    lr: float

    name: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        number("Constant", "lr", self.lr, least=0)

    def rate(self, step: int, total: int | None) -> float:
        return self.lr
