"""Find weights that are stored as Constant nodes, which training ignores, and turn them into initializers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern, Done, Options
from cconv.concerns.edit import counted, initializer, listed, name_of, plain, register
from cconv.concerns.finding import WARNING, Finding
from cconv.model import Model

# Operator -> indices of the inputs that hold weights.
_WEIGHTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "BatchNormalization": (1, 2, 3, 4),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "PRelu": (1,),
}
# A constant that is added to or multiplied with the output of one of these operators is a bias or a scale, so a weight.
# Elsewhere, for example before the first layer, the constant may be meant to stay fixed.
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization")
# Operators that may stand between a Constant node and the layer that uses its value as a weight.
_PASS = ("Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze")


def find(case: Case) -> Iterator[Finding]:
    nodes = constant_weights(case.model)
    if nodes:
        size = sum(_array(node).size for node in nodes)
        yield Finding(
            WARNING,
            listed(map(name_of, nodes)),
            f"{counted(len(nodes), 'weight')} ({size:,} numbers) stored in Constant nodes, which are not trained.",
            "Turn the nodes into initializers. *",
            automatic=True,
        )


def repair(model: Model, options: Options) -> Done | None:
    nodes = constant_weights(model)
    graph = model.ir.graph
    for node in nodes:
        output = node.outputs[0]
        name = output.name or ""
        value = initializer(name, _array(node))
        for user, i in list(output.uses()):
            user.replace_input_with(i, value)
        graph.remove(node, safe=True)
        register(model, value)
    model.edited()
    return Done(f"{counted(len(nodes), 'Constant node')} turned into initializers") if nodes else None


def constant_weights(model: Model) -> list[ir.Node]:
    """The Constant nodes whose value is used as a weight."""
    constants = []
    for node in model.ir.graph:
        if plain(node, "Constant") and "value" in node.attributes and not node.outputs[0].is_graph_output():
            array = _array(node)
            floating = array.dtype.kind == "f" or node.attributes["value"].as_tensor().dtype == ir.DataType.BFLOAT16
            if floating and array.size > 1 and _is_weight(node.outputs[0]):
                constants.append(node)
    return constants


def _is_weight(value: ir.Value) -> bool:
    for node, i in value.uses():
        if node.domain not in ("", "ai.onnx") or not node.outputs:
            continue
        if i in _WEIGHTS.get(node.op_type, ()) or (i == 0 and node.op_type in _PASS and _is_weight(node.outputs[0])):
            return True
        if node.op_type in ("Add", "Mul") and len(node.inputs) == 2:
            other = node.inputs[1 - i]
            if other is not None and plain(other.producer(), *_LAYERS):
                return True
    return False


def _array(node: ir.Node) -> np.ndarray:
    return node.attributes["value"].as_tensor().numpy()


CONCERNS = [Concern("constants", find, repair)]
