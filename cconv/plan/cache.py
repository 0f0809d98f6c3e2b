"""A cache of plans: the last few, by what they were made for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar


class Outdating(Protocol):
    @property
    def outdated(self) -> bool:
        """Whether a value that the plan was made with has changed, so that it must be made again."""
        ...


P = TypeVar("P", bound=Outdating)


class PlanCache(Generic[P]):
    """Plans by key, the least recently used dropped first.

    Args:
        limit: plans held at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._plans: OrderedDict[Hashable, P] = OrderedDict()

    def __len__(self) -> int:
        return len(self._plans)

    def clear(self) -> None:
        """Free the memory of all plans."""
        self._plans.clear()

    def values(self) -> list[P]:
        return list(self._plans.values())

    @property
    def latest(self) -> P | None:
        """The plan that was asked for last."""
        return next(reversed(self._plans.values()), None)

    def find(self, key: Hashable, make: Callable[[], P], prepare: Callable[[P], Any] | None = None) -> P:
        """The plan for `key`, made if it is not here or is outdated.

        Args:
            prepare: called with the plan before it is asked whether it is outdated; and with the new one.
        """
        plan = self._plans.get(key)
        if plan is not None and prepare is not None:
            prepare(plan)
        if plan is None or plan.outdated:
            self._plans.pop(key, None)
            plan = None  # its memory, and that of others, is free before more is taken
            while len(self._plans) >= self.limit:
                self._plans.popitem(last=False)
            plan = self._plans[key] = make()
            if prepare is not None:
                prepare(plan)
        self._plans.move_to_end(key)
        return plan
