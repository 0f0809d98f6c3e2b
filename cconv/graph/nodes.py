"""Nodes: the graph as plain values, read off onnx_ir once, for everything that walks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from cconv.errors import ModelError, UnsafeModelError, UnsupportedOpError, explain
from cconv.graph.limits import DEFAULT, Limits
from cconv.ops.catalogue import find
from cconv.ops.folding import evaluate
from cconv.ops.operator import Call, Operator
from cconv.ops.tensor import Spec

# Elements of a node's inputs up to which its value is told from weights: those are scales and sizes.
LARGEST_LIVE = 64


@dataclass(frozen=True)
class Node:
    """One node: names of its inputs ('' for an omitted one) and outputs, attributes as Python values."""

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

    def call(self, specs: Mapping[str, Spec], constants: Mapping[str, np.ndarray]) -> Call:
        """This node at concrete shapes, its shape rule applied.

        Raises:
            UnsupportedOpError: no such operator here.
            ShapeError, ModelError: from the operator's rules.
        """
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
        call.results = operator.shapes(call)
        return call


def nodes_of(model: ir.Model) -> list[Node]:
    """The main graph's nodes in their order."""
    return [_node(i, node, model) for i, node in enumerate(model.graph)]


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
        if node.operator is None:
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


class Values:
    """What is known of a graph's values while its nodes are gone through in order.

    Args:
        inputs: what the model is given, and its weights.
        constants: values that are known; a name that is among `inputs` too is a weight, which may change.

    Attributes:
        specs: shapes and dtypes.
        known: values that do not depend on what the model is given: `constants`, and what follows from them.
    """

    def __init__(self, inputs: Mapping[str, Spec], constants: Mapping[str, np.ndarray]) -> None:
        self.known = dict(constants)
        self.specs = {name: Spec(value.shape, value.dtype) for name, value in constants.items()}
        self.specs.update(inputs)
        # Weights, and what follows from them. A user may write to weights between runs, so such a node still runs;
        # a rule that needs a value when the plan is made (Resize its scales) takes the one that they have then.
        self._live = set(inputs).intersection(constants)

    def take(self, node: Node, call: Call) -> bool:
        """Note a node's outputs; returns whether that is all, and nothing is left to compute."""
        operator = node.operator
        assert operator is not None
        self.specs.update(zip(node.outputs, call.results))
        live = any(name in self._live for i, name in enumerate(node.inputs) if i not in call.settled)
        if live and sum(spec.size for spec in call.specs if spec is not None) > LARGEST_LIVE:
            return False
        folded = operator.fold(call)
        if folded is None:
            return False
        self.known.update(zip(node.outputs, folded))
        if live:
            self._live.update(node.outputs)
        return not live

    def evaluate(self, node: Node) -> bool:
        """Note the outputs of a node whose operator cconv has not, if they follow from constants; else False."""
        names = [name for name in node.inputs if name]
        if node.domain or any(name not in self.known or name in self._live for name in names):
            return False
        inputs = [self.known[name] if name else None for name in node.inputs]
        values = evaluate(node.op_type, node.opset, node.attributes, inputs, len(node.outputs))
        for name, value in zip(node.outputs, values or []):
            self.known[name], self.specs[name] = value, Spec(value.shape, value.dtype)
        return values is not None


def calls_of(
    nodes: Iterable[Node], values: Values, limits: Limits = DEFAULT
) -> Iterator[tuple[Node, Call]]:
    """Each node that there is something to compute of when the model runs, with its call.

    What follows from shapes and constants alone goes to `values`.

    Raises:
        UnsupportedOpError: one error that names all operators cconv does not have.
        ModelError: a value is used before it is defined.
        UnsafeModelError: an output beyond limits.output_elements.
    """
    nodes = list(nodes)
    for node in nodes:
        for name in node.inputs:
            if name and name not in values.specs:
                raise ModelError(
                    explain(f"node '{node.name}'", "its inputs are defined before it", f"no value {name!r}")
                )
        if node.operator is None:
            if not values.evaluate(node):
                raise unsupported(nodes)
            continue
        call = node.call(values.specs, values.known)
        if any(spec.size > limits.output_elements for spec in call.results):
            raise UnsafeModelError(
                explain(
                    call.place,
                    f"an output has at most {limits.output_elements} elements (Limits.output_elements)",
                    ", ".join(str(spec.shape) for spec in call.results),
                    "Load the model with a higher limit if you trust it.",
                )
            )
        if not values.take(node, call):
            yield node, call


def _node(index: int, node: ir.Node, model: ir.Model) -> Node:
    domain = "" if node.domain in ("", "ai.onnx") else node.domain
    opset = node.version or model.graph.opset_imports.get(node.domain) or model.graph.opset_imports.get("")
    return Node(
        index=index,
        name=node.name or f"{node.op_type}_{index}",
        op_type=node.op_type,
        domain=domain,
        opset=opset or 1,
        inputs=tuple((value.name or "") if value is not None else "" for value in node.inputs),
        outputs=tuple(value.name or "" for value in node.outputs),
        attributes={name: _plain(attr) for name, attr in node.attributes.items()},
    )


def _plain(attr: ir.Attr) -> Any:
    """An attribute's value as int, float, str, list of them, or ndarray."""
    if attr.type == ir.AttributeType.TENSOR:
        return attr.as_tensor().numpy()
    if attr.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return list(attr.value)
    return attr.value
