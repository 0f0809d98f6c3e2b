"""Concat: each input is copied to its part of the output; in the backward pass that part of dy is copied to dx."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from cconv.errors import DTypeError, ModelError, ShapeError
from cconv.kernels.move.copy import Copy
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.tensor import Spec, Tensor


class Concat(Operator):
    """Concatenate the inputs along `axis`."""

    type = "Concat"
    inputs = (1, 1 << 30)

    def axis(self, call: Call) -> int:
        axis = call.attribute("axis")
        if axis is None:
            raise call.error(ModelError, "names the axis to join along", "no attribute 'axis'")
        return normalize_axis(call, axis, len(call.spec(0).shape))

    def shapes(self, call: Call) -> list[Spec]:
        axis, first = self.axis(call), call.spec(0)
        specs = [call.spec(i) for i in range(len(call.specs))]
        for i, spec in enumerate(specs):
            others = [s.shape[:axis] + s.shape[axis + 1 :] for s in (spec, first)]
            if len(spec.shape) != len(first.shape) or others[0] != others[1]:
                raise call.error(
                    ShapeError,
                    f"all inputs have one shape, except along axis {axis}",
                    f"{first.shape} as input 0 and {spec.shape} as input {i}",
                )
            if (spec.dtype.kind, first.dtype.kind) != ("f", "f") and spec.dtype != first.dtype:
                found = f"{first.dtype} as input 0 and {spec.dtype} as input {i}"
                raise call.error(DTypeError, "all inputs have one dtype", found)
        total = sum(spec.shape[axis] for spec in specs)
        shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
        return [Spec(shape, np.result_type(*(spec.dtype for spec in specs)))]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.axis(call) != 0 and len(moving) == len(call.specs)

    def places(self, call: Call, joined: Tensor) -> list[int]:
        """For each input, the offset of its first element in the memory of the concatenated tensor, in elements."""
        axis = self.axis(call)
        sizes = [call.spec(i).shape[axis] for i in range(len(call.specs))]
        return [sum(sizes[:i]) * joined.strides[axis] for i in range(len(sizes))]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        inputs = [call.input(i) for i in range(len(call.specs))]
        if len(inputs) == 1:
            return [inputs[0]]
        largest = max(inputs, key=lambda x: x.size)
        y = lower.tensor(call.results[0].shape, largest.layout, largest.dtype)
        written: list[Tensor] = []
        for x, place in zip(inputs, self.places(call, y)):
            step = Copy(lower.build, x.shape, x.strides, y.strides, itemsize=y.dtype.itemsize, target_offset=place)
            lower.emit(step, reads=[x], updates=written, writes=[] if written else [y])
            written = [y]
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        dy = grads[0]
        assert dy is not None
        if len(call.specs) == 1:
            return [dy]
        result: list[Tensor | None] = []
        for i, place in enumerate(self.places(call, dy)):
            if not call.needs_gradient(i):
                result.append(None)
                continue
            dx = lower.tensor(call.spec(i).shape, dy.layout, dy.dtype)
            step = Copy(lower.build, dx.shape, dy.strides, dx.strides, itemsize=dy.dtype.itemsize, source_offset=place)
            lower.emit(step, reads=[dy], writes=[dx])
            result.append(dx)
        return result


OPERATORS = [Concat()]
