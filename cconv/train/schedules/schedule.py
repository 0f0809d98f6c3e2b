"""What a schedule is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Schedule(Protocol):
    def rate(self, step: int, total: int | None) -> float:
        """Learning rate of update `step`, counted from 0; within `fit`, `total` is the count at its end."""
        ...
