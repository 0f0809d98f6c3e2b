"""The order of steps, where it is free: what takes more memory than it is made from is made as late as can be.

The gradient of a fully connected layer's weights is far larger than the two small matrices that it is the product of,
and is found early on the way back, when all feature maps are still held. Nobody reads it before the update. Made after
the last feature map is given up, it takes the memory that those had.
"""

from __future__ import annotations

from collections import Counter

from cconv.plan.plan_builder import Emission, Operands


def postponed(emissions: list[Emission], begin: int, end: int) -> list[Emission]:
    """The steps; of begin..end-1 those whose results are read from `end` on and take more memory than what they read
    come last, in their order.

    No result changes: the buffers that a postponed step reads are not written again before `end`. At no step is more
    memory needed: what is held longer is smaller than what is taken later.
    """
    uses = Counter(key for emission in emissions[:end] for key in _in_arena(emission.operands))
    written = {
        key: i for i, emission in enumerate(emissions[:end]) for key in _in_arena(emission.updates + emission.writes)
    }

    def can_wait(i: int) -> bool:
        reads, writes = _in_arena(emissions[i].reads), _in_arena(emissions[i].writes)
        return (
            not any(emissions[i].updates)
            and sum(reads.values()) < sum(writes.values())
            and all(uses[key] == 1 for key in writes)
            and all(written.get(key, -1) < i for key in reads)
        )

    late = [i for i in range(begin, end) if can_wait(i)]
    waiting = set(late)
    order = [*range(begin), *(i for i in range(begin, end) if i not in waiting), *late, *range(end, len(emissions))]
    return [emissions[i] for i in order]


def _in_arena(operands: Operands) -> dict[int, int]:
    """Bytes of each buffer of the plan's own among the operands, by its identity."""
    return {id(t.buffer): t.buffer.nbytes for t in operands if t is not None and t.buffer.array is None}
