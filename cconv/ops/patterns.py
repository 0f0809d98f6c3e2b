"""Patterns: operators that exporters write as several nodes. A plan replaces these nodes by the one operator.

    Swish               x * Sigmoid(x), x * Sigmoid(alpha * x)
    HardSwish           x * HardSigmoid(x), x * Clip(x + 3, 0, 6) / 6
    HardSigmoid         Clip(x + 3, 0, 6) / 6
    Mish                x * Tanh(Softplus(x))
    Gelu                x * 0.5 * (1 + Erf(x / sqrt 2))
                        x * 0.5 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
    LayerNormalization  d / Sqrt(ReduceMean(d^2) + epsilon) * scale + bias  with d = x - ReduceMean(x)
    GroupNormalization  Reshape(InstanceNormalization(Reshape(x), 1, 0)) * scale + bias
    RectifiedMaxPool    MaxPool(Relu(x))

A pattern is an expression that computes one value. plan/match.py searches graphs for these expressions. The operands of
Add and Mul match in either order. A node may have more inputs than its term in the expression, such as bounds or axes;
the term's test checks these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cconv.ops.elementwise import is_real
from cconv.ops.groupnorm import SpelledGroupNormalization
from cconv.ops.operator import Call, Operator
from cconv.ops.pool import RectifiedMaxPool
from cconv.ops.reduction import Reduction
from cconv.ops.unary import Unary

COMMUTATIVE = ("Add", "Mul")

# The operators that replace the patterns have the definitions of this opset.
OPSET = 24

Test = Callable[[Operator, Call], bool]


@dataclass(frozen=True)
class Value:
    """Any value. Everywhere in a pattern, the same name must match the same value."""

    name: str


@dataclass(frozen=True)
class Scalar:
    """A constant with one element.

    Attributes:
        value: the number to match, with a relative tolerance of 1e-5; None matches any number.
        name: key under which the matched number is stored in Match.scalars.
    """

    value: float | None = None
    name: str = ""

    def fits(self, value: float) -> bool:
        return self.value is None or math.isclose(value, self.value, rel_tol=1e-5)


@dataclass(frozen=True)
class Term:
    """A node of an operator type.

    Attributes:
        type: ONNX's name of the operator.
        inputs: expressions that the node's first inputs must match.
        test: further condition on the node.
        name: key under which the matched node is stored in Match.named; "": it is not stored.
    """

    type: str
    inputs: tuple[Expression, ...]
    test: Test = lambda operator, call: True
    name: str = ""


@dataclass(frozen=True)
class Either:
    """An expression that matches if one of several alternatives matches."""

    choices: tuple[Expression, ...]


Expression = Value | Scalar | Term | Either


@dataclass(frozen=True)
class Match:
    """The nodes and values of a graph that match a pattern.

    Attributes:
        values: name of a Value in the pattern -> name of the matched value in the graph.
        scalars: name of a Scalar in the pattern -> the matched number.
        nodes: indices of the matched nodes. The first computes the value of the whole expression.
        named: name of a Term -> index of the matched node.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)
    nodes: tuple[int, ...] = ()
    named: Mapping[str, int] = field(default_factory=dict)


Parts = Mapping[str, tuple[Operator, Call]]


@dataclass(frozen=True)
class Pattern:
    """An expression and the operator that replaces it.

    Attributes:
        type: ONNX's name of the operator.
        inputs: names of the expression's values that become the operator's inputs, in order.
        attributes: function that computes the operator's attributes from the named scalars and nodes. If it returns
            None, the pattern does not match.
        operator: the operator, if it is not the one that the catalogue has for `type`.
    """

    type: str
    expression: Expression
    inputs: tuple[str, ...] = ("x",)
    attributes: Callable[[Mapping[str, float], Parts], Mapping[str, Any] | None] = lambda scalars, parts: {}
    operator: Operator | None = None


def term(type: str, *inputs: Expression | float, test: Test = lambda operator, call: True, name: str = "") -> Term:
    return Term(type, tuple(Scalar(i) if isinstance(i, (int, float)) else i for i in inputs), test, name)


def either(*choices: Expression) -> Either:
    return Either(choices)


def product(a: Expression | float, b: Expression | float, c: Expression | float) -> Either:
    """Expression for a * b * c, with the factors in any order."""
    return either(*(term("Mul", term("Mul", p, q), r) for p, q, r in ((a, b, c), (a, c, b), (b, c, a))))


def scaled(a: Expression, factor: float) -> Either:
    """Expression for a * factor, written as a product or as a / (1 / factor)."""
    return either(term("Mul", a, factor), term("Div", a, 1 / factor))


def parameters_are(*wanted: float) -> Test:
    """Make a test for a node whose parameters (see Unary.parameters) are known and equal `wanted`, to 1e-5."""

    def test(operator: Operator, call: Call) -> bool:
        if not isinstance(operator, Unary) or not operator.is_loop(call):
            return False
        actual = operator.parameters(call)
        return all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(actual, wanted))

    return test


x = Value("x")

# min(max(x + 3, 0), 6)
clipped = term("Clip", term("Add", x, 3.0), test=parameters_are(0.0, 6.0))
hard_sigmoid = term("HardSigmoid", x, test=parameters_are(1 / 6, 0.5))


def last_axes(operator: Operator, call: Call) -> bool:
    """Whether a reduction is over the last one or more axes and keeps them with size 1."""
    assert isinstance(operator, Reduction)
    axes, rank = operator.axes(call), len(call.spec(0).shape)
    return bool(call.attribute("keepdims", 1)) and bool(axes) and axes == list(range(axes[0], rank))


def row_of(scalars: Mapping[str, float], parts: Parts) -> Mapping[str, Any] | None:
    axes = []
    for name in ("mean", "variance"):
        operator, call = parts[name]
        assert isinstance(operator, Reduction)
        axes.append(operator.axes(call))
    return {"axis": axes[0][0], "epsilon": scalars["epsilon"]} if axes[0] == axes[1] else None


deviation = term("Sub", x, term("ReduceMean", x, test=last_axes, name="mean"))
square = either(term("Pow", deviation, 2.0), term("Mul", deviation, deviation))
variance = term("ReduceMean", square, test=last_axes, name="variance")
normalized = term("Div", deviation, term("Sqrt", term("Add", variance, Scalar(name="epsilon"))))
normalized_and_scaled = term("Mul", normalized, Value("scale"))

cube = either(term("Pow", x, 3.0), term("Mul", x, term("Mul", x, x)))
gelu_argument = scaled(term("Add", x, scaled(cube, 0.044715)), math.sqrt(2 / math.pi))


def plain(operator: Operator, call: Call) -> bool:
    """Whether a normalisation's scale is 1 and its bias is 0 in every channel."""
    scale, bias = call.constants[1], call.constants[2]
    if scale is None or bias is None or not np.all(scale == 1) or not np.all(bias == 0):
        return False
    # Call.constant records that the plan depends on these values.
    return call.constant(1, "scale") is not None and call.constant(2, "bias") is not None


def groups_of(scalars: Mapping[str, float], parts: Parts) -> Mapping[str, Any] | None:
    _, apart = parts["groups"]
    _, normalization = parts["normalization"]
    batch, groups = apart.results[0].shape[:2]
    epsilon = normalization.attribute("epsilon", 1e-5)
    return {"num_groups": groups, "epsilon": epsilon} if batch == apart.spec(0).shape[0] else None


in_groups = term("Reshape", x, name="groups")
each_normalized = term("InstanceNormalization", in_groups, test=plain, name="normalization")
groups_normalized = term("Add", term("Mul", term("Reshape", each_normalized), Value("scale")), Value("bias"))


def only_values(operator: Operator, call: Call) -> bool:
    """Whether a MaxPool works on floating-point numbers and has no second output for indices."""
    return call.output_count == 1 and is_real(call.spec(0).dtype)


# In order of preference: if two patterns can match the same node, the larger one comes first.
PATTERNS = [
    Pattern("HardSwish", either(term("Mul", x, hard_sigmoid), scaled(term("Mul", x, clipped), 1 / 6))),
    Pattern("HardSwish", term("Mul", x, scaled(clipped, 1 / 6))),
    Pattern("HardSigmoid", scaled(clipped, 1 / 6), attributes=lambda scalars, parts: {"alpha": 1 / 6, "beta": 0.5}),
    Pattern("Swish", term("Mul", x, term("Sigmoid", x))),
    Pattern(
        "Swish",
        term("Mul", x, term("Sigmoid", term("Mul", x, Scalar(name="alpha")))),
        attributes=lambda scalars, parts: {"alpha": scalars["alpha"]},
    ),
    Pattern("Mish", term("Mul", x, term("Tanh", term("Softplus", x)))),
    Pattern("Gelu", product(x, 0.5, term("Add", term("Erf", scaled(x, math.sqrt(0.5))), 1.0))),
    Pattern(
        "Gelu",
        product(x, 0.5, term("Add", term("Tanh", gelu_argument), 1.0)),
        attributes=lambda scalars, parts: {"approximate": "tanh"},
    ),
    Pattern(
        "LayerNormalization",
        term("Add", normalized_and_scaled, Value("bias")),
        inputs=("x", "scale", "bias"),
        attributes=row_of,
    ),
    Pattern("LayerNormalization", normalized_and_scaled, inputs=("x", "scale"), attributes=row_of),
    Pattern(
        "GroupNormalization",
        groups_normalized,
        inputs=("x", "scale", "bias"),
        attributes=groups_of,
        operator=SpelledGroupNormalization(),
    ),
    Pattern(
        "MaxPool",
        term("MaxPool", term("Relu", x), test=only_values, name="pool"),
        attributes=lambda scalars, parts: parts["pool"][1].attributes,
        operator=RectifiedMaxPool(),
    ),
]
