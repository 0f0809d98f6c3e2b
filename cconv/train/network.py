"""Network: a model's nodes with losses and updates, and the plans of it, or of a part of it, by shapes.

A batch is checked (batch.py), finds its plan here, and is copied into it; then the plan runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cconv.graph.graph import Graph
from cconv.graph.nodes import Node
from cconv.kernels.core.threads import get_num_threads
from cconv.ops.tensor import Layout, Spec
from cconv.plan.cache import PlanCache
from cconv.plan.evaluation import EvaluationPlan, evaluation_plan
from cconv.plan.plan import Plan, inference_plan, training_plan
from cconv.plan.split import Split, split
from cconv.train.batch import Batch, Shapes
from cconv.train.losses import Loss
from cconv.train.optim.state import Updates

# Plans for training and evaluation, each for full batches and a last one.
PLANS = 4


@dataclass
class Network:
    """See cconv.plan.plan.training_plan for the attributes.

    Attributes:
        graph: what the nodes are of; its weights are read and written.
        dtypes: of the inputs.
        layouts: of the inputs that are not row-major; their shapes are then those in memory.
    """

    graph: Graph
    nodes: Sequence[Node]
    dtypes: Mapping[str, np.dtype]
    losses: Mapping[str, Loss]
    trained: Sequence[str]
    updates: Updates
    batchnorm: Mapping[str, str]
    threads: int | None
    precision: str
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    plans: PlanCache[Any] = field(default_factory=lambda: PlanCache(PLANS))

    # A batch, in place.

    def filled(self, batch: Batch) -> Plan:
        """The training plan for a batch, with the batch in place; its targets are checked and converted.

        Raises:
            ShapeError, DTypeError, ValueRangeError: targets unlike what the losses take.
        """
        plan = self.training(batch.shapes)
        self._feed(plan, batch)
        return plan

    def filled_for_evaluation(self, batch: Batch) -> EvaluationPlan:
        """Likewise, the evaluation plan."""
        plan = self.evaluation(batch.shapes)
        self._feed(plan, batch)
        return plan

    def _feed(self, plan: Plan | EvaluationPlan, batch: Batch) -> None:
        batch.targets = self.checked_targets(batch.targets, plan.outputs)
        plan.feed(batch.inputs, batch.targets)

    def checked_targets(
        self, targets: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The targets as their losses take them, for outputs of these shapes."""
        checked = {}
        for name, target in targets.items():
            spec = Spec(outputs[name].shape, outputs[name].dtype)
            checked[name] = self.losses[name].check_target(spec, target, f"target of {name!r}")
        return checked

    # Plans.

    def training(self, shapes: Shapes) -> Plan:
        return self._find(
            ("training", *shapes.items()),
            lambda threads: training_plan(
                self.nodes,
                self._specs(shapes),
                self.losses,
                self.graph.weights,
                self.graph.constants,
                self.trained,
                update=self.updates,
                batchnorm=lambda name: self.batchnorm[name],
                threads=threads,
                limits=self.graph.limits,
                precision=self.precision,
                layouts=self.layouts,
            ),
        )

    def repeated(self, x: Any, y: Any) -> Plan | None:
        """The training plan of the last batch, with x and y in place, if they are arrays just like its own.

        Checks of shapes and dtypes would find what they found when the plan was made. In a small network's step they
        take 30 of 250 microseconds, as their code and data have left the caches since the last one.
        """
        plan = self.plans.latest
        if not isinstance(plan, Plan) or len(plan.inputs) != 1 or len(plan.targets) != 1:
            return None
        if plan.threads != (self.threads or get_num_threads()) or plan.outdated:
            return None
        pairs = [(x, *plan.inputs.values()), (y, *plan.targets.values())]
        for array, own in pairs:
            if type(array) is not np.ndarray or array.shape != own.shape or array.dtype != own.dtype:
                return None
        for array, own in pairs:
            own[...] = array
        return plan

    def evaluation(self, shapes: Shapes) -> EvaluationPlan:
        return self._find(
            ("evaluation", *shapes.items()),
            lambda threads: evaluation_plan(
                self.nodes,
                self._specs(shapes),
                self.losses,
                self.graph.weights,
                self.graph.constants,
                threads=threads,
                limits=self.graph.limits,
                precision=self.precision,
                layouts=self.layouts,
            ),
        )

    def values(self, shapes: Shapes, names: Sequence[str]) -> Plan:
        """For evaluation, without losses: the values of these names as they are computed."""
        return self._find(
            ("values", *names, *shapes.items()),
            lambda threads: inference_plan(
                self.nodes,
                self._specs(shapes),
                names,
                self.graph.weights,
                self.graph.constants,
                threads=threads,
                limits=self.graph.limits,
                precision=self.precision,
                layouts=self.layouts,
                as_computed=True,
            ),
        )

    def split(self, shapes: Shapes) -> Split:
        """The network cut into the part whose outputs may be kept for an example, and the rest."""
        return split(
            self.nodes,
            self._specs(shapes),
            list(self.losses),
            self.graph.weights,
            self.graph.constants,
            self.trained,
            lambda name: self.batchnorm[name],
            self.graph.limits,
        )

    def part(
        self,
        nodes: Sequence[Node],
        dtypes: Mapping[str, np.dtype] | None = None,
        layouts: Mapping[str, Layout] | None = None,
    ) -> Network:
        """A network of its own for a part of the network, with these inputs."""
        dtypes, layouts = dtypes or self.dtypes, layouts or self.layouts
        return replace(self, nodes=nodes, dtypes=dtypes, layouts=layouts, plans=PlanCache(PLANS))

    def _find(self, key: Any, make: Callable[[int], Any]) -> Any:
        threads = self.threads or get_num_threads()
        return self.plans.find((*key, threads), lambda: make(threads))

    def _specs(self, shapes: Shapes) -> dict[str, Spec]:
        return {name: Spec(self._onnx_shape(name, shape), self.dtypes[name]) for name, shape in shapes.items()}

    def _onnx_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.layouts.get(name) is not Layout.CHANNELS_LAST:
            return shape
        return (shape[0], shape[-1], *shape[1:-1])
