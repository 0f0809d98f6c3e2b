"""QuantizeLinear and DequantizeLinear: to whole numbers and back.

The two in a row are how networks are trained for hardware that computes in integers. The gradient goes straight through
the rounding: from the whole numbers of DequantizeLinear to those of QuantizeLinear, whose input was not clipped. So
what is real in between is a gradient of whole numbers, which no other operator takes. Scales and zero points are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

from cconv.errors import DTypeError, ShapeError, UnsupportedOpError
from cconv.ops.elementwise import binary, is_real
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.shape_arithmetic import numpy_dtype
from cconv.ops.tensor import Spec, Tensor

QUANTIZED = (np.int8, np.uint8, np.int16, np.uint16)


class Linear(Operator):
    """Base of both: inputs are the array, the scale and perhaps the zero point, for all or for each place along `axis`
    (from opset 13 on)."""

    since = 10
    inputs = (2, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def axis(self, call: Call) -> int | None:
        """The axis along which there are several scales; None: there is one."""
        shape, scale = call.spec(0).shape, call.spec(1).shape
        if call.attribute("block_size", 0):
            found = f"block_size {call.attribute('block_size')}"
            raise call.error(UnsupportedOpError, "has a scale for all, or for each place along an axis", found)
        if math.prod(scale) == 1 and len(scale) <= 1:
            return None
        axis = normalize_axis(call, call.attribute("axis", 1), len(shape)) if call.opset >= 13 else -1
        if axis < 0 or scale != (shape[axis],):
            rule = f"the scale is one number, or {(shape[axis],)}" if axis >= 0 else "the scale is one number"
            raise call.error(ShapeError, rule, f"shape {scale}")
        return axis

    def check_scale(self, call: Call, dtype: np.dtype) -> None:
        """The scale is real; the zero point, if there is one, of its size and of the whole numbers' dtype."""
        self.axis(call)
        if not is_real(call.spec(1).dtype):
            raise call.error(DTypeError, "the scale holds floating-point numbers", f"{call.spec(1).dtype}")
        if call.has(2) and call.spec(2).dtype != dtype:
            raise call.error(DTypeError, f"the zero point is {dtype}", f"{call.spec(2).dtype}")
        if call.has(2) and call.spec(2).size != call.spec(1).size:
            found = f"{call.spec(2).size}, and scales of shape {call.spec(1).shape}"
            raise call.error(ShapeError, "there is a zero point for each scale", found)

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.axis(call) != 0

    def sizes(self, call: Call, x: Tensor) -> tuple[int, int, int]:
        """Elements before the scales' axis, along it and after it, in the order of x's memory."""
        axis = self.axis(call)
        if axis is None:
            return 1, 1, x.size
        place, sizes = x.order.index(axis), x.memory_shape
        return math.prod(sizes[:place]), sizes[place], math.prod(sizes[place + 1 :])

    def parameters(self, call: Call) -> list[Tensor | None]:
        return [call.input(1), call.input(2) if call.has(2) else None]


class QuantizeLinear(Linear):
    """q = clip(round(x / scale) + zero point), rounded to even, in the zero point's dtype (without one: uint8)."""

    type = "QuantizeLinear"

    def dtype(self, call: Call) -> np.dtype:
        number = call.attribute("output_dtype", 0)
        default = np.dtype(np.uint8) if not number else numpy_dtype(call, number)
        return call.spec(2).dtype if call.has(2) else default

    def shapes(self, call: Call) -> list[Spec]:
        dtype = self.dtype(call)
        if not is_real(call.spec(0).dtype) or dtype not in QUANTIZED:
            found = f"{call.spec(0).dtype} to {dtype}"
            raise call.error(UnsupportedOpError, "quantises floats to int8, uint8, int16 or uint16", found)
        self.check_scale(call, dtype)
        return [Spec(call.spec(0).shape, dtype)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, dtype = call.input(0), call.results[0].dtype
        q = lower.tensor(x.shape, x.layout, dtype)
        step = lower.kernels.quantize.Quantize(dtype.name, *self.sizes(call, x))
        lower.emit(step, reads=[x, *self.parameters(call)], writes=[q])
        return [q]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        x = call.input(0)
        dy, dx = lower.as_layout(grads[0], x.layout), lower.tensor(x.shape, x.layout)
        step = lower.kernels.quantize.QuantizeGradient(call.results[0].dtype.name, *self.sizes(call, x))
        lower.emit(step, reads=[dy, x, *self.parameters(call)], writes=[dx], inplace=True)
        return [dx, *[None] * (len(call.specs) - 1)]


class DequantizeLinear(Linear):
    """x = (q - zero point) * scale."""

    type = "DequantizeLinear"
    straight_through = (0,)

    def shapes(self, call: Call) -> list[Spec]:
        dtype = call.spec(0).dtype
        if dtype not in (*QUANTIZED, np.int32):
            raise call.error(UnsupportedOpError, "reads int8, uint8, int16, uint16 or int32", f"{dtype}")
        self.check_scale(call, dtype)
        return [Spec(call.spec(0).shape, call.spec(1).dtype)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        q = call.input(0)
        x = lower.tensor(q.shape, q.layout)
        step = lower.kernels.quantize.Dequantize(q.dtype.name, *self.sizes(call, q))
        lower.derive(step, [q, *self.parameters(call)], [x])
        return [x]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        scale, axis, rank = call.input(1), self.axis(call), len(call.spec(0).shape)
        shape = () if axis is None else tuple(scale.size if i == axis else 1 for i in range(axis, rank))
        dq = binary(lower, "mul", grads[0], scale.reshaped(shape))
        return [dq, *[None] * (len(call.specs) - 1)]


OPERATORS: list[Operator] = [QuantizeLinear(), DequantizeLinear()]
