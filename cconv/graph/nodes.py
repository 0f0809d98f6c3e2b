"""Nodes: the graph as plain values, read off onnx_ir once, for everything that walks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from cconv.errors import ModelError, UnsupportedOpError, explain, root_of
from cconv.graph.functions import without_functions
from cconv.graph.limits import DEFAULT, Limits
from cconv.ops.catalogue import find
from cconv.ops.operator import Call, Operator
from cconv.ops.tensor import Spec


@dataclass(frozen=True)
class Node:
    """One node: names of its inputs ('' for an omitted one) and outputs, attributes as Python values.

    Its inputs are followed by the values that its subgraphs take from outside, or that its attributes name.
    """

    index: int
    name: str
    op_type: str
    domain: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def operator(self) -> Operator | None:
        return find(self.domain, self.op_type)

    @property
    def has_definition(self) -> bool:
        """Whether the standard defines the operator by others; see expand.py."""
        plain = not self.domain and not self.subgraphs and self.op_type not in BEYOND
        return plain and _has_definition(self.op_type, self.opset)

    @property
    def supported(self) -> bool:
        """Whether cconv has the operator, or the standard defines it by others."""
        return self.operator is not None or self.has_definition

    @property
    def subgraphs(self) -> dict[str, Subgraph]:
        """By attribute."""
        return {name: value for name, value in self.attributes.items() if isinstance(value, Subgraph)}

    def call(self, specs: Mapping[str, Spec], constants: Mapping[str, np.ndarray]) -> Call:
        """This node at concrete shapes, its shape rule applied.

        Raises:
            UnsupportedOpError: no such operator here.
            ShapeError, ModelError: from the operator's rules.
        """
        call, operator = self.bare_call(specs, constants)
        call.results = operator.shapes(call)
        if any(self.outputs[len(call.results) :]):
            raise call.error(ModelError, f"gives at most {len(call.results)} outputs", f"{len(self.outputs)}")
        return call

    def bare_call(self, specs: Mapping[str, Spec], constants: Mapping[str, np.ndarray]) -> tuple[Call, Operator]:
        """This node at concrete shapes, before its shape rule was asked, and its operator."""
        operator = self.operator
        if operator is None:
            raise unsupported([self])
        call = Call(
            name=self.name,
            op_type=self.op_type,
            opset=self.opset,
            index=self.index,
            attributes=self.attributes,
            specs=[specs[name] if name else None for name in self.inputs],
            constants=[constants.get(name) if name else None for name in self.inputs],
            output_count=len(self.outputs),
        )
        operator.check(call)
        return call, operator


@dataclass(frozen=True)
class Subgraph:
    """A graph within a node, such as a branch of an If. Names are unique: no value of it is called like one outside.

    Attributes:
        constants: its initializers.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, np.ndarray]

    @property
    def captured(self) -> list[str]:
        """Values of outside that it uses, each once."""
        inside = {*self.inputs, *self.constants, *(name for node in self.nodes for name in node.outputs)}
        used = [*(name for node in self.nodes for name in node.inputs), *self.outputs]
        return [name for name in dict.fromkeys(used) if name and name not in inside]

    def renamed(self, names: Mapping[str, str]) -> Subgraph:
        """The same with other names for what `names` has."""
        nodes = tuple(node_renamed(node, names) for node in self.nodes)
        return replace(self, nodes=nodes, outputs=tuple(names.get(name, name) for name in self.outputs))


def node_renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The same with other names for the values that `names` has."""
    inside = {name: graph.renamed(names) for name, graph in node.subgraphs.items()}
    return replace(
        node,
        inputs=tuple(names.get(name, name) for name in node.inputs),
        outputs=tuple(names.get(name, name) for name in node.outputs),
        attributes={**node.attributes, **inside},
    )


def nodes_of(model: ir.Model, limits: Limits = DEFAULT) -> list[Node]:
    """The main graph's nodes in their order, calls of the model's own functions replaced by what these do.

    The model keeps its functions. Nodes of subgraphs are numbered after those of the main graph.

    Raises:
        ModelError: functions that call each other in a circle, or that onnx_ir cannot inline.
        UnsafeModelError: more nodes than limits.nodes.
    """
    if model.functions:
        model = without_functions(model, limits)
    numbers = count(len(model.graph))
    return [_node(i, node, model, numbers) for i, node in enumerate(model.graph)]


def with_subgraphs(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes and all nodes within them."""
    for node in nodes:
        yield node
        for graph in node.subgraphs.values():
            yield from with_subgraphs(graph.nodes)


def needed_for(nodes: Iterable[Node], outputs: Iterable[str]) -> list[Node]:
    """The nodes that the given values depend on, in their order."""
    nodes = list(nodes)
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            wanted.update(name for name in node.inputs if name)
            kept.append(node)
    return kept[::-1]


def unsupported(nodes: Iterable[Node]) -> UnsupportedOpError:
    """One error that names every operator among `nodes` that cconv does not have."""
    places: dict[str, list[str]] = {}
    for node in nodes:
        if not node.supported:
            kind = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            places.setdefault(kind, []).append(node.name)
    found = "; ".join(
        f"{kind} at {', '.join(repr(name) for name in names[:3])}"
        + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for kind, names in sorted(places.items())
    )
    return UnsupportedOpError(
        explain(
            "model",
            "every operator must be one that cconv has",
            f"{len(places)} that it has not: {found}",
            "docs/operators.md lists those it has.",
        )
    )


# Operators whose definitions use what cconv has not: random numbers, Scan.
BEYOND = ("Bernoulli", "LinearAttention")


@cache
def _has_definition(op_type: str, opset: int) -> bool:
    from onnx import defs

    try:
        schema: Any = defs.get_schema(op_type, opset)  # onnx's stubs lack its functions
    except defs.SchemaError:
        return False
    return bool(schema.function_opset_versions or schema.context_dependent_function_opset_versions)


def _node(index: int, node: ir.Node, model: ir.Model, numbers: Iterator[int]) -> Node:
    domain = "" if node.domain in ("", "ai.onnx") else node.domain
    # The standard's domain has two names, and onnx_ir keeps the one that the file imports.
    names = ("", "ai.onnx") if domain == "" else (node.domain, "", "ai.onnx")
    imports = model.graph.opset_imports
    opset = node.version or next((imports[name] for name in names if imports.get(name)), None)
    _check_types(node, domain, opset or 1, index)
    attributes = {name: _plain(attr, model, numbers) for name, attr in node.attributes.items()}
    captured = [name for value in attributes.values() if isinstance(value, Subgraph) for name in value.captured]
    operator = find(domain, node.op_type)
    if operator is not None:
        captured += operator.implicit_inputs(attributes, _names(node.inputs))
    return Node(
        index=index,
        name=node.name or f"{node.op_type}_{index}",
        op_type=node.op_type,
        domain=domain,
        opset=opset or 1,
        inputs=(*_names(node.inputs), *dict.fromkeys(captured)),
        outputs=_names(node.outputs),
        attributes=attributes,
    )


def _check_types(node: ir.Node, domain: str, opset: int, index: int) -> None:
    """That attributes have values, of the type that ONNX's operator gives them; operators' rules count on it.

    Raises:
        ModelError: one has not.
    """
    place = f"node '{node.name or f'{node.op_type}_{index}'}' ({node.op_type})"
    for name, attr in node.attributes.items():
        if attr.is_ref():
            found = f"{name!r}, which stands for {attr.ref_attr_name!r}"
            raise ModelError(explain(place, "attributes stand for others within functions only", found))
    if not node.attributes or not onnx.defs.has(node.op_type, opset, domain):
        return
    known = onnx.defs.get_schema(node.op_type, opset, domain).attributes
    for name, attr in node.attributes.items():
        wanted = str(known[name].type).rpartition(".")[2] if name in known else attr.type.name
        if attr.type.name != wanted:
            raise ModelError(explain(place, f"attribute {name!r} is of type {wanted}", attr.type.name))


def array_of(tensor: ir.TensorProtocol, place: str) -> np.ndarray:
    """The values of a stored tensor.

    Raises:
        ModelError: bytes that stand for none, such as padding of packed numbers that is not 0.
    """
    try:
        return tensor.numpy()
    except Exception as error:  # onnx_ir raises what its parts happen to raise
        raise ModelError(explain(place, "has values that can be read", root_of(error))) from error


def _names(values: Iterable[ir.Value | None]) -> tuple[str, ...]:
    return tuple((value.name or "") if value is not None else "" for value in values)


def _plain(attr: ir.Attr, model: ir.Model, numbers: Iterator[int]) -> Any:
    """An attribute's value as int, float, str, list of them, ndarray, or Subgraph.

    Numbers are rounded to float32, as a file holds them: a graph built in memory computes what its saved copy does.
    """
    if attr.type == ir.AttributeType.FLOAT:
        return float(np.float32(attr.as_float()))
    if attr.type == ir.AttributeType.FLOATS:
        return [float(np.float32(value)) for value in attr.as_floats()]
    if attr.type == ir.AttributeType.TENSOR:
        return array_of(attr.as_tensor(), f"attribute {attr.name!r}")
    if attr.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return list(attr.value)
    if attr.type == ir.AttributeType.GRAPH:
        graph = attr.as_graph()
        return Subgraph(
            inputs=_names(graph.inputs),
            nodes=tuple(_node(next(numbers), node, model, numbers) for node in graph),
            outputs=_names(graph.outputs),
            constants={
                name: array_of(value.const_value, f"initializer {name!r}")
                for name, value in graph.initializers.items()
                if value.const_value is not None
            },
        )
    return attr.value
