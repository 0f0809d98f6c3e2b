"""evaluation_plan: outputs and loss of a model as it is used, with running statistics and without dropout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cconv.graph.limits import DEFAULT, Limits
from cconv.graph.nodes import Node
from cconv.ops.tensor import Layout, Spec
from cconv.plan.loss import Loss, emit_loss
from cconv.plan.plan import Plan, feed, inference_plan
from cconv.plan.plan_builder import Memory, PlanBuilder
from cconv.plan.status import error_of


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

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        return self.plan.outputs

    def feed(self, inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> None:
        """See Plan.feed."""
        self.plan.feed(inputs)
        feed(self.targets, targets)

    def run(self) -> float:
        """The loss; NaN if it is that.

        Raises:
            OutOfRange: the model takes an index that its axis does not have.
        """
        self.plan.run()
        self.control["loss"] = 0
        last, status = self.losses.program.run()
        if status:
            raise error_of(self.losses.labels[last], status)
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
    builder = PlanBuilder(dtype=np.dtype(np.float32))
    targets = {}
    for name, loss in losses.items():
        builder.label = f"loss of {name!r}"
        output = builder.external(plan.outputs[name], name)
        spec = loss.target_spec(Spec(output.shape, output.dtype))
        targets[name] = builder.tensor(spec.shape, dtype=spec.dtype, name=f"target of {name!r}")
        builder.pin(targets[name])
        emit_loss(builder, loss, output, targets[name], gradient=False)
    memory = builder.finish(threads)
    views = {name: memory.view(tensor).reshape(tensor.shape) for name, tensor in targets.items()}
    return EvaluationPlan(plan, views, memory, memory.view(builder.control))
