"""Evaluation: the model as it is used (running statistics, no dropout), and the loss of what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cconv.graph.nodes import Node
from cconv.ops.tensor import Spec
from cconv.plan.lowering import Builder, Memory
from cconv.plan.plan import Plan, inference_plan
from cconv.train.losses import Loss


class Evaluation(NamedTuple):
    """Loss, and accuracy 0..1 (None where the loss knows no classes), over all examples of a dataset."""

    loss: float
    accuracy: float | None


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
    def nbytes(self) -> int:
        return self.plan.nbytes + self.losses.arena_bytes + self.losses.scratch_bytes

    def run(self) -> float:
        """The loss; NaN if it is that."""
        self.plan.invalidate()
        self.plan.run()
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
) -> EvaluationPlan:
    """See cconv.plan.plan.training_plan for the arguments."""
    plan = inference_plan(nodes, inputs, list(losses), weights, constants, threads=threads)
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
