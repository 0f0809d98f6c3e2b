"""Plan: a graph at one set of input shapes, lowered to an array of steps with their memory.

    inference_plan   outputs from inputs
    training_plan    loss, gradients and update from inputs and targets

Phases of a training program, in order: prologue (what follows from frozen weights alone; run once, and again when those
weights may have changed), forward, loss, backward, update, late (running statistics). A loss, gradient or batch
statistic that is not finite stops the program before the update, so weights, optimizer state and running statistics
stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from cconv.errors import ModelError, TrainingError, explain
from cconv.graph.limits import DEFAULT, Limits
from cconv.graph.nodes import Node
from cconv.graph.walk import Values, calls_of
from cconv.graph.weights import memory_of, states_of, touch
from cconv.kernels.core.threads import get_num_threads
from cconv.kernels.loss.loss import CheckFinite
from cconv.kernels.move.copy import Fill
from cconv.ops.elementwise import is_real
from cconv.ops.operator import Lowering
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.plan.fuse import fused
from cconv.plan.gradient import Lowered, backward, mark_needed_gradients
from cconv.plan.loss import Loss, emit_loss
from cconv.plan.order import postponed
from cconv.plan.plan_builder import Memory, PlanBuilder
from cconv.plan.status import error_of


class Update(Protocol):
    """What a plan needs of an optimizer; see cconv/train/optim/state.py."""

    def emit(self, lower: Lowering, pairs: Sequence[tuple[str, Tensor, Tensor]]) -> None:
        """Emit the steps that move each weight along its gradient: (name, weight, gradient)."""
        ...


@dataclass
class Plan:
    """Steps and memory for one set of shapes; not safe for two threads at once.

    Attributes:
        inputs, targets: arrays to write before a run, by name, in ONNX's shapes, or (N, spatial, C) if channels-last.
        outputs: arrays of the outputs after a run, in shapes as above. The next run overwrites them.
        layouts: of the outputs.
        gradients: the trained weights' gradients after a run up to "update".
        control: the record of kernels/core/control.py.
        memory: program, marks, sizes.
        weights: the weights the plan was made for; graph/weights.py says how their changes are noticed.
        sources: names of the weights that the prologue reads.
        written: names of the weights that a whole run changes.
        fixed: weights and inputs whose values were read when the steps were made (the bounds of a Clip, an input that
            holds a shape), each with that value as bytes.
    """

    inputs: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    layouts: dict[str, Layout]
    gradients: dict[str, np.ndarray]
    control: np.ndarray
    memory: Memory
    threads: int
    weights: Mapping[str, np.ndarray]
    sources: Sequence[str] = ()
    written: Sequence[str] = ()
    fixed: Sequence[tuple[np.ndarray, bytes]] = ()
    _derived: list[object] | None = None
    """States of `sources` at the last run of the prologue; None: the prologue must run again."""

    @property
    def nbytes(self) -> int:
        """Memory the plan takes, known before the first run: arena and scratch."""
        return self.memory.arena_bytes + self.memory.scratch_bytes

    def feed(self, inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray] | None = None) -> None:
        """Copy a batch, whose shapes are the plan's, to where the steps read it."""
        feed(self.inputs, inputs)
        feed(self.targets, targets or {})

    def run(self, until: str | None = None) -> None:
        """Run the steps up to the phase `until` (default: all).

        Raises:
            NotFinite: a loss or gradient that is NaN or infinite.
            OutOfRange: an index that its axis does not have.
            StatisticsNotFinite: a running mean or variance would become NaN or infinite.
        """
        marks = self.memory.marks
        states = states_of(self.weights, self.sources)  # before they are read: a write meanwhile is seen next time
        begin = marks["body"] if states == self._derived else 0
        end = marks[until] if until is not None else -1
        self._derived = None
        try:
            last, status = self.memory.program.run(begin, end)
        finally:
            if until is None:
                touch(self.weights, self.written)
        self._derived = states
        if status:
            raise error_of(self.memory.labels[last], status)

    @property
    def outdated(self) -> bool:
        """Whether a value in `fixed` has changed. The plan must then be made anew."""
        return any(array.tobytes() != value for array, value in self.fixed)


def feed(own: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> None:
    """Copy values to a plan's own arrays of these names."""
    for name, value in values.items():
        own[name][...] = value


def _forward(
    builder: PlanBuilder,
    nodes: Sequence[Node],
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    constants: Mapping[str, np.ndarray],
    trained: Collection[str],
    visible: Collection[str],
) -> tuple[dict[str, Tensor], list[Lowered], set[str]]:
    """Lower the nodes.

    Returns the tensors of the values by name, the calls in order, and the names of the weights whose values were read
    while the steps were made. A value inside a fused chain has no tensor unless it is `visible`.
    """
    values = {**inputs, **weights}
    specs = {name: Spec(tensor.shape, tensor.dtype) for name, tensor in values.items()}
    walk = Values(specs, constants)
    # The operator Gradient computes gradients in the forward pass, so its inputs must be differentiable, too.
    asking = [(node, node.operator.independent(node.attributes)) for node in nodes if node.operator]
    reached = set(trained).union(*(node.inputs[:count] for node, count in asking))
    lowered = []
    for node, call in calls_of(nodes, walk, builder.limits):
        if mark_needed_gradients(node, call, reached):
            reached.update(node.outputs)
        lowered.append(Lowered(node, call))
    calls = lowered = _needed(lowered, visible)
    if builder.fuse:
        lowered = fused(builder, lowered, visible)
    for i, item in enumerate(lowered):
        node, call = item.node, item.call
        builder.label = node.name
        builder.differentiate = partial(_differentiate, builder, lowered, i, values)
        operator = node.operator
        assert operator is not None
        for i, name in enumerate(node.inputs):
            if name and name not in values:
                if name not in walk.known and i in call.read_by_shape_rule:
                    continue  # a shape rule read only the dtype or shape of this value, so it was never computed
                value = walk.known[name]
                kind = builder.dtype if np.issubdtype(value.dtype, np.floating) else value.dtype
                values[name] = builder.external(np.array(value, dtype=kind, order="C"), name)
        call.inputs = [values.get(name) if name else None for name in node.inputs]
        call.outputs = list(operator.forward(builder, call))
        values.update(zip(node.outputs, call.outputs))
    for name in set(visible) - set(values):
        if name not in walk.known:
            found = "a further output of a node whose operator has fewer"
            raise ModelError(explain(f"output {name!r}", "is something that a node computes", found))
        values[name] = builder.external(np.array(walk.known[name], order="C"), name)
    for item in calls:
        walk.ask(item.node, item.call)
    return values, lowered, walk.weights_read


def _differentiate(
    builder: PlanBuilder,
    lowered: list[Lowered],
    at: int,
    values: Mapping[str, Tensor],
    of: int,
    to: Sequence[int],
) -> list[Tensor]:
    """See Lowering.differentiate; for the node at index `at`. All nodes before it have been lowered."""

    def filled(like: Tensor, value: float) -> Tensor:
        result = builder.tensor(like.shape, like.layout)
        step = Fill(builder.build, like.size, np.array(value, builder.dtype).tobytes())
        builder.emit(step, writes=[result])
        return result

    inputs = lowered[at].node.inputs
    label, name = builder.label, inputs[of]
    found = backward(builder, lowered[:at], {name: filled(values[name], 1.0)})
    builder.label = label
    names = [inputs[i] for i in to]
    return [found[name] if name in found else filled(values[name], 0.0) for name in names]


def _needed(items: Sequence[Lowered], visible: Collection[str]) -> list[Lowered]:
    """Remove dead code: the items whose outputs are read at run time, in their order.

    An item is dead if shape rules alone have read its outputs, as those of shape arithmetic.
    """
    read = set(visible)
    alive = []
    for item in reversed(items):
        if read.intersection(item.node.outputs):
            alive.append(item)
            inputs = enumerate(item.node.inputs)
            read.update(name for i, name in inputs if name and i not in item.call.read_by_shape_rule)
    return alive[::-1]


def _real(spec: Spec, dtype: np.dtype) -> Spec:
    """`spec` with floating-point values in the plan's own dtype."""
    return Spec(spec.shape, dtype) if is_real(spec.dtype) else spec


def _placed(
    builder: PlanBuilder, specs: Mapping[str, Spec], layouts: Mapping[str, Layout] | None = None
) -> dict[str, Tensor]:
    """A tensor for each spec, row-major unless `layouts` says otherwise. Pinned: Python writes to it between runs."""
    result = {}
    for name, spec in specs.items():
        spec = _real(spec, builder.dtype)
        layout = (layouts or {}).get(name, Layout.ROW_MAJOR)
        result[name] = builder.tensor(spec.shape, layout, spec.dtype, name)
        builder.pin(result[name])
    return result


def inference_plan(
    nodes: Sequence[Node],
    inputs: Mapping[str, Spec],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    dtype: np.dtype | type = np.float32,
    threads: int | None = None,
    limits: Limits = DEFAULT,
    precision: str = "fast",
    fuse: bool = True,
    layouts: Mapping[str, Layout] | None = None,
    as_computed: bool = False,
    input_values: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """Plan that computes `outputs` from `inputs`, weights frozen.

    Args:
        nodes: those the outputs depend on, in order.
        weights: floating-point initializers, of the plan's dtype; the plan reads this memory.
        constants: the other initializers.
        limits: sizes beyond which the model is refused, before the memory is taken.
        precision: "fast" or "direct"; see kernels/schedule/algorithms.py.
        fuse: whether chains of nodes are run as one where cconv can; results differ by rounding.
        layouts: of inputs that are not row-major.
        as_computed: leave the outputs in the layouts in which they are computed, for another plan that reads them.
        input_values: values of inputs that shape rules may read (sizes, axes). The plan is outdated once one that
            was read changes.
    """
    builder = PlanBuilder(dtype=np.dtype(dtype), limits=limits, precision=precision, fuse=fuse)
    placed = _placed(builder, inputs, layouts)
    memory = memory_of(weights)
    fixed = {name: builder.external(array, name) for name, array in memory.items()}
    input_values = {name: value.astype(placed[name].dtype) for name, value in (input_values or {}).items()}
    values, _, weights_read = _forward(
        builder, nodes, placed, fixed, {**memory, **constants, **input_values}, (), outputs
    )
    results = {
        name: values[name] if as_computed else builder.as_layout(values[name], Layout.ROW_MAJOR) for name in outputs
    }
    for tensor in results.values():
        builder.pin(tensor)
    return _finish(builder, placed, {}, results, {}, weights, weights_read, threads, input_values)


def training_plan(
    nodes: Sequence[Node],
    inputs: Mapping[str, Spec],
    losses: Mapping[str, Loss],
    weights: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    trained: Collection[str],
    update: Update | None = None,
    batchnorm: Callable[[str], str] = lambda name: "batch",
    dtype: np.dtype | type = np.float32,
    threads: int | None = None,
    limits: Limits = DEFAULT,
    precision: str = "fast",
    fuse: bool = True,
    layouts: Mapping[str, Layout] | None = None,
) -> Plan:
    """Plan for one training step: outputs, loss, gradients of `trained`, and their update if one is given.

    Args:
        losses: for each output that is trained on, its loss; they are added.
        trained: names of the weights whose gradients are computed.
        precision, fuse, layouts: see inference_plan.

    Raises:
        TrainingError: no gradient reaches one of `trained`.
    """
    builder = PlanBuilder(
        np.dtype(dtype), training=True, limits=limits, precision=precision, fuse=fuse, batchnorm=batchnorm
    )
    placed = _placed(builder, inputs, layouts)
    memory = memory_of(weights)
    fixed = {name: builder.external(array, name) for name, array in memory.items()}
    changing = {id(fixed[name].buffer) for name in trained}
    builder.is_trained = lambda buffer: id(buffer) in changing
    known = {name: array for name, array in memory.items() if name not in trained}
    values, lowered, weights_read = _forward(builder, nodes, placed, fixed, {**known, **constants}, trained, losses)

    builder.mark("loss")
    targets = _placed(
        builder,
        {name: loss.target_spec(Spec(values[name].shape, values[name].dtype)) for name, loss in losses.items()},
    )
    grads: dict[str, Tensor] = {}
    for name, loss in losses.items():
        builder.label = f"loss of {name!r}"
        grad = emit_loss(builder, loss, values[name], targets[name], gradient=True)
        assert grad is not None
        grads[name] = builder.add(grads[name], grad) if name in grads else grad
    builder.label = "loss"
    builder.emit(CheckFinite(), reads=[builder.control])
    results = {name: builder.as_layout(values[name], Layout.ROW_MAJOR) for name in losses}
    for tensor in results.values():
        builder.pin(tensor)

    builder.mark("backward")
    builder.owned = lambda gradient: sum(t.buffer is gradient.buffer for t in grads.values()) == 1
    found = backward(builder, lowered, grads)
    if missing := [name for name in trained if name not in found]:
        raise TrainingError(
            explain(
                "training",
                "the loss must depend on every trained weight",
                f"a loss that does not depend on {', '.join(repr(name) for name in missing)}",
                "Leave them out with trainable=...",
            )
        )
    final = {}
    for name in trained:
        builder.label = f"{name}:gradient"
        final[name] = builder.as_layout(found[name], Layout.ROW_MAJOR)
    builder.drop_needless_recomputations(builder.marks["backward"])
    builder.mark("update")
    builder.emissions = postponed(builder.emissions, builder.marks["backward"], builder.marks["update"])
    builder.emissions += builder.checks_before_update
    if update is not None:
        builder.label = "update"
        update.emit(builder, [(name, fixed[name], final[name]) for name in trained])
    else:
        for tensor in final.values():
            builder.pin(tensor)
    return _finish(builder, placed, targets, results, final, weights, weights_read, threads)


def _finish(
    builder: PlanBuilder,
    inputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    weights: Mapping[str, np.ndarray],
    weights_read: Collection[str],
    threads: int | None,
    input_values: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    threads = threads or get_num_threads()
    memory = builder.finish(threads)
    arrays = memory_of(weights)
    names = {id(array): name for name, array in arrays.items()}

    def among(tensors: Iterable[Tensor | None]) -> list[str]:
        """The weights whose memory these are."""
        found = {id(tensor.buffer.array) for tensor in tensors if tensor is not None}
        return [name for key, name in names.items() if key in found]

    def views(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        return {name: memory.view(tensor).reshape(tensor.memory_shape) for name, tensor in tensors.items()}

    given = views(inputs)
    fixed = [(array, array.tobytes()) for name, array in arrays.items() if name in weights_read]
    fixed += [(given[name], value.tobytes()) for name, value in (input_values or {}).items() if name in weights_read]
    plan = Plan(
        inputs=given,
        targets=views(targets),
        outputs=views(outputs),
        layouts={name: tensor.layout for name, tensor in outputs.items()},
        gradients=views(gradients),
        control=memory.view(builder.control),
        memory=memory,
        threads=threads,
        weights=weights,
        sources=among(tensor for step in builder.prologue for tensor in step.reads),
        written=among(t for step in builder.emissions + builder.late for t in (*step.updates, *step.writes)),
        fixed=fixed,
    )
    builder.release()
    return plan
