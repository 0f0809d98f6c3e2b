"""External data: tensors that lie in files beside the model.

A model names these files itself, so a crafted one may name any file of the machine. What onnx and
onnxruntime have let through over the years (`..`, absolute paths, links that lead outside, hard links to
files outside, lengths beyond the file) is refused here: the path is resolved, links included, and must still
lie in the model's own folder; the file must be a regular one with a single hard link; and what is checked is
the open file, not its name, so that it cannot be exchanged in between.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import onnx

from cconv.errors import UnsafeModelError, explain


class ExternalFolder:
    """The folder that external data may come from; None allows none."""

    def __init__(self, base: str | os.PathLike[str] | None) -> None:
        self.base = None if base is None else Path(base).resolve()

    def check(self, tensor: onnx.TensorProto, nbytes: int, place: str) -> None:
        """That the file holds the tensor's `nbytes`, all of it allowed to be read.

        Raises:
            UnsafeModelError: it does not, or lies where it must not.
        """
        os.close(self._open(tensor, nbytes, place)[0])

    def read(self, tensor: onnx.TensorProto, into: np.ndarray, place: str) -> None:
        """Fill `into`, a contiguous array of bytes, after the same checks."""
        descriptor, offset = self._open(tensor, into.nbytes, place)
        with open(descriptor, "rb", buffering=0) as file:
            file.seek(offset)
            view = memoryview(into)  # type: ignore[arg-type]
            while view:
                count = file.readinto(view)
                if not count:
                    raise UnsafeModelError(explain(place, "its file holds all of it", "a file cut off"))
                view = view[count:]

    def _open(self, tensor: onnx.TensorProto, nbytes: int, place: str) -> tuple[int, int]:
        """An open descriptor of the tensor's file, and the offset of its first byte."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")

        def refuse(rule: str, found: str, fix: str = "") -> UnsafeModelError:
            return UnsafeModelError(explain(place, rule, found, fix))

        if self.base is None:
            raise refuse(
                "external data needs a folder to read it from",
                f"a model given as bytes, and data in {location!r}",
                "Load the model by its path, or name the folder: load(data, base=folder).",
            )
        if not location or "\0" in location or Path(location).is_absolute():
            raise refuse("the location of external data is a path relative to the model", repr(location))
        try:
            path = Path(self.base, location).resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
            raise refuse("the file of its external data is there", f"no file {location!r}") from None
        if not path.is_relative_to(self.base):
            raise refuse(
                "external data lies in the model's own folder, links resolved",
                f"{location!r}, which leads to {str(path)!r}",
                "Copy the model and its data into one folder.",
            )
        try:
            # No blocking on a pipe, and no link put in the file's place since it was resolved.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags)
        except OSError as error:
            raise refuse("its external data can be read", f"{location!r}: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise refuse("external data is a regular file", f"{location!r}, which is none")
            if status.st_nlink != 1:
                raise refuse(
                    "the file of external data has one hard link",
                    f"{location!r}, with {status.st_nlink}",
                    "Copy the file: a second link may stand outside of the model's folder.",
                )
            offset = _whole_number(entries.get("offset", "0"))
            length = _whole_number(entries.get("length", str(nbytes)))
            if offset is None or length is None:
                raise refuse("offset and length are whole numbers", f"{entries.get('offset')!r} and "
                             f"{entries.get('length')!r}")  # fmt: skip
            if length != nbytes:
                raise refuse(f"its shape and type take {nbytes} bytes", f"a length of {length}")
            if offset + length > status.st_size:
                raise refuse(
                    "its external data lies within the file",
                    f"bytes {offset} to {offset + length} of {location!r}, which has {status.st_size}",
                )
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, offset


def _whole_number(text: str) -> int | None:
    """The number that at most 20 ASCII digits spell; else None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
