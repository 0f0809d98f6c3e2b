"""LayerNormalization and RMSNormalization: normalise each row. A row is all axes from `axis` to the last together.

y = (x - mean) / sqrt(variance + epsilon) * scale + bias        RMS: y = x / sqrt(mean of x^2 + epsilon) * scale
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

import cconv.kernels.norm.layernorm as layernorm
from cconv.errors import ShapeError, UnsupportedOpError, ValueRangeError
from cconv.ops.elementwise import binary, require_real
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.reduce import sum_to
from cconv.ops.tensor import Layout, Spec, Tensor


class RowNormalization(Operator):
    """LayerNormalization, which subtracts the mean (`centered`), or RMSNormalization, which does not.

    Inputs: x, scale, and for LayerNormalization an optional bias. If scale and bias have the shape of a row, the
    normalisation kernel applies them. If they have another shape that broadcasts to x's, steps after it apply them.

    Outputs: y. LayerNormalization has two more: the mean and 1 / sqrt(variance + epsilon), with size 1 along the row.
    """

    differentiable: ClassVar[tuple[int, ...] | None] = (0, 1, 2)

    def __init__(self, type: str, since: int, centered: bool) -> None:
        self.type = type
        self.since = since
        self.centered = centered
        self.inputs = (2, 3) if centered else (2, 2)

    def axis(self, call: Call) -> int:
        return normalize_axis(call, call.attribute("axis", -1), len(call.spec(0).shape))

    def rows(self, call: Call) -> tuple[int, int]:
        """(number of rows, elements per row)."""
        shape, axis = call.spec(0).shape, self.axis(call)
        return math.prod(shape[:axis]), math.prod(shape[axis:])

    def shapes(self, call: Call) -> list[Spec]:
        x, axis = call.spec(0), self.axis(call)
        for i in range(len(call.specs)):
            if not call.has(i):
                continue
            spec = call.spec(i)
            require_real(call, i)
            padded = (1,) * (len(x.shape) - len(spec.shape)) + spec.shape
            if len(padded) != len(x.shape) or any(n not in (1, m) for n, m in zip(padded, x.shape)):
                raise call.error(
                    ShapeError,
                    f"input {i}'s sizes, aligned at the last axis, are the input's or 1",
                    f"{spec.shape} for an input of shape {x.shape}",
                )
        if self.rows(call)[1] == 0:
            raise call.error(ShapeError, "a row has at least one element", f"shape {x.shape}, axis {axis}")
        if not self.epsilon(call) >= 0:
            raise call.error(ValueRangeError, "epsilon is at least 0", f"{self.epsilon(call)}")
        one = Spec(x.shape[:axis] + (1,) * (len(x.shape) - axis), np.dtype(np.float32))
        return [x, one, one]

    def epsilon(self, call: Call) -> float:
        return float(call.attribute("epsilon", 1e-5))

    def inside(self, call: Call) -> bool:
        """Whether scale and bias have the shape of a row, so that the kernel applies them."""
        row = call.spec(0).shape[self.axis(call) :]
        specs = [call.spec(i) for i in range(1, len(call.specs)) if call.has(i)]
        return all(spec.size == math.prod(row) and spec.shape[-len(row) :] == row for spec in specs)

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.axis(call) != 0 and set(moving) == {0} and self.broadcasts_per_example(call, moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = lower.as_layout(call.input(0), Layout.ROW_MAJOR)
        rows, columns = self.rows(call)
        scale, bias = call.input(1), call.input(2) if call.has(2) else None
        inside = self.inside(call)
        trained = any(call.gradients_needed)
        mean = lower.tensor((rows,)) if self.centered and (trained or call.output_count > 1) else None
        inverse = lower.tensor((rows,)) if trained or call.output_count > 2 else None
        y = lower.tensor(x.shape)
        step = layernorm.RowNorm(lower.build, rows, columns, self.epsilon(call), centered=self.centered)
        reads = [x, *(self.parameters(lower, scale, bias) if inside else (None, None))]
        lower.emit(step, reads=reads, writes=[y, mean, inverse], inplace=True)
        call.saved.update(x=x, mean=mean, inverse=inverse, normalized=y)
        if not inside:
            y = binary(lower, "mul", y, scale)
            y = y if bias is None else binary(lower, "add", y, bias)
        statistics = [None if t is None else t.reshaped(call.results[1].shape) for t in (mean, inverse)]
        return [y, *(t for t in statistics[: call.output_count - 1] if t is not None)]

    def parameters(self, lower: Lowering, *tensors: Tensor | None) -> list[Tensor | None]:
        """Scale and bias in row-major layout, the order of the elements of a row."""
        return [None if t is None else lower.as_layout(t, Layout.ROW_MAJOR) for t in tensors]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        if any(grad is not None for grad in grads[1:]):
            raise call.error(
                UnsupportedOpError, "has a gradient only through its first output", "a gradient of another output"
            )
        dy = grads[0]
        assert dy is not None
        x, scale = call.saved["x"], call.input(1)
        rows, columns = self.rows(call)
        inside, wanted = self.inside(call), call.needs_gradient(1) or call.needs_gradient(2)
        dscale = dbias = None
        if not inside:
            if call.needs_gradient(1):
                dscale = sum_to(lower, binary(lower, "mul", dy, call.saved["normalized"]), scale.shape)
            if call.needs_gradient(2):
                dbias = sum_to(lower, dy, call.spec(2).shape)
            if not call.needs_gradient(0):
                return [None, dscale, dbias][: len(call.specs)]
            dy = binary(lower, "mul", dy, scale)
        dy = lower.as_layout(dy, Layout.ROW_MAJOR)
        dx = lower.tensor(x.shape) if call.needs_gradient(0) else None
        step = layernorm.RowNormGradient(lower.build, rows, columns, centered=self.centered)
        sums: list[Tensor | None] = [None] * 3
        if inside and wanted:
            sums = [lower.tensor((step.chunks, 2, columns), dtype=float), *(lower.tensor((columns,)) for _ in range(2))]
        reads = [dy, x, call.saved["mean"], call.saved["inverse"]]
        reads += self.parameters(lower, scale) if inside else [None]
        lower.emit(step, reads=reads, writes=[dx, *sums], inplace=True)
        if inside and wanted:
            summed = [None if t is None else t.reshaped(call.spec(1 + i).shape) for i, t in enumerate(sums[1:])
                      if call.has(1 + i)]  # fmt: skip
            dscale, dbias = [*summed, None][:2]
        return [dx, dscale if call.needs_gradient(1) else None, dbias if call.needs_gradient(2) else None][
            : len(call.specs)
        ]


OPERATORS: list[Operator] = [
    RowNormalization("LayerNormalization", 17, centered=True),
    RowNormalization("RMSNormalization", 23, centered=False),
]
