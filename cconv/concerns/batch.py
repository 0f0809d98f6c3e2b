"""Find and free a batch size that the exporter fixed in the inputs' shapes and in constant shapes inside the graph.

All shapes are inferred twice: at the model's own batch size b and at 3 b. If a node's constant shape still holds b
although the node's input has grown, the constant is edited. Nodes are edited one at a time:

    Reshape  (b, C, H, W) -> (b, C*H*W)     the first size becomes 0 (copy the input's size) or -1 (infer the size)
    Expand   (1, ...) -> (b, ...)           the first size is read at run time from the shape of a model input
    Resize   sizes (b, C, H, W)             the first size is read at run time from the shape of the node's input

The batch is always the first axis. A shape that merges the batch with other axes, or splits it off again, therefore
has a multiple of b as its first size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern, Done, Options
from cconv.concerns.edit import (
    add_initializer,
    constant_of,
    counted,
    free_name,
    input_of,
    listed,
    name_of,
    naming,
    plain,
    remove_unused,
    set_constant,
)
from cconv.concerns.finding import WARNING, Finding
from cconv.graph.shapes import trace
from cconv.model import Model
from cconv.ops.tensor import Spec

# Factor between the two batch sizes at which shapes are inferred. Not 2, because 2 is a common size of other axes.
TIMES = 3


@dataclass
class Freed:
    """The places where a fixed batch size was made variable.

    Attributes:
        batch: the batch size that was fixed.
        inputs: names of the inputs that were declared with this batch size.
        nodes: operator type -> names of the nodes whose constant shape contained this batch size.
    """

    batch: int
    inputs: list[str] = field(default_factory=list)
    nodes: dict[str, list[str]] = field(default_factory=dict)


def find(case: Case) -> Iterator[Finding]:
    freed = free(case.model.copy(), case.given) if _may_be_baked(case) else None
    if freed is None:
        return
    if freed.inputs:
        yield Finding(
            WARNING,
            listed(freed.inputs),
            f"Accepts exactly {counted(freed.batch, 'example')} per run."
            + (" Training on one example has noisy gradients and no batch statistics." if freed.batch == 1 else ""),
            "Make the batch size variable. *",
            automatic=True,
        )
    for kind, names in freed.nodes.items():
        yield Finding(
            WARNING,
            listed(names),
            f"{kind} to a constant shape that contains the batch size {freed.batch}: wrong at any other batch size.",
            "Make the shape follow the batch size. *",
            automatic=True,
        )


def repair(model: Model, options: Options) -> Done | None:
    freed = free(model, options.case.given) if _may_be_baked(Case(model, 1, options.case.given)) else None
    if freed is None:
        return None
    parts = [f"inputs {naming(freed.inputs)}"] if freed.inputs else []
    parts += [f"{len(names)} {kind}" for kind, names in freed.nodes.items()]
    return Done(f"batch size {freed.batch} made variable: {', '.join(parts)}", before_batch=freed.batch)


def free(model: Model, given: Mapping[str, Sequence[int]] | None = None) -> Freed | None:
    """Make the batch size of `model` variable, in place. Return None if no batch size is fixed."""
    case = Case(model, 1, given)
    freed = Freed(case.fixed_batch or 1)
    small = case.specs(freed.batch)
    if small is None:
        return None
    values = {value.name: value for value in model.ir.graph.inputs}
    batched = [name for name in case.batched if small[name].shape and small[name].shape[0] == freed.batch]
    if not batched:
        return None
    if case.fixed_batch:
        freed.inputs = [name for name in batched if values[name].shape is not None]
    large = {
        name: Spec((spec.shape[0] * TIMES, *spec.shape[1:]), spec.dtype) if name in batched else spec
        for name, spec in small.items()
    }
    before = _specs(model, small)
    tried: set[str] = set()
    while (node := _next_baked(model, before, _specs(model, large), freed.batch, tried)) is not None:
        tried.add(node.outputs[0].name or "")
        if _free_node(model, node, before, _specs(model, large), freed.batch, batched[0]):
            freed.nodes.setdefault(node.op_type, []).append(name_of(node))
            model.edited()
    if not freed.inputs and not freed.nodes:
        return None
    _redeclare(model, freed, before, _specs(model, large))
    model.edited()
    return freed


def _may_be_baked(case: Case) -> bool:
    """Whether an input or a constant shape could hold a fixed batch size: a cheap test before `free`, which is slow."""
    if case.fixed_batch:
        return True
    return any(
        plain(node, "Reshape", "Expand", "Resize")
        and (target := _target(case.model, node)) is not None
        and target[0] == 1
        for node in case.model.ir.graph
    )


def _specs(model: Model, inputs: Mapping[str, Spec]) -> dict[str, Spec]:
    """Infer shape and dtype of all values by name, for inputs of these shapes. Values of unknown shape are left out."""
    specs = dict(inputs)
    specs.update((name, Spec(array.shape, array.dtype)) for name, array in model.weights.items())
    specs.update((name, Spec(array.shape, array.dtype)) for name, array in model.constants.items())
    for node, call in trace(model, inputs):
        if call is not None:
            specs.update(zip(node.outputs, call.results))
    return specs


def _place(node: ir.Node) -> int:
    """The index of the node's input that holds the target shape."""
    return 3 if node.op_type == "Resize" else 1


def _target(model: Model, node: ir.Node) -> np.ndarray | None:
    """The target shape of a Reshape, Expand or Resize; None if the shape is not constant or is empty."""
    array = constant_of(model, input_of(node, _place(node)))
    return array if array is not None and array.ndim == 1 and array.size else None


def _next_baked(
    model: Model, before: Mapping[str, Spec], after: Mapping[str, Spec], batch: int, tried: set[str]
) -> ir.Node | None:
    """The first node whose constant shape does not grow with the batch; None if there is no such node.

    Args:
        before, after: specs of all values at the fixed batch size and at TIMES that size.
        batch: the fixed batch size.
        tried: names of the first outputs of nodes that are skipped.
    """
    for node in model.ir.graph:
        if not plain(node, "Reshape", "Expand", "Resize") or node.outputs[0].name in tried:
            continue
        target = _target(model, node)
        value, result = node.inputs[0], before.get(node.outputs[0].name or "")
        if target is None or value is None or result is None or target[0] < 1 or target[0] % batch:
            continue
        old, new = before.get(value.name or ""), after.get(value.name or "")
        if old is None or new is None:
            continue
        if node.op_type == "Expand":
            if target[0] == batch and (old.shape == new.shape or batch > 1):
                return node
        elif new.size == TIMES * old.size:
            return node
    return None


def _free_node(
    model: Model, node: ir.Node, before: Mapping[str, Spec], after: Mapping[str, Spec], batch: int, source: str
) -> bool:
    """Make the target shape of one node follow the batch size. Return whether that was possible.

    Args:
        before, after: specs of all values at the fixed batch size and at TIMES that size.
        batch: the fixed batch size.
        source: name of a model input whose first axis is the batch.
    """
    value, target = node.inputs[0], _target(model, node)
    assert value is not None and target is not None
    old, new = before[value.name or ""], after[value.name or ""]
    if node.op_type == "Reshape":
        changed = target.copy()
        grown = new.shape and old.shape and new.shape[0] == TIMES * old.shape[0]
        if grown and old.shape[0] == target[0] and not node.attributes.get_int("allowzero", 0):
            changed[0] = 0
        elif -1 not in target:
            changed[0] = -1
        else:  # the target has a -1 on another axis: write its known size there, so that -1 can infer the batch
            sizes = before[node.outputs[0].name or ""].shape
            changed = np.array([-1, *sizes[1:]], target.dtype)
        set_constant(model, node, 1, changed)
        return True
    if node.op_type == "Expand" and old.shape != new.shape:
        changed = target.copy()
        changed[0] = 1  # the input already has the batch axis, so Expand keeps it
        set_constant(model, node, 1, changed)
        return True
    if target[0] != batch:
        return False
    place = _place(node)
    graph, base = model.ir.graph, free_name(model.ir.graph, f"{name_of(node)}.batch")
    read = value if node.op_type == "Resize" else next(v for v in graph.inputs if v.name == source)
    first = add_initializer(model, f"{base}.axis", np.array([0], np.int64))
    rest = add_initializer(model, f"{base}.rest", target[1:].astype(np.int64))
    shape = ir.node("Shape", [read], name=f"{base}.shape")
    size = ir.node("Gather", [shape.outputs[0], first], {"axis": 0}, name=base)
    whole = ir.node("Concat", [size.outputs[0], rest], {"axis": 0}, name=f"{base}.concat")
    for each in (shape, size, whole):
        each.outputs[0].name = free_name(graph, each.name or "")
        graph.insert_before(node, each)
    constant = node.inputs[place]
    node.replace_input_with(place, whole.outputs[0])
    if constant is not None and constant.is_initializer():
        if not constant.uses() and constant not in graph.inputs:
            del graph.initializers[constant.name or ""]
    elif constant is not None:
        remove_unused(graph, constant)
    return True


def _redeclare(model: Model, freed: Freed, before: Mapping[str, Spec], after: Mapping[str, Spec]) -> None:
    """Declare the batch size as variable: in the inputs, and in every declared shape that grows with the batch."""
    graph = model.ir.graph
    taken = {str(n) for value in graph.inputs if value.shape is not None for n in value.shape}
    symbol = "batch" if "batch" not in taken else "batch_size"
    values = [*graph.outputs, *(value for node in graph for value in node.outputs)]
    for value in dict.fromkeys(values):
        if value.shape is None:
            continue
        old, new = before.get(value.name or ""), after.get(value.name or "")
        if old is None or new is None or len(old.shape) != len(value.shape) or len(new.shape) != len(value.shape):
            value.shape = None if not value.is_graph_output() else ir.Shape([None] * len(value.shape))
            continue
        dims = [
            n if a == b or not isinstance(n, int) else symbol if a == freed.batch else None
            for n, a, b in zip(value.shape, old.shape, new.shape)
        ]
        value.shape = ir.Shape(dims)
    for value in graph.inputs:
        if value.name in freed.inputs and value.shape is not None:
            value.shape = ir.Shape([symbol, *list(value.shape)[1:]])


CONCERNS = [Concern("batch size", find, repair)]
