"""The order of steps: a step whose result takes more memory than its inputs is postponed as far as possible.

The gradient of a fully connected layer's weights is far larger than the two small matrices whose product it is. It
would be computed early in the backward pass, when all feature maps are still in memory. No step reads it before the
update. If it is computed after the last feature map is freed, it can use the memory of the feature maps.
"""

from __future__ import annotations

from collections import Counter

from cconv.plan.plan_builder import Emission, Operands


def postponed(emissions: list[Emission], begin: int, end: int) -> list[Emission]:
    """The steps in their new order. A step in begin..end-1 moves to the end of that range if its results are first read
    from `end` on and take more memory than its inputs. Postponed steps keep their order.

    No result changes, because the buffers that a postponed step reads are not written again before `end`. Peak memory
    does not grow, because the inputs that live longer are smaller than the results that are allocated later.
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
