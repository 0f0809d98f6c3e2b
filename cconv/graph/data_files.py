"""Where a model's external data is written, and how: a model of two or more files that is saved whole or not at all.

A file of data keeps the name and the layout that it had when the model was loaded, if no file of that name lies in the
folder that the model is saved to. Else the data goes to one file called like the model, "net.onnx.data". A file that is
there is never written to: an earlier model, this one or another, may live on it. So "net.onnx" saved again has its
data in "net.onnx.1.data", and only once the new model stands in the old one's place is its file of data removed; and
not even then where another file of the folder could be a model that lives on it, such as a copy of the old "net.onnx".
Such a file begins as messages of ONNX do and says the name of the file of data. Models in folders above, which may
name data below them, are not looked for.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from cconv.errors import OutputError, explain
from cconv.files import atomic_write

Entries = tuple[tuple[str, str], ...]
"""What ONNX says of an external tensor: keys "location", "offset", "length", of which the last two may be missing."""

# Tensors begin at whole pages, as readers that map a file like it. Where those of a loaded model lie farther apart than
# this, the file has holes or other contents, and is laid out anew.
PAGE, LARGEST_GAP = 4096, 2**16

# How a model's message begins: its first field, ir_version. Pictures, arrays and texts begin otherwise.
MODEL = b"\x08"

# Written in one piece: so much of a tensor at once.
CHUNK = 2**26


@dataclass(frozen=True)
class Stored:
    """A tensor in a file of data.

    Attributes:
        name: of the initializer.
        entries: what the model says of it.
    """

    name: str
    location: str
    offset: int
    entries: Entries


def lay_out(tensors: Mapping[str, int], loaded: Mapping[str, Entries], target: Path) -> list[Stored]:
    """The place of each tensor.

    Args:
        tensors: bytes of those that are to lie outside of the model, by name.
        loaded: what the model said of them when it was loaded.
        target: the file of the model.
    """
    kept = _as_loaded(tensors, loaded, target.parent)
    if kept is not None:
        return kept
    location, offset, result = _free_name(target), 0, []
    for name, nbytes in tensors.items():
        entries = (("location", location), ("offset", str(offset)), ("length", str(nbytes)))
        result.append(Stored(name, location, offset, entries))
        offset += -(-nbytes // PAGE) * PAGE
    return result


def write(model: bytes, stored: Sequence[Stored], tensors: Mapping[str, ir.TensorProtocol], target: Path) -> None:
    """Write the files of data, then the model, or leave what was there as it was.

    Raises:
        OutputError: a file cannot be written; none of the new ones is left.
    """
    earlier = _data_of(target)
    written: list[Path] = []
    try:
        for location in dict.fromkeys(each.location for each in stored):
            path = target.parent / location
            if os.path.lexists(path):  # it came since `lay_out`
                raise OutputError(explain(f"file '{path}'", "does not exist yet", "one", "Save the model again."))
            parts = sorted((each for each in stored if each.location == location), key=lambda each: each.offset)
            written.append(path)
            atomic_write(path, _pieces(parts, tensors))
        atomic_write(target, model)
    except BaseException:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    for location in earlier - {each.location for each in stored}:
        with contextlib.suppress(OSError):
            if not _is_named(location, target.parent):
                (target.parent / location).unlink()


def _as_loaded(tensors: Mapping[str, int], loaded: Mapping[str, Entries], folder: Path) -> list[Stored] | None:
    """The places that the tensors had; None where they cannot have them again."""
    result = []
    for name, nbytes in tensors.items():
        known = dict(loaded.get(name, ()))
        if known.keys() - {"location", "offset", "length"} or int(known.get("length", nbytes)) != nbytes:
            return None
        location = known.get("location")
        if location is None or not _inside(folder, location) or os.path.lexists(folder / location):
            return None
        result.append(Stored(name, location, int(known.get("offset", "0")), tuple(loaded[name])))
    ends: dict[str, int] = {}
    for each in sorted(result, key=lambda each: (each.location, each.offset)):
        end = ends.get(each.location, 0)
        if not end <= each.offset <= end + LARGEST_GAP:
            return None
        ends[each.location] = each.offset + tensors[each.name]
    return result


def _inside(folder: Path, location: str) -> bool:
    """Whether a file can be made there, in the folder or one within it. A location that a file names is not trusted."""
    place = (folder / location).parent
    return ".." not in Path(location).parts and place.is_dir() and place.resolve().is_relative_to(folder.resolve())


def _free_name(target: Path) -> str:
    """A name for the data of the model in `target` that no file has."""
    name, count = f"{target.name}.data", 0
    while os.path.lexists(target.parent / name):
        count += 1
        name = f"{target.name}.{count}.data"
    return name


def _data_of(target: Path) -> set[str]:
    """Names like those of `_free_name` which the model that is there now has its data in."""
    pattern = re.compile(re.escape(target.name) + r"(\.\d+)?\.data")
    try:
        candidates = {name for name in os.listdir(target.parent) if pattern.fullmatch(name)}
        if not candidates or not target.is_file():
            return set()
        proto = onnx.ModelProto.FromString(target.read_bytes())
    except (OSError, DecodeError):
        return set()
    entries: Iterable[Any] = (entry for tensor in proto.graph.initializer for entry in tensor.external_data)
    return candidates & {entry.value for entry in entries if entry.key == "location"}


def _is_named(location: str, folder: Path) -> bool:
    """Whether a model in the folder, whatever it is called, may have its data in `location`.

    Raises:
        OSError: a file cannot be read, so that nobody knows.
    """
    wanted = os.fsencode(location)
    for path in folder.iterdir():
        if not path.is_file():
            continue
        with open(path, "rb") as file:
            earlier = file.read(1)
            if earlier != MODEL:
                continue
            while piece := file.read(CHUNK):
                if wanted in earlier + piece:
                    return True
                earlier = piece[-len(wanted) :]
    return False


def _pieces(parts: Sequence[Stored], tensors: Mapping[str, ir.TensorProtocol]) -> Iterator[bytes | memoryview]:
    """The contents of one file, tensors in the order of their places, zeros between them."""
    position = 0
    for part in parts:
        yield bytes(part.offset - position)
        tensor = tensors[part.name]
        data: Any = tensor.tobytes() if tensor.dtype.bitwidth < 8 else None
        if data is None:  # no copy of a large weight
            array = np.ascontiguousarray(tensor.numpy())
            data = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8)
        view = memoryview(data)
        for begin in range(0, len(view), CHUNK):
            yield view[begin : begin + CHUNK]
        position = part.offset + len(view)
