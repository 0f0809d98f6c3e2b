"""Find classifiers without a Dropout before them, and insert one. Exporters in eval mode remove Dropout nodes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern, Done, Options, Skipped
from cconv.concerns.edit import add_initializer, free_name, name_of, plain
from cconv.concerns.finding import INFO, Finding
from cconv.concerns.head import find_head
from cconv.errors import ModelError
from cconv.model import Model

_POOLS = ("GlobalAveragePool", "ReduceMean", "GlobalMaxPool")
_BETWEEN = ("Flatten", "Reshape", "Squeeze", "Identity")
_ACTIVATIONS = ("Relu", "HardSwish", "Gelu", "Sigmoid", "Tanh", "LeakyRelu", "Clip")


def find(case: Case) -> Iterator[Finding]:
    """Report a missing Dropout, for two known forms of classifier only.

    The forms are pooling, flatten, Gemm (as in MobileNet) and Gemm, activation, Gemm (as in VGG).
    """
    if any(plain(node, "Dropout") for node in case.model.ir.graph):
        return
    node = _classifier(case.model)
    if node is None:
        return
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    while before is not None and plain(before, *_BETWEEN) and before.inputs[0] is not None:
        before = before.inputs[0].producer()
    if plain(before, *_ACTIVATIONS) and before is not None and before.inputs[0] is not None:
        before = before.inputs[0].producer()
        summands = before.inputs if before is not None and plain(before, "Add") else ()
        known = plain(before, "Gemm") or any(plain(value.producer(), "MatMul") for value in summands if value)
    else:
        known = plain(before, *_POOLS)
    if known:
        yield Finding(
            INFO,
            name_of(node),
            "No Dropout before the classifier. Exporters remove Dropout in eval mode. VGG and AlexNet were trained "
            "with a rate of 0.5, MobileNet and EfficientNet with 0.2, ResNet without Dropout.",
            "If the network had a Dropout here, put it back: repair(model, dropout=0.2). *",
            automatic=True,
        )


def repair(model: Model, options: Options) -> Done | Skipped | None:
    rate = options.dropout
    if rate is None:
        return None
    node = _classifier(model)
    if node is None:
        return Skipped("no classifier was found, so there is no place for a Dropout")
    value = node.inputs[0]
    assert value is not None
    if plain(value.producer(), "Dropout"):
        return Skipped(f"there is already a Dropout before {name_of(node)!r}")
    graph = model.ir.graph
    name = free_name(graph, f"{name_of(node)}.dropout")
    inputs: list[ir.Value | None] = [value]
    attributes = {}
    if (node.version or graph.opset_imports.get("", 1)) >= 12:
        inputs.append(add_initializer(model, f"{name}.ratio", np.array(rate, np.float32)))
    else:
        attributes["ratio"] = float(rate)
    dropout = ir.node("Dropout", inputs, attributes, name=name)
    output = dropout.outputs[0]
    output.name, output.type, output.shape = name, value.type, value.shape
    graph.insert_before(node, dropout)
    node.replace_input_with(0, output)
    model.edited()
    return Done(f"Dropout with rate {rate:g} inserted before {name_of(node)!r}")


def _classifier(model: Model) -> ir.Node | None:
    """The last layer with weights; None if the model has several outputs or the last layer is not a classifier."""
    try:
        return find_head(model).node
    except ModelError:
        return None


CONCERNS = [Concern("dropout", find, repair, of_layers=True)]
