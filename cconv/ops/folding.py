"""Constant folding: evaluate a node whose inputs are known before the model runs, with onnx's reference implementation.

Networks compute shapes with the same operators as feature maps. A plan knows all shapes, so values computed from shapes
are constants of the plan. Operators need no kernel and no code of their own to compute them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Limit for constant folding: the inputs of a node together, and its outputs together, have at most this many elements.
# Shape arithmetic and index tables are smaller. Larger nodes are computed by kernels.
LARGEST = 1 << 20


def evaluate(
    op_type: str, opset: int, attributes: Mapping[str, Any], inputs: Sequence[np.ndarray | None], outputs: int
) -> list[np.ndarray] | None:
    """Compute the outputs of a node of the domain ai.onnx with onnx's reference implementation.

    Args:
        outputs: number of outputs.

    Returns:
        The outputs' values. None if the inputs are larger than LARGEST, the operator is random, or the reference
        implementation fails.
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
    except Exception:  # NumPy and onnx raise errors of many classes. The caller reports an error of its own.
        return None
    return [np.asarray(value) for value in values]
