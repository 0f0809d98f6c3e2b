"""QuantizeLinear and DequantizeLinear: to whole numbers and back.

The two in a row are how networks are trained for hardware that computes in integers. The gradient goes straight through
the rounding: from the whole numbers of DequantizeLinear to those of QuantizeLinear, whose input was not clipped. So
what is real in between is a gradient of whole numbers, which no other operator takes.

The scales have gradients, too: those of the two formulas with the rounding left out. The pair then gives the gradient
of Learned Step Size Quantization (Esser et al. 2020); kernels/quantize.pyx has the formulas. A scale's gradient is a
sum over all that it scales, which takes a learning rate of its own, so a scale is trained where it is named and not
else. Zero points are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

import cconv.kernels.quantize.quantize as quantize
from cconv.errors import DTypeError, ModelError, ShapeError, UnsupportedOpError
from cconv.ops.elementwise import is_real
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.reduce import reduced
from cconv.ops.shape_arithmetic import numpy_dtype
from cconv.ops.tensor import Layout, Spec, Tensor

# Those of less than 8 bits are NumPy's by the extension ml_dtypes, an element a byte.
QUANTIZED = ("int2", "uint2", "int4", "uint4", "int8", "uint8", "int16", "uint16")


class Linear(Operator):
    """Base of both: inputs are the array, the scale and perhaps the zero point, for all; for each place along `axis`
    (from opset 13 on); or for each block of `block_size` elements along it (from opset 21 on)."""

    since = 10
    inputs = (2, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (0, 1)
    settings: ClassVar[tuple[int, ...]] = (1,)

    def block(self, call: Call) -> int:
        """Elements along the axis that share a scale; 0: there are no blocks."""
        size = call.attribute("block_size", 0)
        if size < 0:
            raise call.error(ModelError, "block_size is not negative", f"{size}")
        return size

    def axis(self, call: Call) -> int | None:
        """The axis along which there are several scales; None: there is one."""
        shape, scale, block = call.spec(0).shape, call.spec(1).shape, self.block(call)
        if block:
            axis = normalize_axis(call, call.attribute("axis", 1), len(shape))
            wanted = tuple(-(-n // block) if i == axis else n for i, n in enumerate(shape))
            if scale != wanted:
                rule = f"with block_size {block} along axis {axis} of shape {shape}, the scale has shape {wanted}"
                raise call.error(ShapeError, rule, f"shape {scale}")
            return axis
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
            rule = "the scale holds floating-point numbers of 16 to 64 bits"
            raise call.error(DTypeError, rule, f"{call.spec(1).dtype}")
        if call.has(2) and call.spec(2).dtype != dtype:
            raise call.error(DTypeError, f"the zero point is {dtype}", f"{call.spec(2).dtype}")
        if call.has(2) and call.spec(2).size != call.spec(1).size:
            found = f"{call.spec(2).size}, and scales of shape {call.spec(1).shape}"
            raise call.error(ShapeError, "there is a zero point for each scale", found)

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.axis(call) != 0 and not self.block(call)

    def sizes(self, call: Call, x: Tensor) -> tuple[int, int, int, int]:
        """Elements before the scales' axis, along it and after it, in the order of x's memory; elements of a block."""
        axis = self.axis(call)
        if axis is None:
            return 1, 1, x.size, 0
        place, sizes = x.order.index(axis), x.memory_shape
        return math.prod(sizes[:place]), sizes[place], math.prod(sizes[place + 1 :]), self.block(call)

    def parameters(self, lower: Lowering, call: Call, layout: Layout) -> list[Tensor | None]:
        """Scale and zero point; those of blocks in the array's layout."""
        tensors = [call.input(1), call.input(2) if call.has(2) else None]
        if not self.block(call):
            return tensors
        shape = call.spec(1).shape
        return [None if t is None else lower.as_layout(t.reshaped(shape), layout) for t in tensors]

    def gradients(
        self, lower: Lowering, call: Call, kind: type, dtype: np.dtype, grad: Tensor
    ) -> Sequence[Tensor | None]:
        """Those of the array and of the scale.

        Args:
            kind: the step that computes them; its operands are grad, the array, scale, zero point, and what is found.
            dtype: of the whole numbers.
            grad: of the output.
        """
        x = call.input(0)
        dx = lower.tensor(x.shape, x.layout) if call.needs_gradient(0) else None
        terms = lower.tensor(x.shape, x.layout) if call.needs_gradient(1) else None
        sizes = self.sizes(call, x)
        reads = [lower.as_layout(grad, x.layout), x, *self.parameters(lower, call, x.layout)]
        lower.emit(kind(lower.build, dtype.name, *sizes), reads=reads, writes=[dx, terms], inplace=dx is not None)
        ds = None if terms is None else self.summed(lower, call, terms, sizes)
        return [dx, ds, *[None] * (len(call.specs) - 2)]

    def summed(self, lower: Lowering, call: Call, terms: Tensor, sizes: tuple[int, int, int, int]) -> Tensor:
        """The sum over each scale's elements, in the scale's shape."""
        shape, axis = call.spec(1).shape, self.axis(call)
        if self.block(call):
            sums = lower.tensor(shape, terms.layout)
            lower.emit(quantize.BlockSums(lower.build, *sizes), reads=[terms], writes=[sums])
            return sums
        sums = reduced(lower, "sum", terms, [i for i in range(len(terms.shape)) if i != axis])
        return lower.as_layout(sums, Layout.ROW_MAJOR).reshaped(shape)


class QuantizeLinear(Linear):
    """q = clip(round(x / scale) + zero point), rounded to even, in the zero point's dtype (without one: output_dtype,
    or uint8).

    The attribute `precision` names the floats that x / scale is computed in; as everywhere in a plan these are
    its own. `saturate` is about floats in 8 bits, which cconv does not have.
    """

    type = "QuantizeLinear"

    def dtype(self, call: Call) -> np.dtype:
        number = call.attribute("output_dtype", 0)
        named = numpy_dtype(call, number) if number else None
        if not call.has(2):
            return named or np.dtype(np.uint8)
        if named not in (None, call.spec(2).dtype):
            rule = "output_dtype is the zero point's dtype where there is one"
            raise call.error(ModelError, rule, f"{named} and {call.spec(2).dtype}")
        return call.spec(2).dtype

    def shapes(self, call: Call) -> list[Spec]:
        dtype = self.dtype(call)
        if not is_real(call.spec(0).dtype) or dtype.name not in QUANTIZED:
            found = f"{call.spec(0).dtype} to {dtype}"
            rule = "quantises floats of 16 to 64 bits to whole numbers of 2, 4, 8 or 16"
            raise call.error(UnsupportedOpError, rule, found)
        self.check_scale(call, dtype)
        return [Spec(call.spec(0).shape, dtype)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, dtype = call.input(0), call.results[0].dtype
        q = lower.tensor(x.shape, x.layout, dtype)
        step = quantize.Quantize(lower.build, dtype.name, *self.sizes(call, x))
        lower.emit(step, reads=[x, *self.parameters(lower, call, x.layout)], writes=[q])
        return [q]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return self.gradients(lower, call, quantize.QuantizeGradient, call.results[0].dtype, grads[0])


class DequantizeLinear(Linear):
    """x = (q - zero point) * scale, in output_dtype or else the scale's."""

    type = "DequantizeLinear"
    straight_through = (0,)

    def shapes(self, call: Call) -> list[Spec]:
        dtype, number = call.spec(0).dtype, call.attribute("output_dtype", 0)
        if dtype.name not in (*QUANTIZED, "int32"):
            raise call.error(UnsupportedOpError, "reads whole numbers of 2, 4, 8 or 16 bits, or int32", f"{dtype}")
        self.check_scale(call, dtype)
        result = numpy_dtype(call, number) if number else call.spec(1).dtype
        if not is_real(result):
            rule = "output_dtype is a float of 16 to 64 bits"
            raise call.error(UnsupportedOpError, rule, f"{result}")
        return [Spec(call.spec(0).shape, result)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        q = call.input(0)
        x = lower.tensor(q.shape, q.layout)
        step = quantize.Dequantize(lower.build, q.dtype.name, *self.sizes(call, q))
        lower.derive(step, [q, *self.parameters(lower, call, q.layout)], [x])
        return [x]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return self.gradients(lower, call, quantize.DequantizeGradient, call.spec(0).dtype, grads[0])


OPERATORS: list[Operator] = [QuantizeLinear(), DequantizeLinear()]
