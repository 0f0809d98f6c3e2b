"""The table that Model.summary() prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cconv.errors import ShapeError
from cconv.graph.graph import Graph
from cconv.graph.shapes import input_shapes_at, trace
from cconv.ops.operator import Call
from cconv.text import table

Shape = tuple[int, ...]


def summary(model: Graph, input_shapes: Mapping[str, Sequence[int]] | None) -> str:
    """See Model.summary."""
    note = ""
    calls: dict[int, Call | None] = {}
    larger: dict[int, Call | None] = {}
    try:
        calls = {node.index: call for node, call in trace(model, input_shapes_at(model, 1, input_shapes))}
        larger = {node.index: call for node, call in trace(model, input_shapes_at(model, 2, input_shapes))}
    except ShapeError as error:
        note = f"No shapes: {error}"

    counted: set[str] = set()
    parameters = set(model.parameters)
    rows = []
    total_flops = 0
    for node in model.nodes:
        mine = {name for name in node.inputs if name in parameters} - counted
        counted |= mine
        call = calls.get(node.index)
        flops = node.operator.flops(call) if node.operator and call else 0
        total_flops += flops
        rows.append(
            (
                node.name,
                node.op_type if node.supported else f"{node.op_type} (not supported)",
                _shape(call, larger.get(node.index)),
                f"{sum(model.weights[name].size for name in mine):,}" if mine else "",
                f"{flops / 1e6:,.3f}" if flops else "",
            )
        )
    count = sum(model.weights[name].size for name in parameters)
    others = sum(array.size for name, array in model.weights.items() if name not in parameters)
    nbytes = sum(array.nbytes for array in model.weights.values())
    inputs = ", ".join(f"{name} {_dims(spec.dims)}" for name, spec in model.input_specs.items())
    lines = [
        f"{model.ir.graph.name or 'model'}: {inputs} -> {', '.join(model.output_names)}",
        "",
        *table(rows, ("node", "operator", "output", "parameters", "MFLOPs"), align="lllrr"),
        "",
        f"parameters  {count:,}" + (f" (and {others:,} values that no gradient reaches)" if others else ""),
        f"weights     {nbytes / 1e6:,.2f} MB in {len(model.weights)} arrays",
    ]
    if calls:
        lines.append(f"forward     {total_flops / 1e6:,.2f} MFLOPs a sample, convolutions and linear layers")
    if note:
        lines.append(note)
    return "\n".join(lines)


def _shape(call: Call | None, larger: Call | None) -> str:
    """The first output's shape; axes that grow with the batch show as N or a multiple of it."""
    if call is None:
        return "?"
    shape = call.results[0].shape
    twice = larger.results[0].shape if larger is not None else shape
    if len(twice) != len(shape):
        twice = shape
    parts = [str(n) if n == m else "N" if n == 1 else f"{n}N" for n, m in zip(shape, twice)]
    return f"({', '.join(parts)})"


def _dims(dims: tuple[int | str | None, ...] | None) -> str:
    if dims is None:
        return "(...)"
    return f"({', '.join(str(n) if isinstance(n, int) else n or '?' for n in dims)})"
