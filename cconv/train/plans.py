"""Plans: the plans of a network, or of a part of one, by shapes, the last few of them kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cconv.graph.nodes import Node
from cconv.kernels.core.threads import get_num_threads
from cconv.model import Model
from cconv.ops.tensor import Layout, Spec
from cconv.plan.plan import Plan, inference_plan, training_plan
from cconv.plan.split import Split, split
from cconv.train.batches import Shapes
from cconv.train.evaluation import EvaluationPlan, evaluation_plan
from cconv.train.losses import Loss
from cconv.train.optim import Updates

# Training and evaluation, each for full batches and a last one.
KEPT = 4

@dataclass
class Plans:
    """See cconv.plan.plan.training_plan for the attributes.

    Attributes:
        dtypes: of the inputs.
        layouts: of the inputs that are not row-major; their shapes are then those in memory.
    """

    model: Model
    nodes: Sequence[Node]
    dtypes: Mapping[str, np.dtype]
    losses: Mapping[str, Loss]
    trained: Sequence[str]
    updates: Updates
    batchnorm: Mapping[str, str]
    threads: int | None
    precision: str
    layouts: Mapping[str, Layout] = field(default_factory=dict)
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
                layouts=self.layouts,
            ),
        )

    def repeated(self, x: Any, y: Any) -> Plan | None:
        """The training plan that was asked for last, with x and y in place, if they are arrays just like its own.

        Checks of shapes and dtypes would find what they found when the plan was made. In a small network's step they
        take 30 of 250 microseconds, as their code and data have left the caches since the last one.
        """
        plan = next(reversed(self._kept.values()), None)
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
                self.model.weights,
                self.model.constants,
                threads=threads,
                limits=self.model.limits,
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
                self.model.weights,
                self.model.constants,
                threads=threads,
                limits=self.model.limits,
                precision=self.precision,
                layouts=self.layouts,
                as_computed=True,
            ),
        )

    def split(self, shapes: Shapes) -> Split:
        """The network cut into what may be kept of an example and the rest."""
        return split(
            self.nodes,
            self._specs(shapes),
            list(self.losses),
            self.model.weights,
            self.model.constants,
            self.trained,
            lambda name: self.batchnorm[name],
            self.model.limits,
        )

    def part(
        self,
        nodes: Sequence[Node],
        dtypes: Mapping[str, np.dtype] | None = None,
        layouts: Mapping[str, Layout] | None = None,
    ) -> Plans:
        """Plans of their own for a part of the network, with these inputs."""
        dtypes, layouts = dtypes or self.dtypes, layouts or self.layouts
        return replace(self, nodes=nodes, dtypes=dtypes, layouts=layouts, _kept=OrderedDict())

    def clear(self) -> None:
        """Free the memory of all plans."""
        self._kept.clear()

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
        return {name: Spec(self._onnx_shape(name, shape), self.dtypes[name]) for name, shape in shapes.items()}

    def _onnx_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.layouts.get(name) is not Layout.CHANNELS_LAST:
            return shape
        return (shape[0], shape[-1], *shape[1:-1])
