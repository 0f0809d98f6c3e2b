"""Sequences of tensors: pieces that a tensor was cut into and of which each is taken out by its number.

PyTorch's exporter writes `x.split(n)` as SplitToSequence and each piece that is used as a SequenceAt. What they give
is a slice; a plan has no values that are sequences. The user's graph keeps its nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cconv.graph.nodes import Node


def without_sequences(nodes: Sequence[Node], constants: Mapping[str, np.ndarray]) -> list[Node]:
    """The nodes with every SequenceAt of a SplitToSequence replaced by what cuts that piece out, where the numbers are
    known; a SplitToSequence that nobody reads any more is gone.

    Args:
        nodes: those of one graph.
        constants: its initializers, by name.
    """
    splits = {node.outputs[0]: node for node in nodes if (node.domain, node.op_type) == ("", "SplitToSequence")}
    if not splits:
        return list(nodes)
    known = dict(constants)
    result: list[Node] = []
    for node in nodes:
        if node.op_type == "Constant" and len(node.attributes) == 1:
            known[node.outputs[0]] = np.asarray(next(iter(node.attributes.values())))
        if (node.domain, node.op_type) == ("", "SequenceAt") and node.inputs[0] in splits:
            result += _piece(node, splits[node.inputs[0]], known) or [node]
        else:
            result.append(node)
    read = {name for node in result for name in node.inputs}
    return [node for node in result if node.outputs[0] not in splits or node.outputs[0] in read]


def _piece(at: Node, split: Node, known: Mapping[str, np.ndarray]) -> list[Node] | None:
    """The nodes that cut out one piece; None where it is not known which one."""
    index = known.get(at.inputs[1])
    sizes = known.get(split.inputs[1]) if len(split.inputs) > 1 and split.inputs[1] else np.array(1)
    if index is None or index.size != 1 or sizes is None:
        return None
    i, count = int(index.item()), sizes.size if sizes.ndim else None
    if i < 0 and count is not None:
        i += count
    if i < 0 or (count is not None and i >= count):
        return None
    begin, end = (int(sizes[:k].sum()) if sizes.ndim else k * int(sizes) for k in (i, i + 1))
    axis = int(split.attributes.get("axis", 0))
    if len(split.inputs) < 2 and not split.attributes.get("keepdims", 1):
        number, value = _constant(at, "index", np.array(i))
        return [number, replace(at, op_type="Gather", inputs=(split.inputs[0], value), attributes={"axis": axis})]
    limits = [_constant(at, name, np.array([n])) for name, n in (("begin", begin), ("end", end), ("axis", axis))]
    inputs = (split.inputs[0], *(value for _, value in limits))
    return [*(number for number, _ in limits), replace(at, op_type="Slice", inputs=inputs, attributes={})]


def _constant(at: Node, name: str, value: np.ndarray) -> tuple[Node, str]:
    """A node that gives a value, and that value's name."""
    output = f"{at.outputs[0]} > {name}"
    attributes = {"value": value.astype(np.int64)}
    return replace(at, op_type="Constant", inputs=(), outputs=(output,), attributes=attributes), output
