"""Find model inputs whose declared shape is missing or has open sizes beside the batch."""

from __future__ import annotations

from collections.abc import Iterator

from cconv.concerns.case import SIDE, Case
from cconv.concerns.concern import Concern
from cconv.concerns.finding import ERROR, INFO, Finding


def find(case: Case) -> Iterator[Finding]:
    for name, (dims, _) in case.model.input_specs.items():
        shown = "no shape" if dims is None else f"shape ({', '.join('?' if n is None else str(n) for n in dims)})"
        if name in case.given or (dims is not None and all(isinstance(n, int) for n in dims[1:])):
            continue
        if name in case.guessed:
            yield Finding(
                INFO,
                name,
                f"Declares {shown}. Training was tested, and its memory computed, for examples of shape "
                f"{case.guessed[name][1:]} ({SIDE} for each open size).",
                f"Give the shape that you train on: input_shapes={{{name!r}: (1, ...)}}, --shape {name}=1,...",
            )
        else:
            yield Finding(
                ERROR,
                name,
                f"Declares {shown}, so training could not be tested.",
                f"Give its shape: input_shapes={{{name!r}: (1, ...)}}, --shape {name}=1,...",
            )


CONCERNS = [Concern("inputs", find)]
