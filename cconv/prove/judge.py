"""Judge: compute a single node in float64 with onnx's reference evaluator, to decide which of two results is wrong.

The judge is needed if cconv and onnxruntime disagree, so it must share no code with either. cconv's own float64 build
is unsuitable: it is compiled from the same kernels and uses the same lowering as the float32 build under test. onnx's
evaluator is plain NumPy, which computes in the dtype of its inputs.

The evaluator of onnx 1.23 has two errors in padding: auto_pad counts from the wrong axis, and MaxPool swaps begins and
ends. Before the evaluator runs a node, auto_pad is therefore replaced by explicit pads, and a MaxPool's input is padded
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator


def in_float64(
    node: onnx.NodeProto, opsets: Mapping[str, int], values: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], str]:
    """Compute a node in float64 with onnx's reference evaluator.

    Args:
        node: the node.
        opsets: domain -> version, as the model imports them.
        values: input name -> array; includes the outer values that the node's subgraphs read.

    Returns:
        Output name -> array, and "". If the evaluator fails: an empty dict, and the first line of its error message.
    """
    feeds: Mapping[str, np.ndarray] = {
        name: value.astype(np.float64) if value.dtype.kind == "f" else value for name, value in values.items()
    }
    names = [name for name in node.output if name]
    try:
        node = with_pads(node, {name: value.shape for name, value in feeds.items()})
        if node.op_type == "MaxPool":
            node, feeds = _padded(node, feeds)
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feeds.items()
        ]
        outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in names]
        graph = helper.make_graph([node], "node", inputs, outputs)
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        with np.errstate(all="ignore"):
            model = helper.make_model(graph, opset_imports=imports)
            results = ReferenceEvaluator(model).run(None, dict(feeds))
    except Exception as error:  # NumPy and onnx may raise any type of exception
        return {}, (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    return {name: np.asarray(value) for name, value in zip(names, results)}, ""


def with_pads(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> onnx.NodeProto:
    """Replace the attribute auto_pad of a node by explicit `pads`, by ONNX's formulas.

    SAME_UPPER and SAME_LOWER: the output size is input / stride, rounded up (ConvTranspose: input * stride). The total
    padding that this needs is halved. If the total is odd, the extra element goes to the end (UPPER) or to the
    beginning (LOWER).

    Args:
        shapes: input name -> shape.

    Returns:
        A changed copy; the node itself if it does not use auto_pad.
    """
    attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    mode = attributes.get("auto_pad", b"NOTSET")
    if mode == b"NOTSET":
        return node
    size = shapes[node.input[0]][2:]
    kernel = attributes.get("kernel_shape") or shapes[node.input[1]][2:]
    rank = len(size)
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    extra = attributes.get("output_padding") or [0] * rank
    begins, ends = [], []
    for i, n in enumerate(size):
        span = (kernel[i] - 1) * dilations[i] + 1
        if mode == b"VALID":
            total = 0
        elif node.op_type == "ConvTranspose":
            total = max(strides[i] * (n - 1) + extra[i] + span - n * strides[i], 0)
        else:
            total = max((-(-n // strides[i]) - 1) * strides[i] + span - n, 0)
        small, large = total // 2, total - total // 2
        begins.append(large if mode == b"SAME_LOWER" else small)
        ends.append(small if mode == b"SAME_LOWER" else large)
    return _without(node, ["auto_pad", "pads"], pads=begins + ends)


def _padded(node: onnx.NodeProto, feeds: Mapping[str, np.ndarray]) -> tuple[onnx.NodeProto, Mapping[str, np.ndarray]]:
    """Replace the pads of a MaxPool by padding its input with the lowest value of the dtype.

    The node and its inputs are returned unchanged if ceil_mode is set, which needs more padding than `pads`, or if the
    node also returns the indices of the maxima.
    """
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    pads = attributes.get("pads")
    if not pads or attributes.get("ceil_mode") or len(node.output) > 1:
        return node, feeds
    x = feeds[node.input[0]]
    rank = len(pads) // 2
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    around = [(0, 0), (0, 0), *((pads[i], pads[i + rank]) for i in range(rank))]
    x = np.pad(x, around, constant_values=lowest)
    return _without(node, ["pads"]), {**feeds, node.input[0]: x}


def _without(node: onnx.NodeProto, names: Sequence[str], **fields: Any) -> onnx.NodeProto:
    """Copy a node without the attributes `names`, and with the attributes `fields` added."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    copy.attribute.extend(a for a in node.attribute if a.name not in names)
    copy.attribute.extend(helper.make_attribute(name, value) for name, value in fields.items())
    return copy
