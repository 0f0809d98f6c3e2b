#!/usr/bin/env python3
"""Write docs/operators.md from the catalogue, so that the list cannot disagree with the code.

python tools/list_operators.py           # write
python tools/list_operators.py --check   # exit status 1 if the file is not up to date
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from pathlib import Path

import onnx

from cconv.graph.nodes import Node
from cconv.ops.catalogue import CATALOGUE
from cconv.ops.operator import Operator

TARGET = Path(__file__).parent.parent / "docs" / "operators.md"

HEAD = """# Operators

What cconv runs and trains, from opset 7 or the one named to the newest of the installed onnx. "Gradient" says with
respect to which inputs; where it says "none", no gradient comes to what is before that node, for the reason given.
Inputs in parentheses set the operator's behaviour: a weight that only they lead to is trained where it is named.

A model with other operators can be loaded, inspected and saved; running it names all that are missing at once.

| operator | file | from opset | gradient |
|---|---|---|---|
"""

# Why operators have no gradient.
NONE = {
    "whole numbers or bools come out": (
        "And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Equal Greater GreaterOrEqual IsInf "
        "IsNaN Less LessOrEqual NonZero Not Or Shape Size Xor"
    ),
    "it is 0 wherever there is one": "Ceil Floor Hardmax Round Sign",
    "nothing real comes in, or what says a shape": "Constant ConstantOfShape EyeLike Range",
    "its branches have theirs": "If",
    "it is itself an update of weights": "Adagrad Adam Momentum",
    "derivatives are taken once": "Gradient",
}
REASONS = {name: reason for reason, names in NONE.items() for name in names.split()}

DEFINED = """The standard defines these by other operators. Their definition takes a node's place in a plan, and has the
gradient of its parts:"""


def gradient(operator: Operator) -> str:
    if type(operator).gradient is Operator.gradient or operator.differentiable == ():
        return f"none: {REASONS[operator.type]}"
    if operator.differentiable is None:
        return "all inputs" if operator.inputs[1] > 1 else "the input"
    those = [i for i in operator.differentiable if i < operator.inputs[1]]
    indices = ", ".join(f"({i})" if i in operator.settings else str(i) for i in those)
    return "the input" if operator.inputs[1] == 1 else f"input {indices}"


def text() -> str:
    rows = []
    for (domain, name), operator in sorted(CATALOGUE.items()):
        module = Path(inspect.getfile(type(operator))).name
        shown = f"{domain}.{name}" if domain else name
        rows.append(f"| {shown} | `ops/{module}` | {operator.since} | {gradient(operator)} |")
    names = textwrap.fill(", ".join(defined()) + ".", 119, break_long_words=False)
    return HEAD + "\n".join(rows) + f"\n\n{len(rows)} operators.\n\n{DEFINED}\n\n{names}\n"


def defined() -> list[str]:
    """Operators that cconv runs by their definition in the standard."""
    newest = onnx.defs.onnx_opset_version()
    graphs = onnx.defs.OpSchema.AttrType.GRAPH
    schemas = [schema for schema in onnx.defs.get_all_schemas() if not schema.domain]
    names = {s.name for s in schemas if all(attribute.type != graphs for attribute in s.attributes.values())}
    nodes = [Node(0, name, name, "", newest, (), (), {}) for name in sorted(names)]
    return [node.op_type for node in nodes if node.operator is None and node.has_definition]


def main() -> int:
    if "--check" in sys.argv:
        return int(not TARGET.exists() or TARGET.read_text() != text())
    TARGET.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
