"""Concern: one kind of problem that prevents or harms training, with a function to find it and one to repair it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from cconv.concerns.case import Case
from cconv.concerns.finding import Finding
from cconv.model import Model


@dataclass(frozen=True)
class Options:
    """Options that `finetune.repair` passes to each repair.

    Attributes:
        case: the model before any repair.
        data: input name -> array of examples; None if the user gave none.
        dropout: rate of the Dropout to insert; None to insert none.
    """

    case: Case
    data: Mapping[str, np.ndarray] | None = None
    dropout: float | None = None


Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Done:
    """A completed repair, and how to compare the model after it with the model before it.

    Attributes:
        what: description of the repair for the report, in the past tense.
        undone: whether `Model.save` restores the original form.
        before_batch: the only batch size that the model before the repair accepts; None if it accepts any.
        as_before: converts the outputs of the repaired model to the outputs expected of the model before it.
        tolerance: larger relative tolerance for the comparison, needed if the model before the repair computed in
            lower precision; None for the usual one.
    """

    what: str
    undone: bool = False
    before_batch: int | None = None
    as_before: Callable[[Outputs], Outputs] = field(default=lambda outputs: outputs)
    tolerance: float | None = None


@dataclass(frozen=True)
class Skipped:
    """A repair that was needed but not made, and the reason `why`."""

    why: str


Find = Callable[[Case], Iterable[Finding]]
Repair = Callable[[Model, Options], Done | Skipped | None]


@dataclass(frozen=True)
class Concern:
    """One kind of problem and the functions that find and repair it.

    Attributes:
        name: used in reports and in `finetune.repair(skip=...)`.
        find: yields the findings in a model. The doctor fills in each finding's `concern`.
        repair: repairs, in place, the copy of the model that it gets, and returns None if nothing needed repair. The
            attribute is None if this concern cannot be repaired.
        of_layers: whether the concern is about layers with weights. The doctor then searches a copy of the model whose
            weights are float32 initializers, so that layers with float16 or Constant weights are found too.
    """

    name: str
    find: Find
    repair: Repair | None = None
    of_layers: bool = False
