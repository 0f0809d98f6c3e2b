"""find_head: the last layer with weights before an output, whose output channels are the classes of a classifier.

The layer is a Gemm, a MatMul (with or without an Add for the bias), or a 1x1 Conv. Nodes that keep the classes on one
axis may follow it: softmax, reshaping, dropout. After a Conv, pooling and an activation may follow too, as in
SqueezeNet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from cconv.concerns.edit import input_of, plain
from cconv.errors import ModelError, explain
from cconv.model import Model

_PASS = {"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Cast"}
PASS_BEHIND_CONV = _PASS | {"Relu", "Clip", "GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool"}


@dataclass
class Head:
    """The last layer of a classifier.

    Attributes:
        node: the Gemm, MatMul or Conv.
        add: the Add of a MatMul's bias; None if there is none.
        weight, bias: the layer's initializers; `bias` is None if there is none.
        axis: the axis of the weight that has one slice per class.
        class_axis: the axis of the layer's output that has one slice per class.
    """

    node: ir.Node
    add: ir.Node | None
    weight: ir.Value
    bias: ir.Value | None
    axis: int
    class_axis: int

    @property
    def classes(self) -> int:
        assert self.weight.const_value is not None
        return int(self.weight.const_value.shape.numpy()[self.axis])

    @property
    def output(self) -> ir.Value:
        return (self.add or self.node).outputs[0]


def find_head(model: Model, output: str | None = None) -> Head:
    """Find the last layer with weights before an output.

    Args:
        output: name of the output; needed only if the model has several.

    Raises:
        ModelError: there is no such layer, the output is unknown, or the model has several outputs and none is named.
    """
    names = model.output_names
    if output is None and len(names) > 1:
        raise ModelError(explain("head", "a model of several outputs needs output=... to say which", ", ".join(names)))
    name = names[0] if output is None and names else output
    value = next((value for value in model.ir.graph.outputs if value.name == name), None)
    if value is None:
        raise ModelError(explain("head", f"the outputs are {', '.join(names) or 'none'}", repr(output)))
    passed: list[str] = []
    while (node := value.producer()) is not None:
        if head := _head_at(model, node):
            if head.node.op_type == "Conv" or set(passed) <= _PASS:
                return head
            break
        if node.domain not in ("", "ai.onnx") or node.op_type not in PASS_BEHIND_CONV:
            break
        before = input_of(node, 0)
        if before is None:  # a damaged file may leave out an input that the operator needs
            break
        passed.append(node.op_type)
        value = before
    where = f"{node.op_type} at node {node.name!r}" if node is not None else f"the input {value.name!r}"
    suffix = f", behind {', '.join(reversed(passed))}" if passed else ""
    raise ModelError(
        explain(
            f"output {name!r}",
            "comes from a Gemm, a MatMul or a 1x1 Conv whose weight is an initializer",
            where + suffix,
            "The weight is stored in a Constant node; cconv.finetune.repair(model) makes it an initializer."
            if node is not None and _in_constant(node)
            else "Name another output=..., or build a new network with cconv.nn.",
        )
    )


def _in_constant(node: ir.Node) -> bool:
    """Whether the weight of a Gemm, MatMul or Conv, or the bias that an Add adds to a MatMul, is a Constant node."""
    if node.op_type == "Add":
        makers = [value.producer() for value in node.inputs if value is not None]
        before = next((maker for maker in makers if maker is not None and maker.op_type == "MatMul"), None)
        return any(plain(maker, "Constant") for maker in makers) or (before is not None and _in_constant(before))
    weight = input_of(node, 1)
    return node.op_type in ("Gemm", "MatMul", "Conv") and weight is not None and plain(weight.producer(), "Constant")


def _head_at(model: Model, node: ir.Node) -> Head | None:
    """The head, if `node` is its last node: a Gemm, a MatMul, a 1x1 Conv, or the Add after a MatMul; else None."""
    add = None
    if node.op_type == "Add":
        pair = input_of(node, 0), input_of(node, 1)
        for value, other in (pair, pair[::-1]):
            producer = value.producer() if value is not None else None
            if producer is not None and producer.op_type == "MatMul" and _weight(model, other) is not None:
                add, node = node, producer
                break
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("Gemm", "MatMul", "Conv"):
        return None
    weight = _weight(model, input_of(node, 1))
    if weight is None or weight.const_value is None:
        return None
    shape = weight.const_value.shape.numpy()
    if node.op_type == "Conv":
        group = node.attributes.get_int("group", 1)
        if group != 1 or len(shape) < 3 or any(n != 1 for n in shape[2:]):
            return None
        bias, axis, class_axis = input_of(node, 2), 0, 1
    elif len(shape) != 2:
        return None
    elif node.op_type == "Gemm":
        bias, axis, class_axis = input_of(node, 2), 0 if node.attributes.get_int("transB", 0) else 1, -1
    else:
        bias = next(v for v in add.inputs if _weight(model, v) is not None) if add is not None else None
        axis, class_axis = 1, -1
    if bias is not None and not _is_bias(model, bias, int(shape[axis])):
        return None
    return Head(node, add, weight, bias, axis, class_axis)


def _is_bias(model: Model, value: ir.Value, classes: int) -> bool:
    """Whether a value is an initializer with one number per class, or one number for all classes."""
    if _weight(model, value) is None or value.const_value is None:
        return False
    shape = value.const_value.shape.numpy()
    return math.prod(shape) in (1, classes) and (not shape or shape[-1] in (1, classes))


def _weight(model: Model, value: ir.Value | None) -> ir.Value | None:
    return value if value is not None and value.name in model.weights else None
