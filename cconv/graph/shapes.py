"""Shapes of a graph's values at concrete input shapes, as far as they can be known."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from cconv.errors import CconvError, ShapeError, ValueRangeError, explain
from cconv.graph.graph import Graph
from cconv.graph.nodes import Node
from cconv.graph.walk import Values, check_outputs
from cconv.ops.operator import Call
from cconv.ops.tensor import Spec


def input_shapes_at(model: Graph, batch: int, given: Mapping[str, Sequence[int]] | None = None) -> dict[str, Spec]:
    """Specs of all inputs: shapes as `given`, else as declared, with an open first axis set to `batch`.

    Raises:
        ValueRangeError: a name in `given` that is no input.
        ShapeError: an input leaves open more than its first axis, and no shape is given.
    """
    given = dict(given or {})
    if unknown := set(given) - set(model.input_names):
        raise ValueRangeError(
            explain("input_shapes", f"its names are inputs ({', '.join(model.input_names)})", f"{unknown}")
        )
    specs = {}
    for name, (dims, dtype) in model.input_specs.items():
        if name in given:
            shape = tuple(int(n) for n in given[name])
            if shape and (dims is None or not isinstance(dims[0], int)):
                shape = (batch, *shape[1:])
        elif dims is None or not all(isinstance(n, int) for n in dims[1:]):
            raise ShapeError(
                explain(
                    f"input {name!r}",
                    "every axis after the first has a size",
                    "any number of axes" if dims is None else f"{dims}",
                    f"Give its shape: {{{name!r}: (1, ...)}}.",
                )
            )
        else:
            shape = tuple(n if isinstance(n, int) else batch for n in dims)
        specs[name] = Spec(shape, dtype)
    return specs


def trace(model: Graph, inputs: Mapping[str, Spec]) -> list[tuple[Node, Call | None]]:
    """Each node with its call at the shapes that follow from `inputs`.

    A node has None where its operator or an input's shape is not known; walking goes on, so that one operator
    that cconv does not have leaves the rest readable.
    """
    weights = {name: Spec(value.shape, value.dtype) for name, value in model.weights.items()}
    values = Values({**inputs, **weights}, {**model.weights, **model.constants})
    result: list[tuple[Node, Call | None]] = []
    left = deque(model.nodes)
    while left:
        node, call = left.popleft(), None
        if node.supported and all(name in values.specs for name in node.inputs if name):
            try:
                inside = values.branch(node)
                left.extendleft(reversed(inside or []))
                if inside is not None:
                    continue
                call = node.call(values.specs, values.known)
                check_outputs(call, model.limits)
                values.take(node, call)
            except CconvError:
                call = None
        elif node.operator is None:
            values.evaluate(node)
        result.append((node, call))
    return result
