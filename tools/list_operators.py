#!/usr/bin/env python3
"""Write docs/operators.md, the list of supported operators, from the operator classes in cconv/ops.

python tools/list_operators.py           # write the file
python tools/list_operators.py --check   # write nothing; exit status 1 if the file is not up to date
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

cconv runs and trains the operators in this table. Each is supported from the opset in the column "from opset" to the
newest opset of the installed onnx.

The column "gradient" lists the inputs of the operator that get a gradient, counted from 0. "none" means that the
backward pass stops at this operator, for the given reason. An input in parentheses configures the operator, such as the
bounds of a Clip. A weight that reaches the output only through such inputs is trained only if `trainable` names it.

A model with other operators can be loaded, inspected and saved. Running it raises one error that lists all operators
that cconv does not support.

| operator | file | from opset | gradient |
|---|---|---|---|
"""

# Why operators have no gradient: reason -> names of operators.
NONE = {
    "the output is integer or bool": (
        "And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Equal Greater GreaterOrEqual IsInf "
        "IsNaN Less LessOrEqual NonZero Not Or Shape Size Xor"
    ),
    "it is 0 wherever it is defined": "Ceil Floor Hardmax Round Sign",
    "no inputs, or only inputs that set a shape or range": "Constant ConstantOfShape EyeLike Range",
    "the operators of its branches have gradients": "If",
    "it is an optimizer update itself": "Adagrad Adam Momentum",
    "second derivatives are not supported": "Gradient",
}
REASONS = {name: reason for reason, names in NONE.items() for name in names.split()}

DEFINED = """\
ONNX defines the following operators in terms of other operators. cconv replaces them by their definition when it
makes a plan, so their gradients are those of the operators in the definition:"""


def gradient(operator: Operator) -> str:
    if type(operator).gradient is Operator.gradient or operator.differentiable == ():
        return f"none: {REASONS[operator.type]}"
    if operator.differentiable is None:
        return "all inputs" if operator.inputs[1] > 1 else "the input"
    inputs = [i for i in operator.differentiable if i < operator.inputs[1]]
    indices = ", ".join(f"({i})" if i in operator.settings else str(i) for i in inputs)
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
    """Names of the operators that cconv runs by ONNX's definition in terms of other operators."""
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
