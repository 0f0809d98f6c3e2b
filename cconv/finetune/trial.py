"""The last concern: plan a training step for all weights and outputs without running it, and report its memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cconv.concerns import constants
from cconv.concerns.batch import free
from cconv.concerns.case import Case, is_floating
from cconv.concerns.concern import Concern, Options
from cconv.concerns.edit import sized
from cconv.concerns.finding import ERROR, INFO, Finding
from cconv.errors import CconvError, TrainingWarning
from cconv.model import Model
from cconv.train.trainer import Trainer


@dataclass(frozen=True)
class Cost:
    """Memory of a training step, in bytes.

    Attributes:
        batch: number of examples in the step.
        plan: memory of activations and gradients.
        weights: memory of all weights and constants.
        state: memory of the optimizer state of SGD with momentum.
    """

    batch: int
    plan: int
    weights: int
    state: int

    @property
    def total(self) -> int:
        return self.plan + self.weights + self.state


def find(case: Case) -> Iterator[Finding]:
    """Report the memory of a training step, or the error that Trainer would raise before the first step."""
    if not case.model.output_names:
        meaning = "The graph has no output, so no loss can be computed."
        yield Finding(ERROR, "", meaning, "Export the network again.")
        return
    if case.specs() is None:
        return
    other = None
    if case.fixed_batch not in (None, case.batch):
        other = _cost_after(lambda model: free(model, case.given), case)
    try:
        cost = _cost(case)
    except (CconvError, MemoryError) as error:
        fix, automatic = "", True
        if other is not None:
            fix = f"Make the batch size variable: training works with {case.batch} examples per step. *"
        elif _cost_after(lambda model: constants.repair(model, Options(case)), case) is not None:
            fix = "Make the weights in Constant nodes initializers (the warning below): then training works. *"
        else:
            automatic = False
            if case.carrying.isdisjoint(case.model.parameters) and not constants.constant_weights(case.model):
                fix = "Train an output that depends on weights through operators with a gradient (docs/operators.md)."
        yield Finding(ERROR, "", f"A training step cannot be planned. {error}".rstrip(), fix, automatic=automatic)
        return
    case.memory = cost.total
    more = ""
    if other is not None:
        more = f" With a variable batch size, at batch size {other.batch}: {sized(other.total)}."
    yield Finding(
        INFO,
        "",
        f"A training step at batch size {cost.batch} takes {sized(cost.total)}: {sized(cost.plan)} for activations and "
        f"gradients, {sized(cost.weights)} for weights, {sized(cost.state)} for the state of SGD with momentum (twice "
        f"that for Adam).{more}",
    )


def _cost(case: Case) -> Cost:
    """Plan a training step and compute its memory.

    Raises:
        CconvError: Trainer rejects the model.
    """
    model, specs = case.model, case.specs()
    assert specs is not None
    names = [name for name in model.output_names if is_floating(case.shapes.get(name))]
    # The choice of loss does not affect the result. Mean squared error accepts outputs of any shape.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)  # the doctor reports the same problems in its table
        trainer = Trainer(model, loss=dict.fromkeys(names or model.output_names, "mse"))
    return Cost(
        batch=next((spec.shape[0] for spec in specs.values() if spec.shape), 1),
        plan=trainer.plan_bytes({name: spec.shape for name, spec in specs.items()}),
        weights=sum(array.nbytes for array in (*model.weights.values(), *model.constants.values())),
        state=sum(model.weights[name].nbytes for name in trainer.trained),
    )


def _cost_after(repair: Callable[[Model], object], case: Case) -> Cost | None:
    """Memory of a training step after a repair of a copy of the model.

    None if the repair finds nothing to do or fails, or if the repaired model cannot be trained either.
    """
    model = case.model.copy()
    try:
        if repair(model) is None:
            return None
        return _cost(Case(model, case.batch, case.given))
    except (CconvError, MemoryError):
        return None


CONCERNS = [Concern("training step", find)]
