"""Folding: the value of a node whose inputs are known before the model runs, by onnx's reference implementation.

Networks compute shapes with the operators that they compute feature maps with. A plan knows all shapes, so what
follows from them is a constant of the plan; no kernel is needed for it, and no rule of an operator's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cconv.ops.operator import Call

# Elements of all inputs and outputs together. Shape arithmetic and tables of indices have fewer; more is better
# computed by kernels, where there are some.
LARGEST = 1 << 20


def evaluated(call: Call) -> list[np.ndarray] | None:
    """The outputs' values; None where they are not told: too large, or not what the shape rule says."""
    if sum(spec.size for spec in call.results) > LARGEST:
        return None
    inputs = [None if spec is None else call.constants[i] for i, spec in enumerate(call.specs)]
    values = evaluate(call.op_type, call.opset, call.attributes, inputs, call.output_count)
    found = [(value.shape, value.dtype) for value in values or []]
    return values if found == [(s.shape, s.dtype) for s in call.results[: call.output_count]] else None


def evaluate(
    op_type: str, opset: int, attributes: Mapping[str, Any], inputs: Sequence[np.ndarray | None], outputs: int
) -> list[np.ndarray] | None:
    """What onnx's reference says of a node of ONNX's own domain.

    None where it does not say: large inputs, results by chance, what it does not know or cannot do.
    """
    from onnx import defs, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    if sum(array.size for array in inputs if array is not None) > LARGEST:
        return None
    names = ["" if array is None else f"x{i}" for i, array in enumerate(inputs)]
    fields = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in attributes.items()
    }
    feeds = {name: array for name, array in zip(names, inputs) if name}
    try:
        schema = defs.get_schema(op_type, opset)
        if schema.node_determinism != defs.OpSchema.NodeDeterminism.Deterministic:  # type: ignore[attr-defined]
            return None
        node = helper.make_node(op_type, names, [f"y{i}" for i in range(outputs)], **fields)
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(node, opsets={"": opset}).run(None, feeds)
    except Exception:  # whatever NumPy and onnx happen to raise; who asked has an error of its own
        return None
    return [np.asarray(value) for value in values]
