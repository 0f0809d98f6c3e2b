"""Writing a file whole or not at all.

Every file that cconv makes is written beside its target, flushed to the disk, and renamed over it. So a full
disk, a crash or Ctrl-C leaves the earlier file as it was, and a reader never sees half of the new one.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from cconv.errors import OutputError, explain


def atomic_write(path: str | os.PathLike[str], data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write `data` (one piece, or pieces in order) to `path`; a link is followed, permissions are kept.

    Raises:
        OutputError: the folder is missing or cannot be written, the target is no regular file or is
            read-only, or the disk refused. The target is as it was, and no temporary file is left.
    """
    target = Path(os.path.realpath(path))
    folder = target.parent
    mode = check_target(target)
    remove_abandoned(folder)
    temporary = temporary_name(folder)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise _failure(target, "the folder must be writable", error, "Choose another folder.") from error
    try:
        with open(descriptor, "wb") as file:
            if mode is not None:
                _disk(target, os.fchmod, descriptor, mode)
            for piece in (data,) if isinstance(data, (bytes, bytearray, memoryview)) else data:
                _disk(target, file.write, piece)
            _disk(target, file.flush)
            _disk(target, os.fsync, descriptor)
        _disk(target, os.replace, temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def temporary_name(folder: Path) -> Path:
    """A new name for a file that is renamed once it is whole: it says which process writes it."""
    return folder / f".cconv-{_host()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"


def remove_abandoned(folder: Path) -> None:
    """Delete temporary files in a folder whose process is gone: it was killed while it wrote them."""
    for path in folder.glob(f".cconv-{_host()}-*.tmp"):
        process = path.name.split("-")[-2]
        if process.isdigit() and int(process) != os.getpid() and not _runs(int(process)):
            with contextlib.suppress(OSError):
                path.unlink()


def _host() -> str:
    """This machine's name: a folder may be shared, and a process of another machine be alive."""
    return re.sub(r"\W", "_", platform.node()) or "localhost"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it runs, and belongs to another user
        return True
    return True


def check_target(target: Path) -> int | None:
    """Permissions of the earlier file; None: there is none, and the process's umask decides.

    Raises:
        OutputError: the folder is missing, or the target is no regular file or read-only.
    """
    if not target.parent.is_dir():
        raise OutputError(
            explain(f"file '{target}'", "its folder must exist", f"no folder '{target.parent}'", "Create it.")
        )
    try:
        earlier = os.stat(target)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failure(target, "the folder must be readable", error, "Choose another folder.") from error
    if not stat.S_ISREG(earlier.st_mode):
        kind = "a folder" if stat.S_ISDIR(earlier.st_mode) else "a device, pipe or socket"
        raise OutputError(
            explain(f"file '{target}'", "must be a regular file or not exist", kind, "Choose another name.")
        )
    if not os.access(target, os.W_OK):
        raise OutputError(explain(f"file '{target}'", "must be writable", "a read-only file", "Choose another name."))
    return stat.S_IMODE(earlier.st_mode)


def _disk(target: Path, call: Callable[..., object], *arguments: object) -> None:
    """One file operation; its own OSError becomes an OutputError, one of the data's iterator does not."""
    try:
        call(*arguments)
    except OSError as error:
        fix = "The file is as it was; free some space or choose another folder."
        raise _failure(target, "must be written whole", error, fix) from error


def _failure(target: Path, rule: str, error: OSError, fix: str) -> OutputError:
    return OutputError(explain(f"file '{target}'", rule, f"{error.strerror} in '{target.parent}'", fix))


def _sync_folder(folder: Path) -> None:
    """Put the rename itself on the disk. Some file systems cannot; the file is in place all the same."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
