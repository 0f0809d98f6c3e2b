"""Dropout.

The plan decides whether elements are dropped: a training plan drops them, an inference plan does not. The node's input
training_mode is ignored, because exporters set it to false for inference.
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
    """Set a random share `ratio` of the elements to 0. The others become x / (1 - ratio).

    The optional second output is a mask, 1 for each element that was kept: bools, up to opset 9 floats. The random
    numbers are keyed by (seed, step, node), so that a repeated or resumed run drops the same elements.
    """

    type = "Dropout"
    inputs = (1, 3)
    pure = False
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)
    per_example = True

    def ratio(self, call: Call) -> float:
        """Share of elements to drop. It is an attribute up to opset 11 and an input from opset 12 on.

        Raises:
            UnsupportedOpError: the input is known only at run time.
            ShapeError: the input is not one number.
            ValueRangeError: the ratio is outside of 0 <= ratio < 1.
        """
        ratio = call.attribute("ratio", 0.5)
        if call.opset >= 12:
            value = call.constant(1, "ratio") if call.has(1) else np.array(0.5)
            if value.size != 1:
                raise call.error(ShapeError, "the ratio is one number", f"shape {value.shape}")
            ratio = value.item()
        if not 0 <= ratio < 1:
            raise call.error(ValueRangeError, "the ratio lies in 0 <= ratio < 1", f"{ratio}")
        return float(ratio)

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        if not np.issubdtype(spec.dtype, np.floating):
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        if not call.has(1) or call.constants[1] is not None:
            # Raises if the ratio is invalid. A ratio that is computed at run time is an error in training plans only.
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
        # inplace lets y share the memory of the first operand read, so x comes before the control record.
        lower.emit(step, reads=[x, lower.control], writes=[y, mask], inplace=True)


OPERATORS = [Dropout()]
