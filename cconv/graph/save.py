"""save: the model's graph as an ONNX message and as a file.

The message says what the loaded one said, field by field; only the weights' values differ after training.
onnx_ir keeps all of it but the order of three lists, which `to_message` restores. Initializers that came from
external data go to external data again (data_files.py), and so do the large ones of a model that one file cannot hold.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from cconv.errors import ModelError, OutputError, explain, root_of
from cconv.files import atomic_write
from cconv.graph.data_files import Entries, lay_out, write
from cconv.graph.graph import Graph
from cconv.graph.messages import all_graphs

# What protobuf can hold; and, in a model that does not fit, the tensors that go to a file of their own.
_MESSAGE_BYTES, _LARGE = 2**31 - 1, 1024


def to_message(
    model: ir.Model, declared: Sequence[str], external: Mapping[str, Entries] | None = None
) -> onnx.ModelProto:
    """The graph as a message.

    Args:
        declared: names that value_info had when the model was loaded, in order, subgraphs' included. onnx_ir adds
            the types of all initializers, which repeat what the tensors say themselves.
        external: initializers whose values are left out, and what is said of their place instead.

    Raises:
        ModelError: onnx_ir holds something that it cannot write.
    """
    try:
        proto = ir.to_proto(_left_out(model, external) if external else model)
    except Exception as error:  # onnx_ir raises what its parts happen to raise
        place = f"graph {model.graph.name!r}"
        raise ModelError(explain(place, "can be written as ONNX", root_of(error))) from error
    _reorder(proto.opset_import, list(model.opset_imports), lambda opset: opset.domain)
    _reorder(proto.metadata_props, list(model.metadata_props), lambda entry: entry.key)
    for graph in all_graphs(proto.graph):
        initializers = {tensor.name for tensor in graph.initializer} - set(declared)
        kept = [info for info in graph.value_info if info.name not in initializers]
        _replace(graph.value_info, kept)
        _reorder(graph.value_info, list(declared), lambda info: info.name)
    for tensor in proto.graph.initializer:
        if external and tensor.name in external:  # a loaded model may say less than onnx_ir does
            del tensor.external_data[:]
            for key, value in external[tensor.name]:
                tensor.external_data.add(key=key, value=value)
    return proto


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the graph, whole or not at all.

    Raises:
        ModelError: more than 2 GiB beside the initializers, an edit at save that no longer fits, or what onnx_ir cannot
            write.
        OutputError: a file cannot be written; an earlier one is as it was.
    """
    finished = graph.finished()
    tensors = {
        name: value.const_value for name, value in finished.graph.initializers.items() if value.const_value is not None
    }
    large = sum(tensor.nbytes for name, tensor in tensors.items() if name not in graph.external) > _MESSAGE_BYTES
    outside = {
        name: tensor.nbytes
        for name, tensor in tensors.items()
        if tensor.dtype != ir.DataType.STRING and (name in graph.external or (large and tensor.nbytes >= _LARGE))
    }
    stored = []
    if outside:
        _no_link(path)
        stored = lay_out(outside, graph.external, Path(path))
    proto = to_message(finished, graph.declared, {each.name: each.entries for each in stored})
    try:
        data = proto.SerializeToString()
    except ValueError as error:  # how protobuf says that a message exceeds 2 GiB
        raise _too_large(path) from error
    if stored:
        write(data, stored, tensors, Path(path))
    else:
        atomic_write(path, data)


def _left_out(model: ir.Model, names: Collection[str]) -> ir.Model:
    """A copy whose initializers of these names have no values."""
    model = model.clone()
    for name in names:
        value = model.graph.initializers[name]
        tensor = value.const_value
        assert tensor is not None
        value.const_value = ir.ExternalTensor(
            "", None, None, tensor.dtype, shape=tensor.shape, name=name,  # type: ignore[arg-type]
            doc_string=tensor.doc_string, metadata_props=dict(tensor.metadata_props) or None,
        )  # fmt: skip
    return model


def _no_link(path: str | os.PathLike[str]) -> None:
    if os.path.islink(path):
        raise OutputError(
            explain(
                f"file {os.fspath(path)!r}",
                "a model with external data is written to a file, in the folder of its data",
                f"a link to {os.path.realpath(path)!r}",
                "Save it there, or under another name.",
            )
        )


def _too_large(path: str | os.PathLike[str]) -> ModelError:
    return ModelError(
        explain(
            f"{os.fspath(path)!r}",
            "an ONNX file holds at most 2 GiB beside its initializers, which can lie in a file of their own",
            "a larger model",
            "Store large tensors that stand in attributes (Constant nodes) as initializers: finetune.repair(model).",
        )
    )


def _reorder(entries: Any, names: list[str], name_of: Any) -> None:
    """Sort a repeated field by the place of each name in `names`; others follow in their order."""
    place = {name: i for i, name in enumerate(names)}
    wanted = sorted(entries, key=lambda entry: place.get(name_of(entry), len(place)))
    if [name_of(entry) for entry in wanted] != [name_of(entry) for entry in entries]:
        _replace(entries, wanted)


def _replace(entries: Any, wanted: Sequence[Any]) -> None:
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in wanted]
    del entries[:]
    entries.extend(copies)
