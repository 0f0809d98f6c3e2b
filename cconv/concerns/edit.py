"""Graph edits and text helpers that several repairs share.

None of these functions calls `Model.edited`. The caller must call it after the last edit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from cconv.model import Model


def exchange(model: Model, node: ir.Node, i: int, array: np.ndarray) -> None:
    """Replace input i of a node by a new initializer. The old value stays if it is also used elsewhere."""
    graph = model.ir.graph
    old = node.inputs[i]
    assert old is not None and old.name is not None
    shared = len(old.uses()) > 1 or old.is_graph_output()
    value = initializer(free_name(graph, old.name) if shared else old.name, array)
    node.replace_input_with(i, value)
    if shared:
        register(model, value)
        return
    if old in graph.inputs:  # up to IR version 3, initializers are graph inputs too
        graph.inputs[graph.inputs.index(old)] = value
    entries = [value if key == old.name else entry for key, entry in graph.initializers.items()]
    graph.initializers.clear()
    for entry in entries:
        graph.initializers[entry.name or ""] = entry


def initializer(name: str, array: np.ndarray) -> ir.Value:
    """Make an initializer that holds an array. It is not yet added to a graph."""
    tensor = ir.Tensor(array, name=name)
    return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)


def add_initializer(model: Model, name: str, array: np.ndarray) -> ir.Value:
    """Append a new initializer to the graph. If `name` is taken, a number is appended to the name."""
    value = initializer(free_name(model.ir.graph, name), array)
    register(model, value)
    return value


def register(model: Model, value: ir.Value) -> None:
    """Add a value to the graph as an initializer; up to IR version 3, initializers must be graph inputs too."""
    model.ir.graph.initializers[value.name or ""] = value
    if model.ir.ir_version < 4:
        model.ir.graph.inputs.append(value)


def names_of(graph: ir.Graph) -> set[str]:
    """Names of all values, including those in subgraphs: a name in a subgraph must not repeat a name outside of it."""
    names: set[str] = set()
    for each in (graph, *graph.subgraphs()):
        values = [*each.inputs, *each.initializers.values(), *(v for node in each for v in node.outputs)]
        names.update(value.name or "" for value in values)
    return names


def free_name(graph: ir.Graph, name: str) -> str:
    """Return a name that no value of the graph has: `name` itself, or `name` with a number appended."""
    taken = names_of(graph)
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}.{count}"
    return candidate


def constant_of(model: Model, value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant initializer (not a weight) or of a Constant node; None if the value is neither."""
    if value is None:
        return None
    if value.name in model.constants:
        return model.constants[value.name]
    node = value.producer()
    if node is None or node.op_type != "Constant":
        return None
    attribute = node.attributes.get("value") or node.attributes.get("value_ints")
    if attribute is None:
        return None
    return np.asarray(attribute.as_tensor().numpy() if attribute.name == "value" else attribute.as_ints())


def set_constant(model: Model, node: ir.Node, i: int, array: np.ndarray) -> None:
    """Replace the value of a node's constant input i. Other nodes that read the old constant keep it."""
    old = node.inputs[i]
    assert old is not None
    if old.name in model.constants:
        exchange(model, node, i, array)
        return
    value = add_initializer(model, f"{node.name or node.outputs[0].name}.shape", array)
    node.replace_input_with(i, value)
    remove_unused(model.ir.graph, old)


def remove_unused(graph: ir.Graph, value: ir.Value) -> None:
    """Remove the node that computes `value`, if no node reads the value and it is no graph output."""
    node = value.producer()
    if node is not None and not value.uses() and not value.is_graph_output():
        graph.remove(node, safe=True)


def follow(value: ir.Value, node: ir.Node, output: ir.Value) -> None:
    """Make all nodes that read `value` read `output` instead, except `node`, which computes `output` from `value`."""
    for user, i in list(value.uses()):
        if user is not node:
            user.replace_input_with(i, output)


def input_of(node: ir.Node, i: int) -> ir.Value | None:
    """Input i of a node; None if an optional input is left out."""
    return node.inputs[i] if i < len(node.inputs) else None


def plain(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is an ai.onnx operator of one of these types and has at least one output and one input.

    A Constant needs no input. The check is necessary because a damaged file may leave inputs or outputs out.
    """
    if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in op_types:
        return False
    return bool(node.outputs) and (node.op_type == "Constant" or len(node.inputs) > 0)


def naming(names: Iterable[str], most: int = 2) -> str:
    """The first `most` names, quoted, and how many more there are: 'a', 'b' and 3 more."""
    return listed((repr(name) for name in names), most)


def listed(names: Iterable[str], most: int = 2) -> str:
    """The first `most` names, without quotes, and how many more there are: a, b and 3 more."""
    items = list(names)
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def name_of(node: ir.Node) -> str:
    """The node's name; if it has none, the name of its first output, else its operator type."""
    return node.name or node.outputs[0].name or node.op_type


def counted(count: int, what: str) -> str:
    """A count with its noun, such as "1 array" or "2 arrays"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def sized(nbytes: float) -> str:
    """Format a number of bytes in B, kB, MB or GB with three significant digits, such as "49.8 MB"."""
    power = min(3, int(math.log10(max(nbytes, 1) * 1.0005) // 3))
    return f"{nbytes / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"
