"""replace_head: a fresh last layer for other classes.

The head is the last layer with weights on the way to an output: a Gemm, a MatMul (with or without an Add for
the bias), or a 1x1 Conv. What may stand between it and the output keeps the classes on their axis: softmax,
reshaping, dropout; behind a Conv also pooling and an activation, as in SqueezeNet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from cconv.concerns.edit import constant_of, exchange, set_constant
from cconv.concerns.head import PASS_BEHIND_CONV, Head, find_head
from cconv.errors import ModelError, ValueRangeError, explain
from cconv.model import Model

CLASSES = "cconv.classes"
"""Key of metadata_props under which the classes' names are stored, as a JSON list."""


def replace_head(model: Model, classes: Sequence[str] | int, seed: int = 0, *, output: str | None = None) -> Model:
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
            if i == 0 and node.op_type in PASS_BEHIND_CONV and output not in seen:
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
