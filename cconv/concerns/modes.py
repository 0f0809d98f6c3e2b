"""Nodes that were exported in training mode."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern
from cconv.concerns.edit import constant_of, listed, name_of, plain
from cconv.concerns.finding import WARNING, Finding
from cconv.model import Model


def find(case: Case) -> Iterator[Finding]:
    norms, drops = training_mode(case.model)
    if norms:
        yield Finding(
            WARNING,
            listed(map(name_of, norms)),
            "BatchNormalization in training mode: where the file is used it normalises with each batch's own "
            "statistics, so an answer depends on the other examples. Training here is not affected.",
            "Export in eval mode, or set training_mode to 0 before the file is used.",
        )
    if drops:
        yield Finding(
            WARNING,
            listed(map(name_of, drops)),
            "Dropout in training mode: where the file is used, its answers are random. Training here is not affected.",
            "Export in eval mode, or leave the third input out.",
        )


def training_mode(model: Model) -> tuple[list[ir.Node], list[ir.Node]]:
    """The BatchNormalization and the Dropout nodes in training mode."""
    nodes = list(model.ir.graph)
    norms = [n for n in nodes if plain(n, "BatchNormalization") and int(n.attributes.get_int("training_mode", 0))]
    drops = []
    for node in nodes:
        if plain(node, "Dropout") and len(node.inputs) > 2:
            mode = constant_of(model, node.inputs[2])
            if mode is not None and bool(mode.all()):
                drops.append(node)
    return norms, drops


def for_inference(model: Model) -> Model:
    """A copy whose nodes are not in training mode, or the model itself where none is: what an example gives does not
    depend on chance and on the other examples, so it can be compared."""
    if not any(training_mode(model)):
        return model
    model = model.copy()
    norms, drops = training_mode(model)
    for node in norms:
        node.attributes["training_mode"] = ir.AttrInt64("training_mode", 0)
        used = [bool(output.uses()) or output.is_graph_output() for output in node.outputs]
        if not any(used[1:]):
            node.resize_outputs(1)
    for node in drops:
        node.replace_input_with(2, None)
    model.edited()
    return model


CONCERNS = [Concern("training mode", find)]
