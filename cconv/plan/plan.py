"""Plan: a graph at one set of input shapes, lowered to an array of steps with their memory.

    inference_plan   outputs from inputs
    training_plan    loss, gradients and update from inputs and targets

Phases of a training program, in order: what follows from frozen weights alone (run once), forward, loss,
backward, update, late (running statistics). A loss that is not finite stops the program before the update, so
weights, optimizer state and running statistics stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cconv.errors import TrainingError, explain
from cconv.graph.limits import DEFAULT, Limits
from cconv.graph.nodes import Node
from cconv.graph.walk import Values, calls_of
from cconv.kernels.threads import get_num_threads
from cconv.ops.operator import Lowering
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.plan.fuse import fused
from cconv.plan.gradient import Lowered, backward, mark_wanted
from cconv.plan.lowering import Builder, Memory


class Loss(Protocol):
    """What a plan asks of a loss; see cconv/train/losses.py."""

    def target_spec(self, output: Spec) -> Spec:
        """Shape and dtype of the target that belongs to an output of this shape."""
        ...

    def lower(self, lower: Lowering, output: Tensor, target: Tensor, gradient: bool) -> Tensor | None:
        """Emit steps that add the loss to control.loss; returns the output's gradient if asked for."""
        ...


class Update(Protocol):
    """What a plan asks of an optimizer; see cconv/train/optim.py."""

    def lower_all(self, lower: Lowering, pairs: Sequence[tuple[str, Tensor, Tensor]]) -> None:
        """Emit the steps that move each weight along its gradient: (name, weight, gradient)."""
        ...


@dataclass
class Plan:
    """Steps and memory for one set of shapes; not safe for two threads at once.

    Attributes:
        inputs, targets: arrays to write before a run, by name, in ONNX's shapes.
        outputs: the outputs' arrays after a run, likewise; overwritten by the next.
        gradients: the trained weights' gradients after a run up to "update".
        control: the record of kernels/control.py.
        memory: program, marks, sizes.
    """

    inputs: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    control: np.ndarray
    memory: Memory
    threads: int
    prepared: bool = False

    @property
    def nbytes(self) -> int:
        """Memory the plan takes, known before the first run: arena and scratch."""
        return self.memory.arena_bytes + self.memory.scratch_bytes

    def run(self, until: str | None = None) -> tuple[str, int]:
        """Run the steps up to the phase `until` (default: all).

        Returns:
            The label of the step that stopped the run ("" if none did) and its status, see kernels/step.pxd.
        """
        marks = self.memory.marks
        begin = marks["body"] if self.prepared else 0
        end = marks[until] if until is not None else -1
        last, status = self.memory.program.run(begin, end)
        self.prepared = True
        return (self.memory.labels[last] if status else "", status)

    def invalidate(self) -> None:
        """Frozen weights have changed: derive again what follows from them."""
        self.prepared = False


def _forward(
    builder: Builder,
    nodes: Sequence[Node],
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    constants: Mapping[str, np.ndarray],
    trained: Collection[str],
    visible: Collection[str],
) -> tuple[dict[str, Tensor], list[Lowered]]:
    """Lower the nodes; returns the values' tensors and the calls.

    Of values that are not `visible`, those inside of a chain that is run as one have no tensor.
    """
    values = {**inputs, **weights}
    specs = {name: Spec(tensor.shape, tensor.dtype) for name, tensor in values.items()}
    walk = Values(specs, constants)
    reached = set(trained)
    lowered = []
    for node, call in calls_of(nodes, walk, builder.limits):
        if mark_wanted(node, call, reached):
            reached.update(node.outputs)
        lowered.append(Lowered(node, call))
    lowered = _needed(lowered, visible)
    if builder.fuse:
        lowered = fused(builder, lowered, visible)
    for item in lowered:
        node, call = item.node, item.call
        builder.label = node.name
        operator = node.operator
        assert operator is not None
        for name in node.inputs:
            if name and name not in values:
                value = walk.known[name]
                kind = builder.dtype if np.issubdtype(value.dtype, np.floating) else value.dtype
                values[name] = builder.external(np.array(value, dtype=kind, order="C"), name)
        call.inputs = [values[name] if name else None for name in node.inputs]
        call.outputs = list(operator.forward(builder, call))
        values.update(zip(node.outputs, call.outputs))
    for name in set(visible) - set(values):
        values[name] = builder.external(np.array(walk.known[name], order="C"), name)
    return values, lowered


def _needed(items: Sequence[Lowered], visible: Collection[str]) -> list[Lowered]:
    """The items that somebody reads at run time, in their order.

    Shape arithmetic leaves nodes behind of which only the shape, or a value that is known, was of interest.
    """
    wanted = set(visible)
    kept = []
    for item in reversed(items):
        if wanted.intersection(item.node.outputs):
            kept.append(item)
            inputs = enumerate(item.node.inputs)
            wanted.update(name for i, name in inputs if name and i not in item.call.settled)
    return kept[::-1]


def _real(spec: Spec, dtype: np.dtype) -> Spec:
    """`spec` with floating-point values in the plan's own dtype."""
    return Spec(spec.shape, dtype) if np.issubdtype(spec.dtype, np.floating) else spec


def _placed(builder: Builder, specs: Mapping[str, Spec]) -> dict[str, Tensor]:
    """A pinned row-major tensor for each spec: memory that Python writes between runs."""
    result = {}
    for name, spec in specs.items():
        spec = _real(spec, builder.dtype)
        result[name] = builder.tensor(spec.shape, dtype=spec.dtype, name=name)
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
) -> Plan:
    """Plan that computes `outputs` from `inputs`, weights frozen.

    Args:
        nodes: those the outputs depend on, in order.
        weights: floating-point initializers, of the plan's dtype; the plan reads this memory.
        constants: the other initializers.
        limits: sizes beyond which the model is refused, before the memory is taken.
        precision: "fast" or "direct"; see kernels/schedule.py.
        fuse: whether chains of nodes are run as one where cconv can; results differ by rounding.
    """
    builder = Builder(dtype=np.dtype(dtype), limits=limits, precision=precision, fuse=fuse)
    placed = _placed(builder, inputs)
    fixed = {name: builder.external(array, name) for name, array in weights.items()}
    values, _ = _forward(builder, nodes, placed, fixed, {**weights, **constants}, (), outputs)
    results = {name: builder.as_layout(values[name], Layout.ROW_MAJOR) for name in outputs}
    for tensor in results.values():
        builder.pin(tensor)
    return _finish(builder, placed, {}, results, {}, threads)


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
) -> Plan:
    """Plan for one training step: outputs, loss, gradients of `trained`, and their update if one is given.

    Args:
        losses: for each output that is trained on, its loss; they are added.
        trained: names of the weights to find gradients for.
        precision, fuse: see inference_plan.

    Raises:
        TrainingError: no gradient reaches one of `trained`.
    """
    builder = Builder(
        np.dtype(dtype), training=True, limits=limits, precision=precision, fuse=fuse, batchnorm=batchnorm
    )
    placed = _placed(builder, inputs)
    fixed = {name: builder.external(array, name) for name, array in weights.items()}
    changing = {id(fixed[name].buffer) for name in trained}
    builder.is_trained = lambda buffer: id(buffer) in changing
    known = {name: array for name, array in weights.items() if name not in trained}
    values, lowered = _forward(builder, nodes, placed, fixed, {**known, **constants}, trained, losses)

    builder.mark("loss")
    targets = _placed(
        builder,
        {
            name: loss.target_spec(Spec(values[name].shape, values[name].dtype))
            for name, loss in losses.items()
        },
    )
    grads: dict[str, Tensor] = {}
    for name, loss in losses.items():
        builder.label = f"loss of {name!r}"
        grad = loss.lower(builder, values[name], targets[name], gradient=True)
        assert grad is not None
        grads[name] = builder.add(grads[name], grad) if name in grads else grad
    builder.label = "loss"
    builder.emit(builder.kernels.loss.CheckFinite(), reads=[builder.control])
    results = {name: builder.as_layout(values[name], Layout.ROW_MAJOR) for name in losses}
    for tensor in results.values():
        builder.pin(tensor)

    builder.mark("backward")
    found = backward(builder, lowered, grads)
    if missing := [name for name in trained if name not in found]:
        raise TrainingError(
            explain(
                "training",
                "the loss must depend on every trained weight",
                f"none on {', '.join(repr(name) for name in missing)}",
                "Leave them out with trainable=...",
            )
        )
    final = {}
    for name in trained:
        builder.label = f"{name}:gradient"
        final[name] = builder.as_layout(found[name], Layout.ROW_MAJOR)
    builder.mark("update")
    if update is not None:
        builder.label = "update"
        update.lower_all(builder, [(name, fixed[name], final[name]) for name in trained])
    else:
        for tensor in final.values():
            builder.pin(tensor)
    return _finish(builder, placed, targets, results, final, threads)


def _finish(
    builder: Builder,
    inputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    threads: int | None,
) -> Plan:
    threads = threads or get_num_threads()
    memory = builder.finish(threads)

    def views(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        return {name: memory.view(tensor).reshape(tensor.shape) for name, tensor in tensors.items()}

    return Plan(
        inputs=views(inputs),
        targets=views(targets),
        outputs=views(outputs),
        gradients=views(gradients),
        control=memory.view(builder.control),
        memory=memory,
        threads=threads,
    )
