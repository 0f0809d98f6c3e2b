"""What a Trainer warns of when it is made: findings about the model that training cannot see by itself.

They are those of cconv/concerns that make the result worse without an error. The doctor reports more.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

from cconv.concerns import batchnorm, constants, softmax, tied
from cconv.concerns.case import Case
from cconv.concerns.finding import WARNING, Finding
from cconv.errors import TrainingWarning
from cconv.model import Model
from cconv.train.losses import CrossEntropy, Loss


def warn_of(model: Model, losses: Mapping[str, Loss]) -> None:
    """Give one TrainingWarning that names everything found, and the call that repairs it."""
    found = [finding for finding in findings(model, losses) if finding.severity == WARNING]
    if not found:
        return
    lines = [f"{finding.node}: {finding.meaning}" if finding.node else finding.meaning for finding in found]
    cure = "cconv.finetune.repair(model, data) returns a model without this; cconv.doctor(model) tells more."
    warnings.warn("\n".join(["Trainer: the model will train worse than it could.", *lines, cure]), TrainingWarning, 3)


def cure_of_no_weights(model: Model) -> str:
    """What to do about a model in which no weight is reachable from the loss; "" if that is not known."""
    if not constants.constant_weights(model):
        return ""
    return "Its weights are stored in Constant nodes; cconv.finetune.repair(model) makes them initializers."


def findings(model: Model, losses: Mapping[str, Loss]) -> Iterator[Finding]:
    """The findings that matter with these losses."""
    case = Case(model, batch=1)
    if any(isinstance(loss, CrossEntropy) for loss in losses.values()):
        yield from softmax.find(case)
    yield from tied.find(case)
    if case.fixed_batch == 1:
        yield Finding(
            WARNING,
            "",
            "The batch size is fixed at 1: gradients of one example are noisy, and there are no batch statistics.",
        )
    yield from batchnorm.find(case)
