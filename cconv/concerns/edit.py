"""Edits of a graph that several repairs need. None of them calls `Model.edited`; who is done with a graph does."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from cconv.model import Model


def exchange(model: Model, node: ir.Node, i: int, array: np.ndarray) -> None:
    """Put a new initializer in the place of a node's input i; the old one stays if used elsewhere."""
    graph = model.ir.graph
    old = node.inputs[i]
    assert old is not None and old.name is not None
    shared = len(old.uses()) > 1 or old.is_graph_output()
    value = initializer(free_name(graph, old.name) if shared else old.name, array)
    node.replace_input_with(i, value)
    if shared:
        register(model, value)
        return
    if old in graph.inputs:  # IR version 3 lists initializers among the inputs
        graph.inputs[graph.inputs.index(old)] = value
    entries = [value if key == old.name else entry for key, entry in graph.initializers.items()]
    graph.initializers.clear()
    for entry in entries:
        graph.initializers[entry.name or ""] = entry


def initializer(name: str, array: np.ndarray) -> ir.Value:
    """A value that holds an array; it belongs to no graph yet."""
    tensor = ir.Tensor(array, name=name)
    return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)


def add_initializer(model: Model, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer, last in the graph, called `name` or like it."""
    value = initializer(free_name(model.ir.graph, name), array)
    register(model, value)
    return value


def register(model: Model, value: ir.Value) -> None:
    """Make a value an initializer of the graph; up to IR version 3 that is an input too."""
    model.ir.graph.initializers[value.name or ""] = value
    if model.ir.ir_version < 4:
        model.ir.graph.inputs.append(value)


def names_of(graph: ir.Graph) -> set[str]:
    """Names of all values, those of subgraphs included: a name inside must not be one of outside."""
    found: set[str] = set()
    for each in (graph, *graph.subgraphs()):
        values = [*each.inputs, *each.initializers.values(), *(v for node in each for v in node.outputs)]
        found.update(value.name or "" for value in values)
    return found


def free_name(graph: ir.Graph, name: str) -> str:
    """`name` itself, or with a number behind it, so that no value is called so."""
    taken = names_of(graph)
    found, count = name, 0
    while found in taken:
        count += 1
        found = f"{name}.{count}"
    return found


def constant_of(model: Model, value: ir.Value | None) -> np.ndarray | None:
    """The value of an initializer that is no weight, or of a Constant node."""
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
    """Give a node's constant input i another value; who else uses the old one keeps it."""
    old = node.inputs[i]
    assert old is not None
    if old.name in model.constants:
        exchange(model, node, i, array)
        return
    value = add_initializer(model, f"{node.name or node.outputs[0].name}.shape", array)
    node.replace_input_with(i, value)
    remove_unused(model.ir.graph, old)


def remove_unused(graph: ir.Graph, value: ir.Value) -> None:
    """Remove the node that computes a value which nobody reads."""
    node = value.producer()
    if node is not None and not value.uses() and not value.is_graph_output():
        graph.remove(node, safe=True)


def follow(value: ir.Value, node: ir.Node, output: ir.Value) -> None:
    """Let all that read `value` read `output` instead, but for `node`, which computes it out of `value`."""
    for user, i in list(value.uses()):
        if user is not node:
            user.replace_input_with(i, output)


def input_of(node: ir.Node, i: int) -> ir.Value | None:
    """Input i; None where it is left out."""
    return node.inputs[i] if i < len(node.inputs) else None


def plain(node: ir.Node | None, *op_types: str) -> bool:
    """Whether this is a node of ai.onnx, of one of these types, with a first output and, but for a Constant, a first
    input: a file may leave them out."""
    if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in op_types:
        return False
    return bool(node.outputs) and (node.op_type == "Constant" or len(node.inputs) > 0)


def naming(names: Iterable[str], most: int = 2) -> str:
    """Some names, and how many more there are."""
    return listed((repr(name) for name in names), most)


def listed(names: Iterable[str], most: int = 2) -> str:
    """The same for a column of names, without quotes."""
    found = list(names)
    more = len(found) - most
    return ", ".join(found[:most]) + (f" and {more} more" if more > 0 else "")


def name_of(node: ir.Node) -> str:
    """The node's name, or, where it has none, that of its first output."""
    return node.name or node.outputs[0].name or node.op_type


def counted(count: int, what: str) -> str:
    """1 array, 2 arrays."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def sized(nbytes: float) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    power = min(3, int(math.log10(max(nbytes, 1) * 1.0005) // 3))
    return f"{nbytes / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"
