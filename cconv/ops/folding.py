"""Folding: the value of a node whose inputs are known before the model runs, by onnx's reference implementation.

Networks compute shapes with the operators that they compute feature maps with. A plan knows all shapes, so what
follows from them is a constant of the plan; no kernel is needed for it, and no rule of an operator's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cconv.ops.operator import Call

# Elements of all inputs and outputs together. Shape arithmetic and tables of indices have fewer; more is better
# computed by kernels, where there are some.
LARGEST = 1 << 20


def evaluated(call: Call) -> list[np.ndarray] | None:
    """The outputs' values; None where they are not told: too large, or not what the shape rule says."""
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    arrays = [None if spec is None else call.constants[i] for i, spec in enumerate(call.specs)]
    if sum(array.size for array in arrays if array is not None) + sum(s.size for s in call.results) > LARGEST:
        return None
    inputs = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    outputs = [f"y{i}" for i in range(call.output_count)]
    attributes = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in call.attributes.items()
    }
    feeds = {name: array for name, array in zip(inputs, arrays) if name}
    try:
        node = helper.make_node(call.op_type, inputs, outputs, **attributes)
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(node, opsets={"": call.opset}).run(None, feeds)
    except Exception:  # whatever NumPy and onnx happen to raise; the node then runs like any other
        return None
    values = [np.asarray(value) for value in values]
    found = [(value.shape, value.dtype) for value in values]
    return values if found == [(s.shape, s.dtype) for s in call.results[: call.output_count]] else None
