"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cconv.errors import ValueRangeError, explain


def add_model(parser: argparse.ArgumentParser, metavar: str = "MODEL.onnx") -> None:
    parser.add_argument("model", type=Path, metavar=metavar)


def add_shape(parser: argparse.ArgumentParser) -> None:
    text = "an input's shape, if the model leaves more open than the batch; once for each input"
    parser.add_argument("--shape", type=shape, action="append", default=[], metavar="NAME=1,3,224,224", help=text)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    text = ".npy, or .npz with an array for each input (random numbers)"
    parser.add_argument("--inputs", type=Path, metavar="FILE", help=text)


def add_batch(parser: argparse.ArgumentParser, default: int, of: str = "random inputs") -> None:
    parser.add_argument("--batch", type=number(1), default=default, metavar="N", help=f"examples of {of} ({default})")


def add_seed(parser: argparse.ArgumentParser, of: str = "all random choices") -> None:
    parser.add_argument("--seed", type=number(0), default=0, metavar="N", help=f"of {of} (0)")


def add_tolerance(parser: argparse.ArgumentParser, default: float, text: str) -> None:
    parser.add_argument("--tolerance", type=float, default=default, metavar="X", help=f"{text} ({default:g})")


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=number(1), metavar="N", help="default: one per processor")


def add_progress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="no bars on stderr")


def number(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number of at least `least`."""

    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise ValueError(text)
        return value

    parse.__name__ = f"whole number >= {least}"
    return parse


def numbers(text: str) -> list[int]:
    return [number(1)(part) for part in text.split(",")]


numbers.__name__ = "list of whole numbers >= 1"


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    found = tuple(int(size) for size in sizes.split(","))
    if not name or min(found) < 1:
        raise ValueError(text)
    return name, found


shape.__name__ = "NAME=1,3,224,224"


def all_or_list(text: str) -> str | list[str]:
    return text if text == "all" else text.split(",")


def read_arrays(path: Path) -> Any:
    """The array of an .npy file, or the arrays of an .npz file by name; inputs, or targets.

    Raises:
        ValueRangeError: the file holds neither, or Python objects.
        OSError: it cannot be read.
    """
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError) as error:
        rule = "holds arrays as np.save or np.savez write them, without Python objects"
        raise ValueRangeError(explain(f"{path}", rule, str(error).split("\n", 1)[0].split(". ")[0])) from error
