"""Adagrad, Adam and Momentum of ai.onnx.preview.training: what an optimizer does to weights, as nodes of a graph.

Inputs are the learning rate R, the number T of updates before this one, the weights X, their gradients G, and the state
of each; outputs the new weights, then the new states. Training with cconv needs none of them (cconv.optim); they let
graphs run that hold their own training step. With g = norm_coefficient X + G (L2 regularisation):

    Adagrad   H' = H + g^2                     X' = X - R / (1 + T decay_factor) * g / (sqrt(H') + epsilon)
    Adam      V' = alpha V + (1 - alpha) g     H' = beta H + (1 - beta) g^2
              X' = (1 - norm_coefficient_post) (X - R c V' / (sqrt(H') + epsilon))
              c = sqrt(1 - beta^T) / (1 - alpha^T), 1 if T = 0
    Momentum  V' = alpha V + b g, b = beta, 1 if T = 0        X' = X - R V', nesterov: X - R (g + alpha V')
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from cconv.errors import DTypeError, ModelError, ShapeError, ValueRangeError
from cconv.ops.elementwise import BOOL, LONG, binary, cast, require_real, scaled, typed, unary
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor

DOMAIN = "ai.onnx.preview.training"


class Update(Operator):
    """Base: any number of weights, each with its gradient and `states` arrays of state.

    Args:
        type: ONNX's name.
        states: how many.
    """

    domain = DOMAIN
    since = 1
    inputs = (2, 1 << 30)
    differentiable: ClassVar[tuple[int, ...] | None] = ()

    def __init__(self, type: str, states: int) -> None:
        self.type = type
        self.states = states

    def groups(self, call: Call) -> list[tuple[int, ...]]:
        """For each weight the indices of its inputs: weight, gradient, states."""
        parts, rest = 2 + self.states, len(call.specs) - 2
        if rest % parts:
            found = f"{rest} after the learning rate and the count"
            raise call.error(ModelError, f"takes {parts} inputs for each weight", found)
        count = rest // parts
        return [tuple(2 + i + part * count for part in range(parts)) for i in range(count)]

    def shapes(self, call: Call) -> list[Spec]:
        groups = self.groups(call)
        if call.spec(0).size != 1 or call.spec(1).size != 1:
            found = f"shapes {call.spec(0).shape} and {call.spec(1).shape}"
            raise call.error(ShapeError, "the learning rate and the count are one number each", found)
        if call.spec(1).dtype != LONG:
            raise call.error(DTypeError, "the count is int64", f"{call.spec(1).dtype}")
        for group in [[0], *groups]:
            for i in group:
                require_real(call, i)
                if call.spec(i).shape != call.spec(group[0]).shape:
                    found = f"{call.spec(i).shape} for a weight of shape {call.spec(group[0]).shape}"
                    raise call.error(ShapeError, f"input {i} has its weight's shape", found)
        self.check_attributes(call)
        kept = [0, *range(2, 2 + self.states)]  # all of a group but the gradient
        return [call.spec(group[part]) for part in kept for group in groups]

    def check_attributes(self, call: Call) -> None:
        pass

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        rate, count = (self.scalar(call.input(i)) for i in (0, 1))
        results = []
        for group in self.groups(call):
            weight, gradient, *states = (call.input(i) for i in group)
            decay = float(call.attribute("norm_coefficient", 0.0))
            if decay:
                gradient = binary(lower, "add", scaled(lower, weight, decay), gradient)
            results.append(self.updated(lower, call, rate, count, weight, gradient, *states))
        return [group[part] for part in range(1 + self.states) for group in results]

    def updated(
        self, lower: Lowering, call: Call, rate: Tensor, count: Tensor, x: Tensor, g: Tensor, *states: Tensor
    ) -> list[Tensor]:
        """The new weight and the new states."""
        raise NotImplementedError

    def scalar(self, tensor: Tensor) -> Tensor:
        return Tensor(tensor.buffer, (), tensor.dtype)

    def number(self, lower: Lowering, value: float) -> Tensor:
        return lower.external(np.array(value, lower.dtype), str(value))

    def from_second(self, lower: Lowering, count: Tensor, value: Tensor) -> Tensor:
        """The value, at the first update 1."""
        begun = typed(lower, "less_int64", [lower.external(np.array(0), "0"), count], BOOL)
        return typed(lower, f"select_{value.dtype.itemsize}", [begun, value, self.number(lower, 1.0)], value.dtype)

    def blended(self, lower: Lowering, share: float, old: Tensor, new: Tensor) -> Tensor:
        """share * old + (1 - share) * new"""
        return binary(lower, "add", scaled(lower, old, share), scaled(lower, new, 1 - share))

    def divided(self, lower: Lowering, call: Call, x: Tensor, squares: Tensor) -> Tensor:
        """x / (sqrt(squares) + epsilon)"""
        root = unary(lower, "affine", unary(lower, "sqrt", squares), 1.0, float(call.attribute("epsilon", 1e-6)))
        return binary(lower, "div", x, root)


class AdagradOperator(Update):
    """Adaptive rates by the sum of all squared gradients."""

    def updated(
        self, lower: Lowering, call: Call, rate: Tensor, count: Tensor, x: Tensor, g: Tensor, *states: Tensor
    ) -> list[Tensor]:
        decay = float(call.attribute("decay_factor", 0.0))
        rate = binary(lower, "div", rate, unary(lower, "affine", cast(lower, count, lower.dtype), decay, 1.0))
        squares = binary(lower, "add", states[0], unary(lower, "square", g))
        step = binary(lower, "mul", rate, self.divided(lower, call, g, squares))
        return [binary(lower, "sub", x, step), squares]


class AdamOperator(Update):
    """Adaptive rates by running means of the gradient and of its square."""

    def updated(
        self, lower: Lowering, call: Call, rate: Tensor, count: Tensor, x: Tensor, g: Tensor, *states: Tensor
    ) -> list[Tensor]:
        alpha, beta = float(call.attribute("alpha", 0.9)), float(call.attribute("beta", 0.999))
        mean = self.blended(lower, alpha, states[0], g)
        squares = self.blended(lower, beta, states[1], unary(lower, "square", g))
        updates = cast(lower, count, lower.dtype)
        bias = [
            unary(lower, "affine", binary(lower, "pow", self.number(lower, base), updates), -1.0, 1.0)
            for base in (alpha, beta)
        ]
        correction = binary(lower, "div", unary(lower, "sqrt", bias[1]), bias[0])
        rate = binary(lower, "mul", rate, self.from_second(lower, count, correction))
        step = binary(lower, "mul", rate, self.divided(lower, call, mean, squares))
        after = 1 - float(call.attribute("norm_coefficient_post", 0.0))
        return [scaled(lower, binary(lower, "sub", x, step), after), mean, squares]


class MomentumOperator(Update):
    """Gradient descent with momentum, or Nesterov's."""

    def check_attributes(self, call: Call) -> None:
        if call.attribute("mode") not in ("standard", "nesterov"):
            raise call.error(ValueRangeError, "mode is 'standard' or 'nesterov'", repr(call.attribute("mode")))
        for name in ("alpha", "beta", "norm_coefficient"):
            if call.attribute(name) is None:
                raise call.error(ModelError, f"has the attribute {name}", "none")

    def updated(
        self, lower: Lowering, call: Call, rate: Tensor, count: Tensor, x: Tensor, g: Tensor, *states: Tensor
    ) -> list[Tensor]:
        alpha = float(call.attribute("alpha"))
        share = self.from_second(lower, count, self.number(lower, float(call.attribute("beta"))))
        speed = binary(lower, "add", scaled(lower, states[0], alpha), binary(lower, "mul", share, g))
        step = speed
        if call.attribute("mode") == "nesterov":
            step = binary(lower, "add", g, scaled(lower, speed, alpha))
        return [binary(lower, "sub", x, binary(lower, "mul", rate, step)), speed]


OPERATORS: list[Operator] = [AdagradOperator("Adagrad", 1), AdamOperator("Adam", 2), MomentumOperator("Momentum", 1)]
