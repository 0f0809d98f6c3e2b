"""Dropout.

In a training plan elements are dropped whatever the node's training_mode input says: exporters write it as
false, for inference. In an inference plan the output is the input, whatever it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

import cconv.kernels.elementwise.dropout as dropout
from cconv.errors import DTypeError, ShapeError, ValueRangeError
from cconv.kernels.move.copy import Fill
from cconv.ops.elementwise import BOOL, cast
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor


class Dropout(Operator):
    """y = x / (1 - ratio) for a random choice of elements, 0 for the others; second output: which were kept, up
    to opset 9 as numbers.

    The choice is keyed by (seed, step, node): a run that is repeated or resumed drops the same elements.
    """

    type = "Dropout"
    inputs = (1, 3)
    pure = False
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)
    per_example = True

    def ratio(self, call: Call) -> float:
        """Share of elements to drop: attribute up to opset 11, constant input from 12 on."""
        ratio = call.attribute("ratio", 0.5)
        if call.opset >= 12:
            given = call.constant(1, "ratio") if call.has(1) else np.array(0.5)
            if given.size != 1:
                raise call.error(ShapeError, "the ratio is one number", f"shape {given.shape}")
            ratio = given.item()
        if not 0 <= ratio < 1:
            raise call.error(ValueRangeError, "the ratio lies in 0 <= ratio < 1", f"{ratio}")
        return float(ratio)

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        if not np.issubdtype(spec.dtype, np.floating):
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        if not call.has(1) or call.constants[1] is not None:  # else it matters to a training plan alone
            self.ratio(call)
        return [spec, Spec(spec.shape, spec.dtype if call.opset < 10 else BOOL)]

    def varies(self, lower: Lowering, call: Call) -> str:
        return "dropout" if lower.training and self.ratio(call) > 0 else ""

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        mask = lower.tensor(x.shape, x.layout, BOOL) if call.output_count > 1 else None
        y = x
        if lower.training and self.ratio(call) > 0:
            y = lower.tensor(x.shape, x.layout)
            self._drop(lower, call, x, y, mask)
        elif mask is not None:
            lower.emit(Fill(lower.build, mask.size, np.asarray(True).tobytes()), writes=[mask])
        return [y] if mask is None else [y, cast(lower, mask, call.results[1].dtype)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        dx = grads[0]
        if dx is not None and self.ratio(call) > 0:
            y = call.outputs[0]
            dy = lower.as_layout(dx, y.layout)
            dx = lower.tensor(y.shape, y.layout)
            self._drop(lower, call, dy, dx, None)
        return [dx, *[None] * (len(call.specs) - 1)]

    def _drop(self, lower: Lowering, call: Call, x: Tensor, y: Tensor, mask: Tensor | None) -> None:
        step = dropout.Dropout(lower.build, x.size, self.ratio(call), call.index)
        # The control record comes after x so that y may take x's memory.
        lower.emit(step, reads=[x, lower.control], writes=[y, mask], inplace=True)


OPERATORS = [Dropout()]
