#!/usr/bin/env python3
"""Write docs/operators.md from the catalogue, so that the list cannot disagree with the code.

    python tools/list_operators.py           # write
    python tools/list_operators.py --check   # exit status 1 if the file is not up to date
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from cconv.ops.catalogue import CATALOGUE
from cconv.ops.operator import Operator

TARGET = Path(__file__).parent.parent / "docs" / "operators.md"

HEAD = """# Operators

What cconv runs and trains, from opset 7 or the one named to the newest of the installed onnx. "Gradient" says with
respect to which inputs; where it says "none", training stops at that node with an error that names it.

A model with other operators can be loaded, inspected and saved; running it names all that are missing at once.

| operator | file | from opset | gradient |
|---|---|---|---|
"""


def gradient(operator: Operator) -> str:
    if type(operator).gradient is Operator.gradient or operator.differentiable == ():
        return "none"
    if operator.differentiable is None:
        return "all inputs" if operator.inputs[1] > 1 else "the input"
    indices = ", ".join(str(i) for i in operator.differentiable)
    return "the input" if operator.inputs[1] == 1 else f"input {indices}"


def text() -> str:
    rows = []
    for (_, name), operator in sorted(CATALOGUE.items()):
        module = Path(inspect.getfile(type(operator))).name
        rows.append(f"| {name} | `ops/{module}` | {operator.since} | {gradient(operator)} |")
    return HEAD + "\n".join(rows) + f"\n\n{len(rows)} operators.\n"


def main() -> int:
    if "--check" in sys.argv:
        return int(not TARGET.exists() or TARGET.read_text() != text())
    TARGET.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
