"""Sum, Mean, Max, Min of any number of inputs, all broadcast to one shape.

Inputs are combined pairwise from the left: m_0 = x_0, m_1 = max(m_0, x_1), m_2 = max(m_1, x_2), ... In Max and Min, if
the two elements of a pair are equal, each gets half of the gradient, as in PyTorch's maximum. Of three equal inputs the
last gets half, and the other two a quarter each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from cconv.errors import DTypeError
from cconv.ops.elementwise import binary, broadcast_shape, is_real, is_whole, scaled, whole
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.reduce import sum_to
from cconv.ops.tensor import Spec, Tensor

MOST = 2**31 - 1  # ONNX's limit on the number of inputs.


class Total(Operator):
    """Sum of the inputs; with `mean` their mean."""

    inputs = (1, MOST)

    def __init__(self, type: str, mean: bool) -> None:
        self.type = type
        self.mean = mean

    def factor(self, call: Call) -> float:
        return 1 / len(call.specs) if self.mean else 1.0

    def shapes(self, call: Call) -> list[Spec]:
        for i in range(len(call.specs)):
            if not is_real(call.spec(i).dtype):
                raise call.error(DTypeError, "adds floating-point numbers", f"{call.spec(i).dtype} as input {i}")
        dtypes = [call.spec(i).dtype for i in range(len(call.specs))]
        return [Spec(broadcast_shape(call), np.result_type(*dtypes))]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.broadcasts_per_example(call, moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        total = call.input(0)
        for i in range(1, len(call.specs)):
            total = binary(lower, "add", total, call.input(i))
        return [scaled(lower, total, self.factor(call))]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        dx = scaled(lower, grads[0], self.factor(call))
        return [
            sum_to(lower, dx, call.spec(i).shape) if call.needs_gradient(i) else None for i in range(len(call.specs))
        ]


class Extreme(Operator):
    """Elementwise maximum or minimum of the inputs, which may be integers. NaN if any input is NaN."""

    inputs = (1, MOST)

    def __init__(self, type: str, kind: str) -> None:
        self.type = type
        self.kind = kind

    def shapes(self, call: Call) -> list[Spec]:
        dtypes = [call.spec(i).dtype for i in range(len(call.specs))]
        alike = is_whole(dtypes[0]) and all(dtype == dtypes[0] for dtype in dtypes)
        if not alike and not all(is_real(dtype) for dtype in dtypes):
            raise call.error(DTypeError, "takes numbers of one dtype", " and ".join(map(str, dtypes)))
        return [Spec(broadcast_shape(call), np.result_type(*dtypes))]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.broadcasts_per_example(call, moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        partial = [call.input(0)]
        for i in range(1, len(call.specs)):
            pair = partial[-1], call.input(i)
            real = is_real(pair[0].dtype)
            partial.append(binary(lower, self.kind, *pair) if real else whole(lower, self.kind, pair))
        call.saved["partial"] = partial
        return [partial[-1]]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        partial, rest = call.saved["partial"], grads[0]
        result: list[Tensor | None] = [None] * len(call.specs)
        for i in range(len(call.specs) - 1, 0, -1):
            x = call.input(i)
            if call.needs_gradient(i):
                result[i] = sum_to(lower, binary(lower, "mul", self.share(lower, x, partial[i - 1]), rest), x.shape)
            if not any(call.gradients_needed[:i]):
                return result
            rest = binary(lower, "mul", self.share(lower, partial[i - 1], x), rest)
            rest = sum_to(lower, rest, partial[i - 1].shape)
        result[0] = rest
        return result

    def share(self, lower: Lowering, x: Tensor, other: Tensor) -> Tensor:
        """Derivative of max(x, other), or min(x, other), with respect to x: 1, 0, or 1/2 where they are equal."""
        pair = (x, other) if self.kind == "max" else (other, x)
        return binary(lower, "greater_share", *pair)


OPERATORS: list[Operator] = [
    Total("Sum", mean=False),
    Total("Mean", mean=True),
    Extreme("Max", "max"),
    Extreme("Min", "min"),
]
