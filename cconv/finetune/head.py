"""replace_head: replace the last layer by a new one for other classes.

The head is the last layer with weights before an output: a Gemm, a MatMul (with or without an Add for the bias), or a
1x1 Conv. Nodes that keep the classes on one axis may follow it: softmax, reshaping, dropout. After a Conv, pooling and
an activation may follow too, as in SqueezeNet.
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
"""Key of metadata_props under which the names of the classes are stored, as a JSON list."""


def replace_head(model: Model, classes: Sequence[str] | int, seed: int = 0, *, output: str | None = None) -> Model:
    """Return a copy of `model` whose last layer is new and has one output for each of `classes`.

    The new weights are drawn from a normal distribution with variance 1 / (inputs of the layer), because no ReLU
    follows the layer. The new bias is zero. All other weights are copied. `model` is not changed.

    Args:
        classes: names of the classes, stored in the model's metadata_props as "cconv.classes" (JSON); or their number.
        seed: seed of the random weights.
        output: the output that the last layer leads to; needed only if the model has several outputs.

    Raises:
        ValueRangeError: there are no classes, or a name is given twice.
        ModelError: the output does not come from a layer that can be replaced; the message names the node found there.
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
    """Write the new number of classes into the declared and constant shapes after the head."""
    queue = [(head.node.outputs[0], head.class_axis)]
    if head.add is not None:
        queue.append((head.output, head.class_axis))
    seen = {value for value, _ in queue}
    for value, axis in queue:  # the loop body appends to the list
        _redeclare(value, axis, before, count)
        for node, i in value.uses():
            output = node.outputs[0]
            if i == 0 and node.op_type in PASS_BEHIND_CONV and output not in seen:
                moved = _reshape(model, node, before, count) if node.op_type == "Reshape" else None
                seen.add(output)
                queue.append((output, axis if moved is None else moved))


def _redeclare(value: ir.Value, axis: int, before: int, count: int) -> None:
    """Declare `count` classes in a value's shape.

    If the class axis does not have `before` classes, but some axis has a multiple of `before`, all sizes become open.
    """
    if value.shape is None:
        return
    dims: list[int | ir.SymbolicDim | None] = list(value.shape)
    if -len(dims) <= axis < len(dims) and dims[axis] == before:
        dims[axis] = count
    elif any(isinstance(n, int) and n % before == 0 for n in dims):
        dims = [None] * len(dims)
    value.shape = ir.Shape(dims)


def _reshape(model: Model, node: ir.Node, before: int, count: int) -> int | None:
    """Write the new number of classes into the constant target shape of a Reshape.

    Returns:
        The class axis in the target shape; None if the target leaves the size of that axis open (0 or -1).

    Raises:
        ModelError: the target shape is not constant, or contains the number of classes only as a factor of a size.
    """
    target = node.inputs[1]
    assert target is not None
    array = constant_of(model, target)
    if array is None or (before not in array and any(n > 0 and n % before == 0 for n in array)):
        raise ModelError(
            explain(
                f"node {node.name!r} (Reshape)",
                f"the target shape is a constant, with the number of classes ({before}) as one of its sizes",
                "a shape that the model computes" if array is None else f"{array.tolist()}",
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
    """Validate `classes` and return their number.

    Raises:
        ValueRangeError: there is no class, a name is empty or given twice, or `classes` is neither names nor a number.
    """
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
