"""load_graph: an ONNX model from a file, bytes or a message, checked before anything is built from it.

    bytes -> protobuf message -> checks (safety.py) -> float weights taken out -> onnx_ir graph -> Graph

The weights leave the message before the graph is built: they live in aligned arrays from then on, and
the message, which would keep a second copy of them, is dropped.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from cconv.errors import ModelError, UnsafeModelError, explain
from cconv.graph.external import ExternalFolder
from cconv.graph.graph import Graph
from cconv.graph.limits import DEFAULT, Limits
from cconv.graph.messages import all_graphs
from cconv.graph.safety import all_tensors_of, check_model, tensor_bytes
from cconv.kernels.core.memory import zeros

# What people hand over instead of ONNX: the first bytes, and what to say. The first that fits is taken.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive, as PyTorch's .pt and .pth files, Keras's .keras and NumPy's .npz are"),
    (0, b"\x80\x02", "a Python pickle, as old PyTorch files are"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x05", "a Python pickle"),
    (0, b"\x89HDF", "HDF5, as Keras's .h5 files are"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x1f\x8b", "compressed by gzip"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself (`git lfs pull` fetches it)"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "an onnxruntime model (.ort)"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
    (8, b'{"', "a safetensors file: weights without a graph"),
)


G = TypeVar("G", bound=Graph)


def load_graph(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    kind: type[G],
    limits: Limits | None = None,
    base: str | os.PathLike[str] | None = None,
) -> G:
    """The model in an ONNX file, in its bytes, or in an `onnx.ModelProto` (which is left as it is).

    No code of the file is run, and nothing is read but the file and, inside its folder, its external data.
    Operators that cconv does not have are no hindrance here; running or training the model names them.

    Args:
        source: path, bytes or message.
        kind: the class to make, Graph or one derived from it.
        limits: sizes beyond which a model is refused.
        base: the folder of external data, for a model that is not given by its path.

    Raises:
        ModelError: not an ONNX model; the message says what it seems to be.
        UnsafeModelError: a model whose parts contradict each other, that exceeds a limit, or whose external
            data lies outside of its folder.
        UnsupportedOpError: an opset below 7, or newer than the installed onnx.
        OSError: the file cannot be read.
    """
    limits = limits or DEFAULT
    if isinstance(source, onnx.ModelProto):
        place, proto = "model", onnx.ModelProto()
        proto.CopyFrom(source)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        place = "model"
        proto = _parse(bytes(source), place, limits)
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        place, base = repr(path.name), path.parent if base is None else base
        proto = _parse(_read(path, limits), place, limits)
    else:
        raise TypeError(f"load takes a path, bytes or an onnx.ModelProto; found {type(source).__name__}")
    folder = ExternalFolder(base)
    check_model(proto, limits, folder, place)
    external = {
        tensor.name: tuple((entry.key, entry.value) for entry in tensor.external_data)
        for tensor in proto.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    arrays = _take_weights(proto, folder, place)
    try:
        # The message without its weights, parsed anew: the first one's memory is free once this returns.
        graph = ir.from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))
    except Exception as error:  # onnx_ir raises what its parts happen to raise
        raise ModelError(explain(place, "is a valid ONNX model", str(error).split("\n", 1)[0])) from error
    declared = [info.name for part in all_graphs(proto.graph) for info in part.value_info]
    del proto
    return kind(graph, arrays=arrays, declared=declared, limits=limits, external=external)


def _read(path: Path, limits: Limits) -> bytes:
    """The bytes of a regular file that is not too large."""
    place = repr(str(path))
    if path.is_dir():
        raise ModelError(explain(place, "is a file", "a folder", "Name the .onnx file in it."))
    # No blocking on a pipe; what is checked is the open file.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeModelError(explain(place, "is a regular file", "a device, pipe or socket"))
        _check_size(status.st_size, place, limits)
        return file.read(status.st_size)


def _check_size(nbytes: int, place: str, limits: Limits) -> None:
    if nbytes > limits.file_bytes:
        raise UnsafeModelError(
            explain(
                place,
                f"has at most {limits.file_bytes} bytes (Limits.file_bytes)",
                str(nbytes),
                "Raise the limit if you trust the model.",
            )
        )


def _parse(data: bytes, place: str, limits: Limits) -> onnx.ModelProto:
    _check_size(len(data), place, limits)
    for offset, magic, kind in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            raise _not_onnx(place, kind)
    if not data:
        raise _not_onnx(place, "an empty file")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise _not_onnx(place, _resembles(data)) from None
    if not proto.ir_version or not proto.HasField("graph") or not proto.opset_import:
        raise _not_onnx(place, _resembles(data))
    return proto


def _resembles(data: bytes) -> str:
    """What data without a known beginning looks like."""
    head = data[:256]
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode("utf-8") if error.start > len(head) - 4 else "\0"
    if not all(c.isprintable() or c.isspace() for c in text):
        return f"{len(data)} bytes that are not an ONNX message (damaged, cut off, or of another format)"
    if text.lstrip()[:1] == "<":
        return "text like HTML or XML (a download that ended on a web page?)"
    return f"text that begins with {text[:40]!r}"


def _not_onnx(place: str, kind: str) -> ModelError:
    return ModelError(explain(place, "is an ONNX model in binary form", kind, "Export the network to ONNX first."))


def _take_weights(proto: onnx.ModelProto, folder: ExternalFolder, place: str) -> dict[str, np.ndarray]:
    """Move the main graph's float32 initializers into aligned arrays, and all external data into memory."""
    arrays = {}
    for tensor in proto.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        array = zeros(tuple(tensor.dims), np.float32)
        where = f"{place}: initializer {tensor.name!r}"
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            folder.read(tensor, array.reshape(-1).view(np.uint8), where)
            _internal(tensor)
        else:
            values: Any = tensor.float_data
            if not len(values):
                values = np.frombuffer(tensor.raw_data, dtype="<f4")
            array[...] = np.asarray(values, dtype=np.float32).reshape(array.shape)
            tensor.ClearField("float_data")
            tensor.ClearField("raw_data")
        arrays[tensor.name] = array
    for tensor in all_tensors_of(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            buffer = zeros((tensor_bytes(tensor),), np.uint8)
            folder.read(tensor, buffer, f"{place}: tensor {tensor.name!r}")
            _internal(tensor)
            tensor.raw_data = buffer.tobytes()
    return arrays


def _internal(tensor: onnx.TensorProto) -> None:
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
