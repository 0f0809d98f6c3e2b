"""save: the model's graph as an ONNX message and as a file.

The message says what the loaded one said, field by field; only the weights' values differ after training.
onnx_ir keeps all of it but the order of three lists, which `to_message` restores. Weights go into the file
itself, also where they came from external data: one file cannot lose its other half.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from cconv.errors import ModelError, explain, root_of
from cconv.files import atomic_write

if TYPE_CHECKING:
    from cconv.graph.model import Model

# What protobuf can hold.
_MESSAGE_BYTES = 2**31 - 1


def to_message(model: ir.Model, declared: Sequence[str]) -> onnx.ModelProto:
    """The graph as a message.

    Args:
        declared: names that value_info had when the model was loaded, in order. onnx_ir adds the types of
            all initializers, which repeat what the tensors say themselves.

    Raises:
        ModelError: onnx_ir holds something that it cannot write.
    """
    try:
        proto = ir.to_proto(model)
    except Exception as error:  # onnx_ir raises what its parts happen to raise
        place = f"graph {model.graph.name!r}"
        raise ModelError(explain(place, "can be written as ONNX", root_of(error))) from error
    _reorder(proto.opset_import, list(model.opset_imports), lambda opset: opset.domain)
    _reorder(proto.metadata_props, list(model.metadata_props), lambda entry: entry.key)
    initializers = {tensor.name for tensor in proto.graph.initializer} - set(declared)
    kept = [info for info in proto.graph.value_info if info.name not in initializers]
    _replace(proto.graph.value_info, kept)
    _reorder(proto.graph.value_info, list(declared), lambda info: info.name)
    return proto


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write the model, whole or not at all.

    Raises:
        ModelError: the weights take more than the 2 GiB that one ONNX file can hold, or onnx_ir cannot write it.
        OutputError: the file cannot be written; an earlier one is as it was.
    """
    arrays = (*model.weights.values(), *model.constants.values())
    if sum(array.nbytes for array in arrays) > _MESSAGE_BYTES:
        raise _too_large(path)
    proto = model.proto()
    try:
        data = proto.SerializeToString()
    except ValueError as error:  # how protobuf says that a message exceeds 2 GiB
        raise _too_large(path) from error
    atomic_write(path, data)


def _too_large(path: str | os.PathLike[str]) -> ModelError:
    return ModelError(
        explain(
            f"{os.fspath(path)!r}",
            "an ONNX file holds at most 2 GiB, weights included",
            "a larger model",
            "Write model.proto() with onnx.save(..., save_as_external_data=True).",
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
