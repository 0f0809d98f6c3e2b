"""Inputs that do not say what shape they have."""

from __future__ import annotations

from collections.abc import Iterator

from cconv.concerns.case import SIDE, Case
from cconv.concerns.concern import Concern
from cconv.concerns.finding import ERROR, INFO, Finding


def find(case: Case) -> Iterator[Finding]:
    for name, (dims, _) in case.model.input_specs.items():
        shown = "no shape" if dims is None else f"({', '.join('?' if n is None else str(n) for n in dims)})"
        if name in case.given or (dims is not None and all(isinstance(n, int) for n in dims[1:])):
            continue
        if name in case.guessed:
            yield Finding(
                INFO,
                name,
                f"Declares {shown}. Taken as {case.guessed[name][1:]} an example ({SIDE} for what is open) to try "
                "training and to reckon its memory.",
                f"Say what you train on: input_shapes={{{name!r}: (1, ...)}}, --shape {name}=1,...",
            )
        else:
            yield Finding(
                ERROR,
                name,
                f"Declares {shown}, so whether training works could not be tried.",
                f"Give its shape: input_shapes={{{name!r}: (1, ...)}}, --shape {name}=1,...",
            )


CONCERNS = [Concern("inputs", find)]
