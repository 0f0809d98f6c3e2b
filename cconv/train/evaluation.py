"""Evaluation: the model as it is used (running statistics, no dropout), and the loss of what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cconv.errors import TrainingError, ValueRangeError, explain
from cconv.graph.limits import DEFAULT, Limits
from cconv.graph.nodes import Node
from cconv.ops.tensor import Layout, Spec
from cconv.plan.lowering import Builder, Memory
from cconv.plan.plan import Plan, inference_plan
from cconv.train.losses import Loss


class Evaluation(NamedTuple):
    """Loss, and accuracy 0..1 (None where the loss knows no classes), over all examples of a dataset."""

    loss: float
    accuracy: float | None


class Mean:
    """Loss and accuracy over batches, weighted by examples."""

    def __init__(self) -> None:
        self.examples, self.total, self.right, self.counted = 0, 0.0, 0, 0

    def add(self, examples: int, loss: float, hits: tuple[int, int] | None) -> None:
        self.examples += examples
        self.total += examples * loss
        right, counted = hits or (0, 0)
        self.right += right
        self.counted += counted

    def value(self) -> Evaluation:
        """Raises TrainingError if there was no batch."""
        if not self.examples:
            raise TrainingError(explain("data", "gives at least one batch", "none"))
        accuracy = self.right / self.counted if self.counted else None
        return Evaluation(self.total / self.examples, accuracy)


def hits_of(
    losses: Mapping[str, Loss], outputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
) -> tuple[int, int] | None:
    """How many predictions are right, of how many, for the first output whose loss knows; else None."""
    for name, loss in losses.items():
        hits = loss.hits(outputs[name], targets[name])
        if hits is not None:
            return hits
    return None


@dataclass
class EvaluationPlan:
    """An inference plan with a second program behind it that holds the losses.

    Attributes:
        plan: computes the outputs.
        targets: arrays to write before `run`, by output.
        losses: the second program and its memory.
    """

    plan: Plan
    targets: dict[str, np.ndarray]
    losses: Memory
    control: np.ndarray

    @property
    def outdated(self) -> bool:
        return self.plan.outdated

    @property
    def nbytes(self) -> int:
        return self.plan.nbytes + self.losses.arena_bytes + self.losses.scratch_bytes

    def run(self) -> float:
        """The loss; NaN if it is that.

        Raises:
            ValueRangeError: the model takes an index that its axis does not have.
        """
        label, status = self.plan.run()
        if status:
            raise ValueRangeError(
                explain(f"node '{label}'", "indices lie within their axis", "one that does not")
            )
        self.control["loss"] = 0
        _, status = self.losses.program.run()
        assert status == 0, "targets are checked before they are copied here"
        return float(self.control["loss"][0])


def evaluation_plan(
    nodes: Sequence[Node],
    inputs: Mapping[str, Spec],
    losses: Mapping[str, Loss],
    weights: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    threads: int,
    limits: Limits = DEFAULT,
    precision: str = "fast",
    layouts: Mapping[str, Layout] | None = None,
) -> EvaluationPlan:
    """See cconv.plan.plan.training_plan for the arguments."""
    plan = inference_plan(
        nodes,
        inputs,
        list(losses),
        weights,
        constants,
        threads=threads,
        limits=limits,
        precision=precision,
        layouts=layouts,
    )
    builder = Builder(dtype=np.dtype(np.float32))
    targets = {}
    for name, loss in losses.items():
        builder.label = f"loss of {name!r}"
        output = builder.external(plan.outputs[name], name)
        spec = loss.target_spec(Spec(output.shape, output.dtype))
        targets[name] = builder.tensor(spec.shape, dtype=spec.dtype, name=f"target of {name!r}")
        builder.pin(targets[name])
        loss.lower(builder, output, targets[name], gradient=False)
    memory = builder.finish(threads)
    views = {name: memory.view(tensor).reshape(tensor.shape) for name, tensor in targets.items()}
    return EvaluationPlan(plan, views, memory, memory.view(builder.control))
