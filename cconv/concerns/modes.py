"""Find BatchNormalization and Dropout nodes that were exported in training mode."""

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
            "BatchNormalization in training mode. At inference it normalises with the statistics of each batch, so "
            "the result for one example depends on the others. Training in cconv is not affected.",
            "Export in eval mode, or set training_mode to 0 before the file is used for inference.",
        )
    if drops:
        yield Finding(
            WARNING,
            listed(map(name_of, drops)),
            "Dropout in training mode. At inference the results are random. Training in cconv is not affected.",
            "Export in eval mode, or remove the node's third input.",
        )


def training_mode(model: Model) -> tuple[list[ir.Node], list[ir.Node]]:
    """The nodes in training mode, as two lists: BatchNormalization nodes and Dropout nodes."""
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
    """Return a copy of the model with all nodes in inference mode, or the model itself if no node is in training mode.

    The outputs of the copy are deterministic and do not depend on the other examples of the batch, so they can be
    compared.
    """
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
