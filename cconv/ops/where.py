"""Where: choose between two values, element by element."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

from cconv.errors import DTypeError
from cconv.ops.elementwise import BOOL, broadcast_shape, is_real, typed
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.reduce import sum_to
from cconv.ops.tensor import Spec, Tensor


class Where(Operator):
    """z = x where the condition is true, else y. All three broadcast. Each element of dz goes to the one chosen."""

    type = "Where"
    since = 9
    inputs = (3, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (1, 2)

    def shapes(self, call: Call) -> list[Spec]:
        condition, x, y = (call.spec(i) for i in range(3))
        if condition.dtype != BOOL:
            raise call.error(DTypeError, "the condition is a bool", str(condition.dtype))
        if x.dtype != y.dtype and not (is_real(x.dtype) and is_real(y.dtype)):
            raise call.error(DTypeError, "chooses between inputs of one dtype", f"{x.dtype} and {y.dtype}")
        return [Spec(broadcast_shape(call), np.result_type(x.dtype, y.dtype))]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.broadcasts_per_example(call, moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [_chosen(lower, *(call.input(i) for i in range(3)))]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        condition, dz = call.input(0), grads[0]
        assert dz is not None
        zero = lower.external(np.zeros((), lower.dtype), "zero")
        dx = dy = None
        if call.needs_gradient(1):
            dx = sum_to(lower, _chosen(lower, condition, dz, zero), call.spec(1).shape)
        if call.needs_gradient(2):
            dy = sum_to(lower, _chosen(lower, condition, zero, dz), call.spec(2).shape)
        return [None, dx, dy]


def _chosen(lower: Lowering, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return typed(lower, f"select_{x.dtype.itemsize}", [condition, x, y], x.dtype)


OPERATORS: list[Operator] = [Where()]
