"""Checkpoints: a training run in one file that a trainer is made from again, to the same bits.

The file is a safetensors file. Its tensors:

    model                       the ONNX model as bytes, without the values of its weights
    weight:<name>               each weight
    optimizer:<slot>:<name>     the optimizer's arrays for each trained weight
    callback:<number>:<key>     arrays that callbacks remember

and its metadata two entries: `cconv`, a JSON record of everything else with the version of this layout, and `sha256`
over that record and all tensors, so that an altered file is recognised. Random numbers and shuffling are functions of
(seed, step, epoch), which are in the record; there is no generator to save.

Nothing in the file is ever resolved to code: losses, optimizers and schedules are looked up by name in the registry.
Names, shapes and dtypes are compared before anything is assigned.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from cconv.errors import CheckpointError, explain
from cconv.files import atomic_write
from cconv.graph import parts
from cconv.graph.limits import Limits
from cconv.model import Model, load

SCHEMA = 2

Parts = tuple[dict[str, Any], dict[str, np.ndarray]]

take_apart = parts.take_apart


def to_bytes(record: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bytes:
    """A checkpoint as bytes."""
    from safetensors.numpy import save as serialize

    text = json.dumps({"schema": SCHEMA, **record})
    data: bytes = serialize(dict(tensors), {"cconv": text, "sha256": _digest(text, tensors)})
    return data


def write(path: str | os.PathLike[str], record: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint, or leave the earlier file as it was.

    Raises:
        OutputError: the file cannot be written.
    """
    atomic_write(path, to_bytes(record, tensors))


def from_bytes(data: bytes, place: str) -> Parts:
    """The inverse of to_bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return read(file.name, place)


# Nested values with arrays in them, as callbacks remember them.


def without_arrays(value: Any, prefix: str, tensors: dict[str, np.ndarray]) -> Any:
    """`value` for JSON, its arrays moved to `tensors` under names that begin with `prefix`.

    Raises:
        TypeError: an object that JSON does not hold, when the record is written.
    """
    if isinstance(value, np.ndarray):
        name = f"{prefix}:{sum(key.startswith(prefix) for key in tensors)}"
        tensors[name] = value
        return {"array": name}
    if isinstance(value, Mapping):
        return {"values": {str(key): without_arrays(each, prefix, tensors) for key, each in value.items()}}
    if isinstance(value, (list, tuple)):
        return [without_arrays(each, prefix, tensors) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def with_arrays(value: Any, prefix: str, tensors: Mapping[str, np.ndarray]) -> Any:
    """The inverse."""
    if isinstance(value, list):
        return [with_arrays(each, prefix, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return tensors[value["array"]]
    return {key: with_arrays(each, prefix, tensors) for key, each in value["values"].items()}


def read(path: str | os.PathLike[str], place: str) -> Parts:
    """Record and tensors of a file whose digest is right.

    Raises:
        CheckpointError: no such file, not a checkpoint, cut off, altered, or of another version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError as error:
        raise CheckpointError(explain(place, "is a file", "no such file")) from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            explain(
                place,
                "is a whole safetensors file",
                f"{error}",
                "It is cut off or something else; use an earlier checkpoint.",
            )
        ) from error
    text, digest = metadata.get("cconv"), metadata.get("sha256")
    if text is None or digest is None:
        raise CheckpointError(
            explain(place, "is a safetensors file that Trainer.save wrote", "one without cconv's record")
        )
    if digest != _digest(text, tensors):
        raise CheckpointError(
            explain(
                place,
                "has the contents that its checksum was taken of",
                "others",
                "It was altered or damaged; use an earlier checkpoint.",
            )
        )
    record = json.loads(text)
    if record.get("schema") != SCHEMA:
        raise CheckpointError(
            explain(
                place,
                f"has layout version {SCHEMA}",
                f"{record.get('schema')!r}",
                "Use the version of cconv that wrote it; layout 1 is that of 0.1.0 before parameter groups.",
            )
        )
    return record, tensors


def _digest(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def put_together(tensors: Mapping[str, np.ndarray], limits: Limits | None, place: str) -> Model:
    """The model with its weights, checked like any file that is loaded.

    Raises:
        CheckpointError: bytes that are no model, or weights that are not its own.
        UnsafeModelError: the model exceeds `limits`.
    """
    message = tensors["model"].tobytes()
    try:
        proto = onnx.ModelProto.FromString(message)
    except DecodeError as error:
        raise CheckpointError(explain(place, "holds an ONNX model", f"{error}")) from error
    weights = {name[7:]: array for name, array in tensors.items() if name.startswith("weight:")}
    floats = [tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    compare(weights, {t.name: np.broadcast_to(np.float32(0), tuple(t.dims)) for t in floats}, place)
    return load(parts.put_together(message, weights), limits=limits)


def compare(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], place: str) -> None:
    """
    Raises:
        CheckpointError: other names, shapes or dtypes than expected.
    """
    if names := sorted(set(found) ^ set(expected)):
        kind = "missing" if names[0] in expected else "more than the model has"
        raise CheckpointError(explain(place, "holds the arrays of its model", f"{names[0]!r} {kind}"))
    for name, array in expected.items():
        if (found[name].shape, found[name].dtype) != (array.shape, array.dtype):
            raise CheckpointError(
                explain(
                    place,
                    f"{name!r} is {array.dtype} {array.shape}, as its model has it",
                    f"{found[name].dtype} {found[name].shape}",
                )
            )
