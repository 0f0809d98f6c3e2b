"""Guard bytes between the buffers of a plan, to detect writes outside a buffer. Used by the tests and by fuzz.py.

Without guards, a step that writes past the end of its buffer would silently write into the next buffer. The padding
that aligns a buffer's end is part of the guard after it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cconv.plan.arena import ALIGNMENT, Lifetime
from cconv.plan.plan import Plan

# Bytes of a guard, and the value of each byte.
WIDTH, FILL = 128, 0xA5


class Guards:
    """The guards between the buffers of one plan.

    Attributes:
        buffers: begin and end of each buffer in the arena, in bytes. Buffers do not overlap, whatever their lifetimes.
    """

    def __init__(self) -> None:
        self.buffers: list[tuple[int, int]] = []

    def place(self, lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
        """Replaces cconv.plan.arena.place: each buffer gets its own memory, with a guard before and after it."""
        self.buffers, end = [], WIDTH
        for item in lifetimes:
            self.buffers.append((end, end + item.nbytes))
            end += -(-item.nbytes // ALIGNMENT) * ALIGNMENT + WIDTH
        return [begin for begin, _ in self.buffers], end

    def fill(self, plan: Plan) -> None:
        """Set all guard bytes to FILL."""
        for guard in self.between(plan):
            guard[...] = FILL

    def between(self, plan: Plan) -> list[np.ndarray]:
        """The guards as arrays. Guard i lies before buffer i, and the last guard after all buffers."""
        arena = np.asarray(plan.memory.held[0])
        ends = [0, *(end for _, end in self.buffers)]
        begins = [*(begin for begin, _ in self.buffers), len(arena)]
        return [arena[end:begin] for end, begin in zip(ends, begins)]

    def written(self, plan: Plan) -> list[int]:
        """The numbers of the guards that were overwritten since `fill`."""
        return [i for i, guard in enumerate(self.between(plan)) if np.any(guard != FILL)]
