"""Plans: the plans of a trainer by shapes, the last few of them kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cconv.graph.model import Model
from cconv.graph.nodes import Node
from cconv.kernels.threads import get_num_threads
from cconv.ops.tensor import Spec
from cconv.plan.plan import Plan, training_plan
from cconv.train.evaluation import EvaluationPlan, evaluation_plan
from cconv.train.losses import Loss
from cconv.train.optim import Updates

# Training and evaluation, each for full batches and a last one.
KEPT = 4

Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class Plans:
    """See cconv.plan.plan.training_plan for the attributes."""

    model: Model
    nodes: Sequence[Node]
    losses: Mapping[str, Loss]
    trained: Sequence[str]
    updates: Updates
    batchnorm: Mapping[str, str]
    threads: int | None
    precision: str
    _kept: OrderedDict[Any, Any] = field(default_factory=OrderedDict)

    def training(self, shapes: Shapes) -> Plan:
        return self._find(
            ("training", *shapes.items()),
            lambda threads: training_plan(
                self.nodes,
                self._specs(shapes),
                self.losses,
                self.model.weights,
                self.model.constants,
                self.trained,
                update=self.updates,
                batchnorm=lambda name: self.batchnorm[name],
                threads=threads,
                limits=self.model.limits,
                precision=self.precision,
            ),
        )

    def evaluation(self, shapes: Shapes) -> EvaluationPlan:
        return self._find(
            ("evaluation", *shapes.items()),
            lambda threads: evaluation_plan(
                self.nodes,
                self._specs(shapes),
                self.losses,
                self.model.weights,
                self.model.constants,
                threads=threads,
                limits=self.model.limits,
                precision=self.precision,
            ),
        )

    def _find(self, key: Any, build: Callable[[int], Any]) -> Any:
        threads = self.threads or get_num_threads()
        key = (*key, threads)
        if key not in self._kept or self._kept[key].outdated:
            self._kept.pop(key, None)
            while len(self._kept) >= KEPT:  # before building: the least memory at any time
                self._kept.popitem(last=False)
            self._kept[key] = build(threads)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _specs(self, shapes: Shapes) -> dict[str, Spec]:
        inputs = self.model.input_specs
        return {name: Spec(shape, inputs[name].dtype) for name, shape in shapes.items()}
