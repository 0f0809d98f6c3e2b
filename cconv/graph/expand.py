"""Operators of ONNX that cconv has not, but that ONNX defines by other operators: a node's place is taken by those.

Attention, NegativeLogLikelihoodLoss, RotaryEmbedding, CenterCropPad, Shrink and more are functions in the standard. The
nodes of such a function are lowered, fused and differentiated like any others; the user's graph keeps its own node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import defs, helper, numpy_helper

from cconv.errors import ModelError, explain
from cconv.graph.limits import Limits
from cconv.graph.nodes import Node, Subgraph, nodes_of
from cconv.ops.tensor import Spec

DOMAIN = "cconv.body"


def expanded(node: Node, specs: Mapping[str, Spec], limits: Limits) -> Subgraph | None:
    """What a node is by its standard definition, with the node's inputs and outputs in their order.

    Args:
        specs: shapes and dtypes of the inputs by name.

    Returns:
        None where the standard has no definition by other operators.

    Raises:
        ModelError: a number of inputs or outputs that the operator does not take, or attributes it makes nothing of.
        UnsafeModelError: more nodes than limits.nodes.
    """
    if not node.has_definition:
        return None
    place = f"node '{node.name}' ({node.op_type})"
    schema = defs.get_schema(node.op_type, node.opset)
    for what, names, least, most in (
        ("inputs", node.inputs, schema.min_input, schema.max_input),
        ("outputs", node.outputs, schema.min_output, schema.max_output),
    ):
        if not least <= len(names) <= most or not all(names[:least]):
            raise ModelError(explain(place, f"has {least} to {most} {what}", f"{sum(map(bool, names))}"))
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in node.attributes:
            raise ModelError(explain(place, f"has the attribute {name}", "none"))
    try:
        model = _model(node, schema, specs)
    except Exception as error:  # onnx and onnx_ir raise what their parts happen to raise
        cause = str(error).split("\n", 1)[0]
        raise ModelError(explain(place, "is one that the standard's definition takes", cause)) from error
    inside = [replace(each, index=node.index, name=f"{node.name} > {each.name}") for each in nodes_of(model, limits)]
    inputs, outputs = _names("x", node.inputs), _names("y", node.outputs)
    return Subgraph(inputs=inputs, nodes=tuple(inside), outputs=outputs, constants={})


def _names(letter: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{letter}{i}" if name else "" for i, name in enumerate(names))


def _model(node: Node, schema: Any, specs: Mapping[str, Spec]) -> ir.Model:
    """A model of the node alone, as a call of a function that is its definition."""
    inputs, outputs = _names("x", node.inputs), _names("y", node.outputs)
    fields = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }
    call = helper.make_node(node.op_type, inputs, outputs, **fields)
    defaults = [attribute.default_value for name, attribute in schema.attributes.items() if name not in fields]
    call.attribute.extend(default for default in defaults if default.name)
    types = [_type(specs[name]) if name else onnx.TypeProto() for name in node.inputs]
    function = _definition(schema, node.opset, call, types)
    # Optional outputs that the node does not ask for are named and not computed.
    made = {name for each in function.node for name in each.output}
    pairs = [(inner, outer) for inner, outer in zip(function.output, outputs) if inner in made or outer]
    del function.output[:], call.output[:]
    function.output.extend(inner for inner, _ in pairs)
    call.output.extend(outer for _, outer in pairs)
    # In a domain of its own, as it may use an operator of its own name.
    function.name, function.domain, call.domain = call.op_type, DOMAIN, DOMAIN
    graph = helper.make_graph(
        [call],
        "body",
        [onnx.ValueInfoProto(name=name, type=kind) for name, kind in zip(inputs, types) if name],
        [onnx.ValueInfoProto(name=name) for name in outputs if name],
    )
    imports = [*function.opset_import, helper.make_opsetid(DOMAIN, 1)]
    return ir.from_proto(helper.make_model(graph, functions=[function], opset_imports=imports))


def _definition(schema: Any, opset: int, call: onnx.NodeProto, types: list[onnx.TypeProto]) -> onnx.FunctionProto:
    """The newest one that is not newer than the opset; else the oldest, which imports the opset that it needs."""
    static, dependent = schema.function_opset_versions, schema.context_dependent_function_opset_versions
    known = static or dependent
    version = max((v for v in known if v <= opset), default=min(known))
    if static:
        return onnx.FunctionProto.FromString(schema.get_function_with_opset_version(version))
    context = call.SerializeToString(), [kind.SerializeToString() for kind in types]
    return onnx.FunctionProto.FromString(schema.get_context_dependent_function_with_opset_version(version, *context))


def _type(spec: Spec) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(spec.dtype), spec.shape)
