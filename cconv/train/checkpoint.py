"""Checkpoints: a training run in one file that a trainer is made from again, to the same bits.

The file is a safetensors file. Its tensors:

    model                       the ONNX model as bytes, the values of its weights left out
    weight:<name>               each weight
    optimizer:<slot>:<name>     the optimizer's arrays for each trained weight

and its metadata two entries: `cconv`, a JSON record of everything else with the version of this layout, and
`sha256` over that record and all tensors, so that an altered file is told from a whole one. Random numbers
and shuffling are functions of (seed, step, epoch), which are in the record; there is no generator to keep.

Nothing in the file is ever resolved to code: losses, optimizers and schedules are looked up by name in
REGISTRY. Names, shapes and dtypes are compared before anything is assigned.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import numbers
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from cconv.errors import CconvError, CheckpointError, explain
from cconv.files import atomic_write
from cconv.graph.at_save import AtSave
from cconv.graph.limits import Limits
from cconv.graph.parts import put_together, take_apart
from cconv.model import Model, load
from cconv.train.history import History, Row
from cconv.train.losses import CrossEntropy, MeanSquaredError
from cconv.train.optim import SGD, Adam, AdamW
from cconv.train.schedules import Constant, Cosine, Step

if TYPE_CHECKING:
    from cconv.train.trainer import Trainer

SCHEMA = 1

REGISTRY: dict[str, type] = {
    kind.__name__: kind
    for kind in (CrossEntropy, MeanSquaredError, SGD, Adam, AdamW, Constant, Step, Cosine)
}


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Write the trainer's whole state, or leave the earlier file as it was.

    Raises:
        CheckpointError: a loss, optimizer or schedule that is not cconv's own.
        OutputError: the file cannot be written.
    """
    from safetensors.numpy import save as serialize

    record = {
        "schema": SCHEMA,
        "steps": trainer.steps,
        "epoch": trainer.epoch,
        "seed": trainer.seed,
        "loss": {name: _described(loss) for name, loss in trainer.losses.items()},
        "optimizer": _described(trainer.optimizer),
        "trainable": list(trainer.trained),
        "batchnorm": trainer.batchnorm,
        "max_gradient_norm": _described(trainer.max_gradient_norm),
        "check_inputs": trainer.check_inputs,
        "precision": trainer.precision,
        "history": [dataclasses.asdict(row) for row in trainer.history],
        "at_save": [[edit.kind, dict(edit.arguments)] for edit in trainer.model.at_save],
    }
    message, weights = take_apart(trainer.model)
    tensors = {"model": np.frombuffer(message, dtype=np.uint8)}
    tensors.update((f"weight:{name}", array) for name, array in weights.items())
    for slot, arrays in trainer.state.slots.items():
        tensors.update((f"optimizer:{slot}:{name}", array) for name, array in arrays.items())
    text = json.dumps(record)
    atomic_write(path, serialize(tensors, {"cconv": text, "sha256": _digest(text, tensors)}))


def resume(
    kind: type[Trainer], path: str | os.PathLike[str], threads: int | None, limits: Limits | None
) -> Trainer:
    """A trainer of class `kind` as `save` found it.

    Raises:
        CheckpointError: no such file, not a checkpoint, cut off, altered, or of another version.
        UnsafeModelError: the model in it exceeds `limits`.
    """
    place = f"checkpoint {os.fspath(path)!r}"
    tensors, record = _read(path, place)
    try:
        model = _whole_model(tensors, limits, place)
        model.at_save = tuple(AtSave(edit, arguments) for edit, arguments in record.get("at_save", ()))
        trainer = kind(
            model,
            loss={name: _restored(loss, place) for name, loss in record["loss"].items()},
            optimizer=_restored(record["optimizer"], place),
            trainable=record["trainable"],
            batchnorm=record["batchnorm"],
            threads=threads,
            seed=record["seed"],
            max_gradient_norm=record["max_gradient_norm"],
            check_inputs=record["check_inputs"],
            precision=record["precision"],
        )
        history = History([Row(**row) for row in record["history"]])
        steps, epoch = int(record["steps"]), int(record["epoch"])
    except CheckpointError:
        raise
    except (CconvError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            explain(place, "holds a run that this version of cconv can take up", f"{error}")
        ) from error
    slots = {
        f"optimizer:{slot}:{name}": array
        for slot, arrays in trainer.state.slots.items()
        for name, array in arrays.items()
    }
    _compare({name: t for name, t in tensors.items() if name.startswith("optimizer:")}, slots, place)
    for name, array in slots.items():
        array[...] = tensors[name]
    trainer.state.steps[0] = steps
    trainer.epoch = epoch
    trainer.history = history
    return trainer


def _read(path: str | os.PathLike[str], place: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and record of a file whose digest is right."""
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
                "Use the version of cconv that wrote it.",
            )
        )
    return tensors, record


def _digest(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _whole_model(tensors: Mapping[str, np.ndarray], limits: Limits | None, place: str) -> Model:
    """The model with its weights put back, checked like any file that is loaded."""
    try:
        proto = onnx.ModelProto.FromString(tensors["model"].tobytes())
    except DecodeError as error:
        raise CheckpointError(explain(place, "holds an ONNX model", f"{error}")) from error
    weights = {name[7:]: array for name, array in tensors.items() if name.startswith("weight:")}
    floats = [tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    _compare(weights, {t.name: np.broadcast_to(np.float32(0), tuple(t.dims)) for t in floats}, place)
    return load(put_together(tensors["model"].tobytes(), weights), limits=limits)


def _compare(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], place: str) -> None:
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


def _described(item: Any) -> Any:
    """A loss, optimizer or schedule as {"type": name, options...}; what they hold as JSON has it."""
    kind = type(item).__name__
    if dataclasses.is_dataclass(item) and REGISTRY.get(kind) is type(item):
        options = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
        return {"type": kind, **{name: _described(value) for name, value in options.items()}}
    if item is None or isinstance(item, (bool, str)):
        return item
    if isinstance(item, (tuple, list)):
        return [_described(value) for value in item]
    if isinstance(item, numbers.Real):  # NumPy's too, which JSON does not know
        return int(item) if isinstance(item, numbers.Integral) else float(item)
    raise CheckpointError(
        explain(
            "checkpoint",
            "losses, optimizers and schedules are cconv's own, so that no code is named in the file",
            f"a {kind}",
            "Save the weights with model.save(...) instead.",
        )
    )


def _restored(item: Any, place: str) -> Any:
    """The inverse of _described."""
    if not isinstance(item, dict):
        return item
    options = {name: _restored(value, place) for name, value in item.items() if name != "type"}
    kind = REGISTRY.get(item.get("type", ""))
    if kind is None:
        names = ", ".join(REGISTRY)
        raise CheckpointError(explain(place, f"names one of {names}", repr(item.get("type"))))
    return kind(**options)
