"""Edits that wait until a model is saved: what was changed for training alone is put back in the file.

An edit is a name and arguments that JSON can hold, so that a checkpoint carries it. `finished` applies the edits to a
copy of the graph; the graph that is trained stays as it is. Who changed the graph for training (cconv/finetune)
appends to `Model.at_save` what puts it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from cconv.errors import ModelError, ValueRangeError, explain


@dataclass(frozen=True)
class AtSave:
    """One edit.

    Attributes:
        kind: a key of EDITS.
        arguments: of that function, beside the graph.
    """

    kind: str
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.kind not in EDITS:
            raise ValueRangeError(explain("edit at save", f"is one of {', '.join(EDITS)}", repr(self.kind)))


def finished(model: ir.Model, edits: Sequence[AtSave]) -> ir.Model:
    """The model as it is to be saved: a copy with the edits made, the last one first. Weights are shared.

    Raises:
        ModelError: the graph has been changed since, so that an edit no longer fits, or a weight is too large for
            its dtype.
    """
    if not edits:
        return model
    model = model.clone()
    for edit in reversed(edits):
        EDITS[edit.kind](model, **edit.arguments)
    return model


def _outputs(model: ir.Model, names: Mapping[str, str], typed: Sequence[str]) -> None:
    """Give other values as outputs.

    Args:
        names: of an output now -> of the value that takes its place.
        typed: those of the outputs now whose type and shape the graph did not declare before.
    """
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    for i, output in enumerate(list(graph.outputs)):
        name = names.get(output.name or "")
        if name is None:
            continue
        if name not in values:
            raise ModelError(
                explain(f"output {output.name!r}", f"is replaced by {name!r} when the model is saved", "no such value",
                        "Leave the node that computes it in the graph, or clear model.at_save.")
            )  # fmt: skip
        graph.outputs[i] = values[name]
        if output.name in typed:
            output.type = output.shape = None


def _dtype(model: ir.Model, source: str, target: str, kept: Iterable[str]) -> None:
    """Give what is of dtype `source` the dtype `target`; see `retype`."""
    retype(model, ir.DataType[source], ir.DataType[target], set(kept))


EDITS: dict[str, Callable[..., None]] = {"outputs": _outputs, "dtype": _dtype}


# Dtypes. Everything in a graph that says one has a key: a value its name, an attribute "output name/attribute name".


def retype(model: ir.Model, source: ir.DataType, target: ir.DataType, kept: set[str]) -> None:
    """Change a dtype throughout the main graph and its subgraphs: initializers, declared types, attributes.

    Args:
        kept: keys of what stays as it is.

    Raises:
        ModelError: a weight too large for `target`, which would become infinite.
    """
    for graph in _graphs(model):
        for value in _values(graph):
            if isinstance(value.type, ir.TensorType) and value.dtype == source and value.name not in kept:
                value.type = ir.TensorType(target)
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is not None and tensor.dtype == source and name not in kept:
                value.const_value = _converted(tensor, target, f"weight {name!r}")
        for key, node, attribute in _attributes(graph):
            if _says(attribute) != source or key in kept:
                continue
            if attribute.type == ir.AttributeType.TENSOR:
                tensor = _converted(attribute.as_tensor(), target, f"node {node.name!r}")
                changed = ir.AttrTensor(attribute.name, tensor)
            else:
                changed = ir.AttrInt64(attribute.name, target.value)
            node.attributes[attribute.name] = changed


def keys_of(model: ir.Model, dtype: ir.DataType) -> list[str]:
    """Keys of all that is of a dtype."""
    found: list[str] = []
    for graph in _graphs(model):
        found += [value.name or "" for value in _values(graph) if value.dtype == dtype]
        found += [
            name for name, value in graph.initializers.items() if value.const_value and value.const_value.dtype == dtype
        ]
        found += [key for key, _, attribute in _attributes(graph) if _says(attribute) == dtype]
    return sorted(set(found))


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    yield model.graph
    yield from model.graph.subgraphs()


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


# Attributes that hold a dtype's number; in ONNX both names mean nothing else.
_NUMBERS = ("to", "dtype")


def _attributes(graph: ir.Graph) -> Iterator[tuple[str, ir.Node, ir.Attr]]:
    for node in graph:
        if node.domain not in ("", "ai.onnx") or not node.outputs:
            continue
        for name, attribute in list(node.attributes.items()):
            yield f"{node.outputs[0].name}/{name}", node, attribute


def _says(attribute: ir.Attr) -> ir.DataType | None:
    """The dtype that an attribute holds."""
    if attribute.is_ref():
        return None
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor().dtype
    if attribute.type == ir.AttributeType.INT and attribute.name in _NUMBERS:
        number = attribute.as_int()
        return next((dtype for dtype in ir.DataType if dtype.value == number), None)
    return None


def _converted(tensor: ir.TensorProtocol, target: ir.DataType, place: str) -> ir.Tensor:
    array = tensor.numpy()
    with np.errstate(over="ignore"):
        result = array.astype(target.numpy())
    if bool(np.any(np.isinf(result.astype(np.float32)) & np.isfinite(array.astype(np.float32)))):
        largest = float(np.abs(array[np.isfinite(array)]).max())
        raise ModelError(
            explain(place, f"is saved as {target.name.lower()}, which holds numbers up to {float(target.max):g}",
                    f"{largest:g}", "Clear model.at_save to save the model as float32.")
        )  # fmt: skip
    metadata = dict(tensor.metadata_props)
    return ir.Tensor(
        result, dtype=target, name=tensor.name, doc_string=tensor.doc_string, metadata_props=metadata or None
    )
