"""The walk over a graph at concrete shapes: what follows from shapes and constants, and what is left to compute."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from cconv.errors import ModelError, UnsafeModelError, explain
from cconv.graph.expand import expanded
from cconv.graph.limits import DEFAULT, Limits
from cconv.graph.nodes import Node, Subgraph, node_renamed, unsupported
from cconv.ops.folding import evaluate
from cconv.ops.operator import Call
from cconv.ops.tensor import Spec

# Elements of a node's inputs up to which its value is told from weights: those are scales and sizes.
LARGEST_LIVE = 64


class Values:
    """What is known of a graph's values while its nodes are gone through in order.

    Args:
        inputs: what the model is given, and its weights.
        constants: values that are known; a name that is among `inputs` too is a weight, which may change.

    Attributes:
        specs: shapes and dtypes.
        known: values that do not depend on what the model is given: `constants`, and what follows from them.
        weights_read: names of the weights whose value a shape rule has read. When such a weight changes, a plan made
            with it is outdated.
    """

    def __init__(self, inputs: Mapping[str, Spec], constants: Mapping[str, np.ndarray]) -> None:
        self.known = {name: computable(value) for name, value in constants.items()}
        self.specs = {name: Spec(value.shape, value.dtype) for name, value in self.known.items()}
        self.specs.update(inputs)
        # Weights, and what follows from them. A user may write to weights between runs, so such a node still runs;
        # a rule that needs a value when the plan is made (Resize its scales) takes the one that they have then.
        # By name: the weights it follows from.
        self._live = {name: {name} for name in inputs if name in constants}
        self.weights_read: set[str] = set()

    def take(self, node: Node, call: Call) -> bool:
        """Note a node's outputs; returns whether that is all, and nothing is left to compute."""
        operator = node.operator
        assert operator is not None
        self.specs.update(zip(node.outputs, call.results))
        self.ask(node, call)
        live = self._sources(name for i, name in enumerate(node.inputs) if i not in call.read_by_shape_rule)
        if live and sum(spec.size for spec in call.specs if spec is not None) > LARGEST_LIVE:
            return False
        folded = operator.fold(call)
        if folded is None:
            return False
        self.known.update(zip(node.outputs, map(computable, folded)))
        if live:
            self._live.update((name, live) for name in node.outputs)
        return not live

    def ask(self, node: Node, call: Call) -> None:
        """Note which weights the values come from that the node's rule, or its lowering, has asked for."""
        self.weights_read |= self._sources(node.inputs[i] for i in call.constants_read)

    def _sources(self, names: Iterable[str]) -> set[str]:
        """The weights that values follow from."""
        return set().union(*(self._live.get(name, ()) for name in names))

    def branch(self, node: Node, limits: Limits = DEFAULT) -> list[Node] | None:
        """The nodes that take this one's place where it stands for one of its subgraphs, or where cconv has not its
        operator but the standard defines that by others; else None.

        Raises:
            UnsupportedOpError: which one is decided while the model runs.
            ModelError: that one is missing, or has another number of outputs.
        """
        if node.operator is None:
            body = expanded(node, self.specs, limits)
            return None if body is None else inlined(node, body)[0]
        if not node.subgraphs:
            return None
        call, operator = node.bare_call(self.specs, self.known)
        name = operator.branch(call)
        graph = node.subgraphs.get(name or "")
        if graph is None or len(graph.outputs) != len(node.outputs):
            found = f"{len(graph.outputs)}" if graph else "no such graph"
            raise call.error(ModelError, f"{name} is a graph with {len(node.outputs)} outputs", found)
        self.ask(node, call)
        nodes, constants = inlined(node, graph)
        self.known.update(constants)
        self.specs.update((name, Spec(value.shape, value.dtype)) for name, value in constants.items())
        return nodes

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


def computable(value: np.ndarray) -> np.ndarray:
    """The value in a dtype that NumPy computes with: bfloat16 is not one."""
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value


def calls_of(nodes: Iterable[Node], values: Values, limits: Limits = DEFAULT) -> Iterator[tuple[Node, Call]]:
    """Each node that there is something to compute of when the model runs, with its call.

    What follows from shapes and constants alone goes to `values`.

    Raises:
        UnsupportedOpError: one error that names all operators cconv does not have.
        ModelError: a value is used before it is defined.
        UnsafeModelError: an output beyond limits.output_elements.
    """
    left = deque(nodes)
    while left:
        node = left.popleft()
        for name in node.inputs:
            if name and name not in values.specs:
                raise ModelError(
                    explain(f"node '{node.name}'", "its inputs are defined before it", f"no value {name!r}")
                )
        if node.operator is None and values.evaluate(node):
            continue
        inside = values.branch(node, limits)
        if inside is not None:
            left.extendleft(reversed(inside))
            continue
        if node.operator is None:
            raise unsupported([node, *left])
        call = node.call(values.specs, values.known)
        check_outputs(call, limits)
        if not values.take(node, call):
            yield node, call


def check_outputs(call: Call, limits: Limits) -> None:
    """
    Raises:
        UnsafeModelError: an output beyond limits.output_elements. An axis of size 0 counts as 1: NumPy takes no array
            whose other axes are too long either.
    """
    if any(math.prod(max(n, 1) for n in spec.shape) > limits.output_elements for spec in call.results):
        raise UnsafeModelError(
            explain(
                call.place,
                f"an output has at most {limits.output_elements} elements (Limits.output_elements)",
                ", ".join(str(spec.shape) for spec in call.results),
                "Load the model with a higher limit if you trust it.",
            )
        )


def inlined(node: Node, graph: Subgraph) -> tuple[list[Node], dict[str, np.ndarray]]:
    """A subgraph in its node's place, and its constants. Names are made unique by the node's output; the graph's
    inputs are the node's.

    Where an output is computed by a node of the subgraph, that one computes the node's output now.
    """
    place = next((name for name in node.outputs if name), node.name)
    made = {name for each in graph.nodes for name in each.outputs if name}
    names = {name: f"{place} > {name}" for name in (*made, *graph.constants)}
    names.update(zip(graph.inputs, node.inputs))
    passed = []
    for inner, outer in zip(graph.outputs, node.outputs):
        if inner in made:
            made.remove(inner)
            names[inner] = outer or names[inner]
        elif outer:
            passed.append((inner, outer))
    nodes = [node_renamed(each, names) for each in graph.nodes]
    for inner, outer in passed:
        source = names.get(inner, inner)
        nodes.append(Node(node.index, node.name, "Identity", "", node.opset, (source,), (outer,), {}))
    return nodes, {names[name]: value for name, value in graph.constants.items()}
