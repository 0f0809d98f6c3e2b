"""Guards: bytes between the buffers of a plan that nothing may write to. For the tests and for fuzz.py.

A step that writes past its buffer would else write into another one, unseen. Bytes that only the arena's alignment adds
to a buffer belong to the guard behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cconv.plan.arena import ALIGNMENT, Lifetime
from cconv.plan.plan import Plan

WIDTH, FILL = 128, 0xA5


class Guards:
    """What lies between the buffers of the plan that was laid out last.

    Attributes:
        buffers: begin and end of each in the arena, which no two share.
    """

    def __init__(self) -> None:
        self.buffers: list[tuple[int, int]] = []

    def place(self, lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
        """Stands in for cconv.plan.arena.place."""
        self.buffers, end = [], WIDTH
        for item in lifetimes:
            self.buffers.append((end, end + item.nbytes))
            end += -(-item.nbytes // ALIGNMENT) * ALIGNMENT + WIDTH
        return [begin for begin, _ in self.buffers], end

    def fill(self, plan: Plan) -> None:
        for guard in self.between(plan):
            guard[...] = FILL

    def between(self, plan: Plan) -> list[np.ndarray]:
        """The guards: number i lies before buffer i, and the last behind them all."""
        arena = np.asarray(plan.memory.held[0])
        ends = [0, *(end for _, end in self.buffers)]
        begins = [*(begin for begin, _ in self.buffers), len(arena)]
        return [arena[end:begin] for end, begin in zip(ends, begins)]

    def written(self, plan: Plan) -> list[int]:
        """The numbers of guards that something was written to since `fill`."""
        return [i for i, guard in enumerate(self.between(plan)) if np.any(guard != FILL)]
