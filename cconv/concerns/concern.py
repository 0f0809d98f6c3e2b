"""A concern: one thing that stands in the way of training, how it is found and, where that is possible, put right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from cconv.concerns.case import Case
from cconv.concerns.finding import Finding
from cconv.model import Model


@dataclass(frozen=True)
class Options:
    """What a repair is told; see finetune.repair.

    Attributes:
        data: examples by input name; None: there are none.
        case: the model before any repair.
    """

    case: Case
    data: Mapping[str, np.ndarray] | None = None
    dropout: float | None = None


Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Done:
    """What a repair has done, and how it is to be compared with the model before it.

    Attributes:
        what: in the past tense.
        undone: whether `Model.save` puts it back.
        before_batch: the batch size that the model before works with; None: any.
        as_before: the outputs of the repaired model -> what the model before would give.
        tolerance: a looser one than usual, where arithmetic of less precision is left behind; and why.
    """

    what: str
    undone: bool = False
    before_batch: int | None = None
    as_before: Callable[[Outputs], Outputs] = field(default=lambda outputs: outputs)
    tolerance: float | None = None


@dataclass(frozen=True)
class Skipped:
    """Why a repair that there is cause for has not been made."""

    why: str


Find = Callable[[Case], Iterable[Finding]]
Repair = Callable[[Model, Options], Done | Skipped | None]


@dataclass(frozen=True)
class Concern:
    """
    Attributes:
        name: for `skip=` and in reports.
        find: the findings; each has severity, node, meaning and repair, the doctor adds the concern's name.
        repair: changes the model it is given, a copy; None where there is no cause for it.
        of_layers: whether it is about layers with weights, and is looked for in a copy of the model whose weights are
            float32 initializers: a network in float16 has layers too.
    """

    name: str
    find: Find
    repair: Repair | None = None
    of_layers: bool = False
