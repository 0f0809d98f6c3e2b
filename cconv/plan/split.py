"""Split: a network that is trained in part, cut in two.

    frozen   what gives the same for an example at every step: no trained weight before it, no chance in it (dropout),
             nothing of the other examples of the batch (their statistics, say)
    rest     all else, from the values that cross over: the boundary

What the frozen part gives may be computed once and kept. The two are lowered like the whole: a chain of nodes that runs
as one lies on one side, so not a bit is different.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cconv.graph.limits import DEFAULT, Limits
from cconv.graph.nodes import Node, needed_for
from cconv.graph.walk import Values, calls_of
from cconv.graph.weights import memory_of
from cconv.ops.tensor import Spec
from cconv.plan.fuse import fused
from cconv.plan.gradient import Lowered, mark_needed_gradients
from cconv.plan.match import JoinedNode
from cconv.plan.plan_builder import PlanBuilder


@dataclass(frozen=True)
class Split:
    """A network in two parts.

    Attributes:
        frozen, rest: their nodes, in order.
        boundary: names of the values that cross over, in order; each has one slice along axis 0 for every example.
        weights: names of the weights that the frozen part reads.
        share: of the forward pass's floating-point operations, those in the frozen part.
        untrained: likewise, those of all nodes before the first trained weights.
        obstacle: what keeps the one from being the other, and at which node; "" if nothing does.
    """

    frozen: list[Node]
    rest: list[Node]
    boundary: list[str]
    weights: list[str]
    share: float
    untrained: float
    obstacle: str


def split(
    nodes: Sequence[Node],
    inputs: Mapping[str, Spec],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    trained: Collection[str],
    batchnorm: Callable[[str], str],
    limits: Limits = DEFAULT,
) -> Split:
    """Cut a network for training; see cconv.plan.plan.training_plan for the arguments."""
    arrays = memory_of(weights)
    known = {name: array for name, array in arrays.items() if name not in trained}
    specs = {name: Spec(array.shape, array.dtype) for name, array in arrays.items()}
    # What is kept serves training and evaluation.
    real = np.dtype(np.float32)
    training, evaluation = PlanBuilder(real, training=True, batchnorm=batchnorm), PlanBuilder(real)
    batch = next(iter(inputs.values())).shape[:1] if inputs else ()
    moving = set(inputs) if batch and all(spec.shape[:1] == batch for spec in inputs.values()) else set()
    obstacle = "" if moving else "inputs without an axis of examples"
    # Names of values by what they depend on. Not in `moving` nor in `changing` are constants.
    changing = set(trained) | (set(inputs) - moving)
    behind = set(trained)
    reached = set(trained)
    items: list[Lowered] = []
    for node, call in calls_of(nodes, Values({**inputs, **specs}, {**known, **constants}), limits):
        if mark_needed_gradients(node, call, reached):
            reached.update(node.outputs)
        items.append(Lowered(node, call))
        named = [name for name in node.outputs if name]
        if not behind.isdisjoint(node.inputs):
            behind.update(named)
        if not changing.isdisjoint(node.inputs):
            changing.update(named)
            continue
        operator = node.operator
        assert operator is not None
        carried = [i for i, name in enumerate(node.inputs) if name in moving]
        why = operator.varies(training, call) or operator.varies(evaluation, call)
        if not why and carried:
            alike = all(spec.shape[:1] == batch for spec in call.results[: call.output_count])
            why = "" if alike and operator.separates(call, carried) else "examples that are not told apart"
        if why:
            obstacle = obstacle or f"{why} at node '{node.name}' ({node.op_type})"
        if why or carried:
            (changing if why else moving).update(named)
    for item in fused(training, items, outputs):
        if isinstance(item.node, JoinedNode) and not changing.isdisjoint(item.node.outputs):
            moving.difference_update(*(node.outputs for node in item.node.chain))

    rest = needed_for([node for node in nodes if moving.isdisjoint(node.outputs)], outputs)
    read = dict.fromkeys([name for node in rest for name in node.inputs] + list(outputs))
    boundary = [name for name in read if name in moving]
    frozen = needed_for([node for node in nodes if changing.isdisjoint(node.outputs)], boundary)
    flops = {item.node.index: item.node.operator.flops(item.call) for item in items if item.node.operator}
    total = max(1, sum(flops.values()))
    return Split(
        frozen=frozen,
        rest=rest,
        boundary=boundary,
        weights=[name for name in arrays if any(name in node.inputs for node in frozen)],
        share=sum(flops.get(node.index, 0) for node in frozen) / total,
        untrained=sum(flops[item.node.index] for item in items if behind.isdisjoint(item.node.inputs)) / total,
        obstacle=obstacle,
    )
