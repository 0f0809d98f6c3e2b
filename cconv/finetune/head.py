"""replace_head: a fresh last layer for other classes.

The head is the last layer with weights on the way to an output: a Gemm, a MatMul (with or without an Add for
the bias), or a 1x1 Conv. What may stand between it and the output keeps the classes on their axis: softmax,
reshaping, dropout; behind a Conv also pooling and an activation, as in SqueezeNet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from cconv.errors import ModelError, ValueRangeError, explain
from cconv.finetune.edit import constant_of, exchange, input_of, set_constant
from cconv.model import Model

CLASSES = "cconv.classes"
"""Key of metadata_props under which the classes' names are stored, as a JSON list."""

_PASS = {"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Cast"}
_PASS_BEHIND_CONV = _PASS | {"Relu", "Clip", "GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool"}


@dataclass
class Head:
    """The last layer.

    Attributes:
        node: Gemm, MatMul or Conv.
        add: the Add that brings a MatMul's bias, if there is one.
        weight, bias: its initializers.
        axis: of the weight's axes, the one that counts the classes.
        class_axis: of the output's axes, likewise.
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


def replace_head(
    model: Model, classes: Sequence[str] | int, seed: int = 0, *, output: str | None = None
) -> Model:
    """A copy of `model` whose last layer is fresh and has one output for each of `classes`.

    The layer's weights are drawn from a normal distribution of variance 1 / inputs, as no ReLU follows it;
    its bias is zero. All other weights are as in `model`, which is left as it is.

    Args:
        classes: their names, stored in the model's metadata_props as "cconv.classes" (JSON); or their number.
        seed: decides the fresh weights.
        output: the output whose layer is meant, where the model has several.

    Raises:
        ValueRangeError: no classes, or a name given twice.
        ModelError: no layer whose outputs could be classes; the message says what stands there.
    """
    count = _check_classes(classes)
    model = model.copy()
    head = find_head(model, output)
    assert head.weight.const_value is not None
    before, shape = head.classes, list(head.weight.const_value.shape.numpy())
    shape[head.axis] = count
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)))
    inputs = math.prod(shape) // count
    weight = generator.standard_normal(shape, dtype=np.float32) / np.float32(math.sqrt(inputs))
    exchange(model, head.node, 1, weight)
    if head.bias is not None:
        assert head.bias.const_value is not None
        biases = list(head.bias.const_value.shape.numpy())
        if biases:
            biases[-1] = count
        node = head.add or head.node
        exchange(model, node, node.inputs.index(head.bias), np.zeros(biases, np.float32))
    _widen(model, head, before, count)
    if isinstance(classes, int):
        model.ir.metadata_props.pop(CLASSES, None)
    else:
        model.ir.metadata_props[CLASSES] = json.dumps(list(classes), ensure_ascii=False)
    model.edited()
    return model


def find_head(model: Model, output: str | None = None) -> Head:
    """The last layer with weights on the way to an output.

    Raises:
        ModelError: there is none, or the model has several outputs and none is named.
    """
    names = model.output_names
    if output is None and len(names) > 1:
        raise ModelError(
            explain("head", "a model of several outputs needs output=... to say which", ", ".join(names))
        )
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
        if node.domain not in ("", "ai.onnx") or node.op_type not in _PASS_BEHIND_CONV:
            break
        before = input_of(node, 0)
        if before is None:  # a file may leave out what the operator needs
            break
        passed.append(node.op_type)
        value = before
    where = f"{node.op_type} at node {node.name!r}" if node is not None else f"the input {value.name!r}"
    way = f", behind {', '.join(reversed(passed))}" if passed else ""
    raise ModelError(
        explain(
            f"output {name!r}",
            "comes from a Gemm, a MatMul or a 1x1 Conv whose weight is an initializer",
            where + way,
            "Name another output=..., or build a new network with cconv.nn.",
        )
    )


def _head_at(model: Model, node: ir.Node) -> Head | None:
    """The head, if it is this node, or this Add and the MatMul before it."""
    add = None
    if node.op_type == "Add":
        pair = input_of(node, 0), input_of(node, 1)
        for value, other in (pair, pair[::-1]):
            made = value.producer() if value is not None else None
            if made is not None and made.op_type == "MatMul" and _weight(model, other) is not None:
                add, node = node, made
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
    """Whether a value is an initializer with one number a class, or one number for all."""
    if _weight(model, value) is None or value.const_value is None:
        return False
    shape = value.const_value.shape.numpy()
    return math.prod(shape) in (1, classes) and (not shape or shape[-1] in (1, classes))


def _weight(model: Model, value: ir.Value | None) -> ir.Value | None:
    return value if value is not None and value.name in model.weights else None


def _widen(model: Model, head: Head, before: int, count: int) -> None:
    """Put the new number of classes into the shapes that follow the head, declared and constant."""
    way = [(head.node.outputs[0], head.class_axis)]
    if head.add is not None:
        way.append((head.output, head.class_axis))
    seen = {value for value, _ in way}
    for value, axis in way:  # grows while it is walked
        _redeclare(value, axis, before, count)
        for node, i in value.uses():
            output = node.outputs[0]
            if i == 0 and node.op_type in _PASS_BEHIND_CONV and output not in seen:
                moved = _reshape(model, node, before, count) if node.op_type == "Reshape" else None
                seen.add(output)
                way.append((output, axis if moved is None else moved))


def _redeclare(value: ir.Value, axis: int, before: int, count: int) -> None:
    """The declared shape with `count` on the class axis; all sizes open where the classes are not there."""
    if value.shape is None:
        return
    dims: list[int | ir.SymbolicDim | None] = list(value.shape)
    if -len(dims) <= axis < len(dims) and dims[axis] == before:
        dims[axis] = count
    elif any(isinstance(n, int) and n % before == 0 for n in dims):
        dims = [None] * len(dims)
    value.shape = ir.Shape(dims)


def _reshape(model: Model, node: ir.Node, before: int, count: int) -> int | None:
    """Put the new number of classes into a Reshape's constant target; returns the axis it stands on there.

    None: the target leaves the classes' axis open, so there is nothing to do.

    Raises:
        ModelError: the target is not a constant, or has the number of classes only as a factor.
    """
    target = node.inputs[1]
    assert target is not None
    array = constant_of(model, target)
    if array is None or (before not in array and any(n > 0 and n % before == 0 for n in array)):
        raise ModelError(
            explain(
                f"node {node.name!r} (Reshape)",
                f"the shape behind the head is a constant with {before}, the number of classes, in it",
                "one that the model computes" if array is None else f"{array.tolist()}",
            )
        )
    places = np.flatnonzero(array == before)
    if not len(places):
        return None
    axis = int(places[-1])
    changed = array.copy()
    changed[axis] = count
    set_constant(model, node, 1, changed)
    return axis


def _check_classes(classes: Sequence[str] | int) -> int:
    """How many they are."""
    if isinstance(classes, int):
        if isinstance(classes, bool) or classes < 1:
            raise ValueRangeError(explain("classes", "there is at least one", str(classes)))
        return classes
    if isinstance(classes, (str, bytes)) or not all(isinstance(name, str) and name for name in classes):
        raise ValueRangeError(explain("classes", "is a list of names or their number", repr(classes)))
    if not classes or len(set(classes)) != len(classes):
        twice = sorted({name for name in classes if list(classes).count(name) > 1})
        raise ValueRangeError(
            explain("classes", "names each class once", f"{', '.join(twice)} twice" if twice else "none")
        )
    return len(classes)
