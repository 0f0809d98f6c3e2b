"""Activations. Their loops and derivatives are in kernels/elementwise/elementwise.h.

Exporters write SiLU, HardSwish and Gelu as several nodes each. A plan replaces these nodes by one; see patterns.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

from cconv.errors import DTypeError, ShapeError, ValueRangeError
from cconv.ops.elementwise import BOOL, binary, is_real, is_whole, typed, whole
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.reduce import sum_to
from cconv.ops.tensor import Spec, Tensor
from cconv.ops.unary import Parameters, Unary


class LeakyRelu(Unary):
    """x for x >= 0, alpha * x below. The derivative at 0 is alpha, as in PyTorch."""

    def reads_output(self, call: Call) -> bool:
        return self.parameters(call)[0] >= 0  # With alpha >= 0, y has the sign of x.


class Clip(Unary):
    """min(max(x, low), high). Either bound may be missing.

    Bounds are attributes up to opset 10 and scalar inputs from opset 11 on. If they are known before the model runs and
    x is floating-point, one loop does the work. The derivative at x = low and x = high is then 0.

    Otherwise the node runs as a max and a min. The derivative at x = low and x = high is then 1, as in PyTorch. The
    gradient of low is the sum of dy over x < low, and that of high the sum of dy over x > high. If high < low, the
    gradient of low is 0 and that of high is the sum of all of dy.
    """

    inputs = (1, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (0, 1, 2)
    settings: ClassVar[tuple[int, ...]] = (1, 2)

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        for i in (1, 2):
            if call.has(i) and call.spec(i).size != 1:
                raise call.error(ShapeError, f"input {i} is a scalar", f"shape {call.spec(i).shape}")
            if call.has(i) and call.spec(i).dtype != spec.dtype and not is_real(call.spec(i).dtype):
                raise call.error(DTypeError, f"input {i} has the dtype of input 0", f"{call.spec(i).dtype}")
        numbers = is_real(spec.dtype) or is_whole(spec.dtype)
        return super().shapes(call) if self.is_loop(call) or not numbers else [spec]

    def is_loop(self, call: Call) -> bool:
        known = call.opset < 11 or not any(call.has(i) and call.constants[i] is None for i in (1, 2))
        return known and super().is_loop(call)

    def parameters(self, call: Call) -> tuple[float, float]:
        if call.opset < 11:
            return call.attribute("min", -np.inf), call.attribute("max", np.inf)
        low = call.constant(1, "the lower bound").item() if call.has(1) else -np.inf
        high = call.constant(2, "the upper bound").item() if call.has(2) else np.inf
        return low, high

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        y = call.input(0)
        if self.is_loop(call):
            return super().forward(lower, call)
        for i, kind in ((1, "max"), (2, "min")):
            if call.has(i):
                bound = call.input(i)
                bound = Tensor(bound.buffer, (), bound.dtype)
                y = binary(lower, kind, y, bound) if is_real(y.dtype) else whole(lower, kind, [y, bound])
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        if self.is_loop(call):
            return super().gradient(lower, call, grads)
        x, dy = call.input(0), grads[0]
        assert dy is not None
        low, high = (Tensor(t.buffer, (), t.dtype) if t is not None else None for t in self.bounds(call))
        result: list[Tensor | None] = [None] * len(call.specs)
        if call.needs_gradient(0):
            result[0] = binary(lower, "mul", binary(lower, "equal", call.outputs[0], x), dy)
        zero = lower.external(np.zeros((), lower.dtype), "zero")
        for i, below, bound, other in ((1, (x, low), low, high), (2, (high, x), high, low)):
            if not call.needs_gradient(i) or bound is None:
                continue
            outside = typed(lower, "less_real", [t for t in below if t is not None], BOOL)
            if other is not None:
                order = ("and_bool", [low, high]) if i == 1 else ("or_bool", [high, low])
                crossed = typed(lower, "less_real", [t for t in order[1] if t is not None], BOOL)
                outside = typed(lower, order[0], [outside, crossed], BOOL)
            shares = typed(lower, f"select_{dy.dtype.itemsize}", [outside, dy, zero], dy.dtype)
            result[i] = sum_to(lower, shares, ()).reshaped(call.spec(i).shape)
        return result

    def bounds(self, call: Call) -> tuple[Tensor | None, Tensor | None]:
        low, high = (call.input(i) if call.has(i) else None for i in (1, 2))
        return low, high


class Celu(Unary):
    """x for x >= 0, alpha * (e^(x / alpha) - 1) below."""

    def parameters(self, call: Call) -> tuple[float, float]:
        alpha = call.attribute("alpha", 1.0)
        if alpha == 0:
            raise call.error(ValueRangeError, "alpha is not 0", f"{alpha}")
        return alpha, 1 / alpha


class Gelu(Unary):
    """x * P(X <= x) for a standard normal X. With approximate="tanh", the tanh approximation of that."""

    def __init__(self) -> None:
        super().__init__("Gelu", "gelu", since=20)

    def loop(self, call: Call) -> str:
        how = call.attribute("approximate", "none")
        if how not in ("none", "tanh"):
            raise call.error(ValueRangeError, "approximate is 'none' or 'tanh'", repr(how))
        return "gelu" if how == "none" else "gelu_tanh"


class PRelu(Operator):
    """x for x >= 0, slope * x below; the slope broadcasts to x.

    At x = 0 the derivative with respect to x is the slope, and the derivative with respect to the slope is 0, as in
    PyTorch.
    """

    type = "PRelu"
    inputs = (2, 2)

    def shapes(self, call: Call) -> list[Spec]:
        x, slope = call.spec(0), call.spec(1)
        if not is_real(x.dtype) or not is_real(slope.dtype):
            raise call.error(DTypeError, "works on floating-point numbers", f"{x.dtype} and {slope.dtype}")
        padded = (1,) * (len(x.shape) - len(slope.shape)) + slope.shape
        if len(padded) != len(x.shape) or any(n not in (1, m) for n, m in zip(padded, x.shape)):
            raise call.error(
                ShapeError,
                "the slope's sizes, aligned at the last axis, are the input's or 1",
                f"slope {slope.shape} for an input of shape {x.shape}",
            )
        return [x]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.broadcasts_per_example(call, moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [binary(lower, "prelu", call.input(0), call.input(1))]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, slope = call.input(0), call.input(1)
        dy = grads[0]
        assert dy is not None
        dx = dslope = None
        if call.needs_gradient(0):
            dx = binary(lower, "mul", binary(lower, "prelu_slope", x, slope), dy)
        if call.needs_gradient(1):
            dslope = sum_to(lower, binary(lower, "mul_negative", dy, x), slope.shape)
        return [dx, dslope]


def attributes(**defaults: float) -> Parameters:
    """Make the `parameters` function of a Unary: it reads the loop's parameters a and b from the node's attributes.

    Args:
        defaults: names of one or two attributes, in the order a, b, with their default values. A missing b is 0.
    """
    names = list(defaults)

    def parameters(call: Call) -> tuple[float, float]:
        a, b = [*(call.attribute(name, defaults[name]) for name in names), 0.0, 0.0][:2]
        return a, b

    return parameters


def _elu(call: Call) -> tuple[float, float]:
    return call.attribute("alpha", 1.0), 1.0


def _selu(call: Call) -> tuple[float, float]:
    alpha = call.attribute("alpha", 1.67326319217681884765625)
    gamma = call.attribute("gamma", 1.05070102214813232421875)
    return alpha * gamma, gamma


OPERATORS: list[Operator] = [
    Unary("Relu", "relu", reads="y"),
    Unary("Sigmoid", "sigmoid", reads="y"),
    Unary("Tanh", "tanh", reads="y"),
    LeakyRelu("LeakyRelu", "leaky_relu", parameters=attributes(alpha=0.01)),
    Clip("Clip", "clip", reads="y"),
    PRelu(),
    Unary("ThresholdedRelu", "thresholded_relu", since=10, parameters=attributes(alpha=1.0)),
    Unary("HardSigmoid", "hard_sigmoid", reads="y", parameters=attributes(alpha=0.2, beta=0.5)),
    Unary("HardSwish", "hard_swish", since=14),
    Unary("Swish", "swish", since=24, parameters=attributes(alpha=1.0)),
    Unary("Mish", "mish", since=18),
    Gelu(),
    Unary("Elu", "elu", parameters=_elu),
    Unary("Selu", "selu", parameters=_selu),
    Celu("Celu", "elu", since=12),
    Unary("Softplus", "softplus"),
    Unary("Softsign", "softsign"),
]
