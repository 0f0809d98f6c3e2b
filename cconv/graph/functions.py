"""Functions of the model's own: a copy of the graph with every call replaced by the function's nodes."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from cconv.errors import ModelError, UnsafeModelError, explain, root_of
from cconv.graph.limits import Limits


def without_functions(model: ir.Model, limits: Limits) -> ir.Model:
    """A model that computes the same without functions; weights are shared, the given model stays as it is.

    Raises:
        ModelError: functions that call each other in a circle, or that onnx_ir cannot inline.
        UnsafeModelError: more nodes than limits.nodes.
    """
    total = _count(model.graph.all_nodes(), model, {})
    if total > limits.nodes:
        raise UnsafeModelError(
            explain(
                "model",
                f"has at most {limits.nodes} nodes with its functions inlined (Limits.nodes)",
                f"{total}",
                "Raise the limit if you trust the model.",
            )
        )
    try:
        copy = model.clone()
        for function in copy.functions.values():
            _pass_through(function)
        return InlinePass()(copy).model
    except Exception as error:  # onnx_ir raises what its parts happen to raise
        raise ModelError(explain("model", "its functions can be inlined", root_of(error))) from error


def _count(nodes: Iterable[ir.Node], model: ir.Model, known: dict[ir.OperatorIdentifier, int | None]) -> int:
    """Nodes, with those of the functions they call, however deep; `known` holds what was counted before."""
    total = 0
    for node in nodes:
        name = node.op_identifier()
        if name not in model.functions:
            total += 1
            continue
        if name not in known:
            known[name] = None  # being counted
            known[name] = _count(model.functions[name].all_nodes(), model, known)
        found = known[name]
        if found is None:
            raise ModelError(explain(f"function {name[1]!r}", "does not call itself", "a circle of calls"))
        total += found
    return total


def _pass_through(function: ir.Function) -> None:
    """Let a node compute every output that is an input. Inlining gives outputs the names that the call has for them,
    and must not rename a value of the caller."""
    for i, value in enumerate(function.outputs):
        if value in function.inputs:
            node = ir.node("Identity", [value])
            function.append(node)
            function.outputs[i] = node.outputs[0]
