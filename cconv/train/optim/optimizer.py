"""What an optimizer is, and how parameter groups change its options for some weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from cconv.arguments import closest, number
from cconv.errors import TrainingError, ValueRangeError, explain
from cconv.train.schedules import Schedule

Groups = Sequence[tuple[str, Mapping[str, Any]]]


class Rule(NamedTuple):
    """A line of kernels/update/update.h.

    Attributes:
        name: the line's.
        options: numbers that it reads, in its order.
        slots: names of the arrays that it keeps for each weight, in its order.
    """

    name: str
    options: tuple[float, ...]
    slots: tuple[str, ...]


@dataclass(frozen=True)
class Optimizer:
    """Base of optimizers. A subclass adds its options as fields, checks them in `check`, and gives its `rule`.

    Args:
        lr: learning rate, a number or a schedule.
        groups: other options for some weights: [(name or glob pattern, {option: value}), ...], as PyTorch's parameter
            groups. The first that fits a weight counts. SGD(lr=0.01, groups=[("head.*", {"lr": 0.1})]).

    Raises:
        ValueRangeError: an option out of its range, a group with an unknown option.
    """

    lr: float | Schedule
    groups: Groups = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.lr, Schedule):
            number(self.place, "lr", self.lr, least=0)
        self.check()
        object.__setattr__(self, "groups", self._checked_groups())

    @property
    def place(self) -> str:
        """The optimizer's name in messages."""
        return type(self).__name__

    def check(self) -> None:
        """Check the options that the subclass has added.

        Raises:
            ValueRangeError: one is out of its range.
        """

    def rule(self) -> Rule:
        """The line of update.h that these options stand for."""
        raise NotImplementedError(type(self).__name__)

    def group_of(self, weight: str) -> int:
        """The group of a weight: 0 for none, else the number of the first that fits, from 1."""
        return next((i for i, (pattern, _) in enumerate(self.groups, 1) if _fits(pattern, weight)), 0)

    def members(self) -> list[Optimizer]:
        """The optimizer of each group without its `groups`; number 0 is that of weights in no group."""
        alone = dataclasses.replace(self, groups=())
        return [alone, *(dataclasses.replace(alone, **dict(options)) for _, options in self.groups)]

    def rates(self, step: int, total: int | None) -> list[float]:
        """The learning rate of each group at update `step`; see Schedule.rate."""
        result = [rate_of(self.lr, step, total)]
        for _, options in self.groups:
            result.append(rate_of(options["lr"], step, total) if "lr" in options else result[0])
        return result

    def check_weights(self, weights: Iterable[str]) -> None:
        """
        Raises:
            TrainingError: a group that fits none of the weights.
        """
        weights = list(weights)
        for pattern, _ in self.groups:
            if not any(_fits(pattern, weight) for weight in weights):
                raise TrainingError(
                    explain(
                        f"{self.place}: group {pattern!r}",
                        "is the name of a trained weight or a pattern",
                        "no match",
                        closest(pattern, weights),
                    )
                )

    def _checked_groups(self) -> Groups:
        options = [each.name for each in dataclasses.fields(self) if each.name != "groups"]
        checked = []
        for entry in self.groups:
            if not (isinstance(entry, (tuple, list)) and len(entry) == 2 and isinstance(entry[1], Mapping)):
                form = '[("head.*", {"lr": 0.1}), ...]'
                raise ValueRangeError(explain(self.place, f"groups has the form {form}", repr(entry)))
            pattern, changes = str(entry[0]), dict(entry[1])
            for name in changes:
                if name not in options:
                    rule = f"options of group {pattern!r} are among {', '.join(options)}"
                    raise ValueRangeError(explain(self.place, rule, repr(name), closest(str(name), options)))
            dataclasses.replace(self, **{**changes, "groups": ()})  # raises what is wrong with a value
            checked.append((pattern, changes))
        return tuple(checked)


def _fits(pattern: str, weight: str) -> bool:
    """Whether a pattern is the weight's name or matches it."""
    return weight == pattern or fnmatchcase(weight, pattern)


def rate_of(lr: float | Schedule, step: int, total: int | None) -> float:
    # Called at every step, where isinstance of a protocol takes 20 microseconds.
    return float(lr.rate(step, total) if hasattr(lr, "rate") else lr)
