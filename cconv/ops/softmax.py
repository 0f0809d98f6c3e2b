"""Softmax, LogSoftmax and Hardmax."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

import cconv.kernels.move.index as index
import cconv.kernels.reduce.softmax as softmax
from cconv.errors import DTypeError
from cconv.kernels.reduce.scan import ArgExtreme
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.tensor import Layout, Spec, Tensor


class Softmax(Operator):
    """exp(x) / sum(exp(x)), or its logarithm.

    From opset 13 on, the sum is over the axis `axis` (default: the last). Up to opset 12, it is over all axes from
    `axis` (default: 1) to the last together.
    """

    def __init__(self, type: str, logarithm: bool) -> None:
        self.type = type
        self.logarithm = logarithm

    def axis(self, call: Call) -> int:
        old, rank = call.opset < 13, len(call.spec(0).shape)
        return normalize_axis(call, call.attribute("axis", 1 if old else -1), rank, extra=int(old))

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        if not np.issubdtype(spec.dtype, np.floating):
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        self.axis(call)
        return [spec]

    def extent(self, call: Call, x: Tensor) -> tuple[int, int, int]:
        """(outer, n, inner): number of elements before, along and after the axis, in the order of x's memory."""
        axis = self.axis(call)
        if call.opset < 13:
            return math.prod(x.shape[:axis]), math.prod(x.shape[axis:]), 1
        place = x.order.index(axis)
        sizes = x.memory_shape
        return math.prod(sizes[:place]), sizes[place], math.prod(sizes[place + 1 :])

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        # Up to opset 12 the softmax may be over several axes, which must be contiguous in memory. All axes from 0 or
        # from 1 on are contiguous in any layout; axes from 2 on only in row-major order.
        if call.opset < 13 and self.axis(call) > 1:
            x = lower.as_layout(x, Layout.ROW_MAJOR)
        y = lower.tensor(x.shape, x.layout)
        step = softmax.Softmax(lower.build, *self.extent(call, x), logarithm=self.logarithm)
        lower.emit(step, reads=[x], writes=[y], inplace=True)
        return [y]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.axis(call) != 0

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        y = call.outputs[0]
        assert grads[0] is not None
        dy = lower.as_layout(grads[0], y.layout)
        dx = lower.tensor(y.shape, y.layout)
        step = softmax.SoftmaxGradient(lower.build, *self.extent(call, y), logarithm=self.logarithm)
        lower.emit(step, reads=[dy, y], writes=[dx], inplace=True)
        return [dx]


class Hardmax(Softmax):
    """1 at the largest element along the axis (the first of equal ones), 0 elsewhere. It has no gradient."""

    differentiable: ClassVar[tuple[int, ...] | None] = ()

    def __init__(self) -> None:
        super().__init__("Hardmax", False)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        if call.opset < 13 and self.axis(call) > 1:
            x = lower.as_layout(x, Layout.ROW_MAJOR)
        if x.size == 0:
            return [x]
        outer, n, inner = self.extent(call, x)
        place = lower.tensor((outer, inner), dtype=np.int64, name="place of the largest")
        lower.emit(ArgExtreme(lower.build, outer, n, inner), reads=[x], writes=[place])
        y, values = lower.tensor(x.shape, x.layout), lower.external(np.array([0, 1], lower.dtype), "0 and 1")
        step = index.OneHot(lower.build, outer, n, inner, itemsize=lower.dtype.itemsize)
        lower.emit(step, reads=[place, values], writes=[y])
        return [y]


OPERATORS: list[Operator] = [Softmax("Softmax", False), Softmax("LogSoftmax", True), Hardmax()]
