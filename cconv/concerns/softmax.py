"""Find a Softmax before an output, bypass it for training, and restore it when the model is saved.

The Softmax node stays in the graph. For training, the input of the Softmax becomes the graph's output; an edit in
`Model.at_save` makes the output of the Softmax the graph's output again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern, Done, Options, Outputs
from cconv.concerns.edit import name_of, plain
from cconv.concerns.finding import INFO, WARNING, Finding
from cconv.graph.at_save import AtSave
from cconv.model import Model


def find(case: Case) -> Iterator[Finding]:
    for output in case.model.ir.graph.outputs:
        node = output.producer()
        if node is not None and plain(node, "LogSoftmax"):
            yield Finding(
                INFO,
                name_of(node),
                "LogSoftmax before the output. The cross-entropy loss is the same with and without it.",
            )
        if (node := _softmax(output)) is None:
            continue
        if _over_classes(case.model, node):
            yield Finding(
                WARNING,
                name_of(node),
                "Softmax before the output. The cross-entropy loss expects logits and applies softmax itself. With "
                "softmax applied twice, training is slow and the loss never comes near 0.",
                "Remove it for training and put it back at save. *",
                automatic=True,
            )
        else:
            yield Finding(INFO, name_of(node), "Softmax before the output, over an axis other than the class axis 1.")


def repair(model: Model, options: Options) -> Done | None:
    graph = model.ir.graph
    names: dict[str, str] = {}
    typed: list[str] = []
    for i, output in enumerate(list(graph.outputs)):
        node = _softmax(output)
        logits = node.inputs[0] if node is not None and _over_classes(model, node) else None
        if logits is None or logits.is_graph_output() or logits.producer() is None:
            continue
        if logits.type is None or logits.shape is None:
            typed.append(logits.name or "")
            logits.type, logits.shape = output.type, output.shape
        graph.outputs[i] = logits
        names[logits.name or ""] = output.name or ""
    if not names:
        return None
    model.at_save = (*model.at_save, AtSave("outputs", {"names": names, "typed": typed}))
    model.edited()

    def as_before(outputs: Outputs) -> Outputs:
        return {names.get(n, n): _apply(value) if n in names else value for n, value in outputs.items()}

    logits_names = ", ".join(repr(name) for name in names)
    return Done(f"Softmax removed, the output is now {logits_names}", undone=True, as_before=as_before)


def _softmax(output: ir.Value) -> ir.Node | None:
    """The Softmax that computes an output, directly or followed by Identity nodes; None if there is none."""
    node = output.producer()
    while node is not None and plain(node, "Identity") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node if plain(node, "Softmax") else None


def _over_classes(model: Model, node: ir.Node) -> bool:
    """Whether a Softmax normalises over axis 1, as the cross-entropy loss does."""
    opset = node.version or model.ir.graph.opset_imports.get("", 1)
    axis = node.attributes.get_int("axis", -1 if opset >= 13 else 1)
    output = node.outputs[0]
    rank = len(output.shape) if output.shape is not None else _rank(model, output)
    if opset < 13:  # before opset 13, Softmax normalises jointly over all axes from `axis` on
        return axis in (1, -1) and rank == 2
    return axis == 1 or (rank is not None and axis == 1 - rank)


def _rank(model: Model, value: ir.Value) -> int | None:
    case = Case(model, batch=1)
    spec = case.shapes.get(value.name or "")
    return len(spec.shape) if spec is not None else None


def _apply(logits: np.ndarray) -> np.ndarray:
    """Softmax over axis 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


CONCERNS = [Concern("softmax", find, repair)]
