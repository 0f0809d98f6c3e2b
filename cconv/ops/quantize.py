"""QuantizeLinear and DequantizeLinear: from floating-point numbers to integers and back.

A QuantizeLinear followed by a DequantizeLinear simulates integer arithmetic during training. The gradient uses the
straight-through estimator: rounding counts as the identity, and values that were clipped get no gradient. So the
integer tensor between the two has a floating-point gradient. No other operator takes a gradient of integers.

Scales have gradients too, derived from the two formulas with rounding as the identity. Together the two nodes give the
gradient of Learned Step Size Quantization (Esser et al. 2020); kernels/quantize/quantize.pyx has the formulas. A
scale's gradient is a sum over all elements that it scales, so it needs a learning rate of its own. Therefore a scale is
trained only if the user names it. Zero points are not trained.
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

# The dtypes of less than 8 bits come from ml_dtypes, an extension of NumPy, which stores one element per byte.
QUANTIZED = ("int2", "uint2", "int4", "uint4", "int8", "uint8", "int16", "uint16")


class Linear(Operator):
    """Base class of both operators. Inputs: the array, the scale, and optionally the zero point.

    There is one scale and zero point for the whole array, or one per index of the axis `axis` (from opset 13 on), or
    one per block of `block_size` elements along that axis (from opset 21 on).
    """

    since = 10
    inputs = (2, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (0, 1)
    settings: ClassVar[tuple[int, ...]] = (1,)

    def block(self, call: Call) -> int:
        """Number of consecutive elements along the axis that share a scale; 0: no blocks."""
        size = call.attribute("block_size", 0)
        if size < 0:
            raise call.error(ModelError, "block_size is not negative", f"{size}")
        return size

    def axis(self, call: Call) -> int | None:
        """The axis along which scales differ; None: one scale for the whole array.

        Raises:
            ShapeError: the scale's shape does not fit the array.
        """
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
        """Check the scale and the zero point.

        Args:
            dtype: dtype of the integers.

        Raises:
            ShapeError: the scale's shape does not fit the array, or the zero point has another size than the scale.
            DTypeError: the scale is not floating-point, or the zero point's dtype is not `dtype`.
        """
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
        """(outer, n, inner, block): number of elements before, along and after the scales' axis, in the order of x's
        memory, and the block size (0: no blocks)."""
        axis = self.axis(call)
        if axis is None:
            return 1, 1, x.size, 0
        place, sizes = x.order.index(axis), x.memory_shape
        return math.prod(sizes[:place]), sizes[place], math.prod(sizes[place + 1 :]), self.block(call)

    def parameters(self, lower: Lowering, call: Call, layout: Layout) -> list[Tensor | None]:
        """Tensors of the scale and the zero point (or None). With blocks they have the array's rank and are converted
        to its layout."""
        tensors = [call.input(1), call.input(2) if call.has(2) else None]
        if not self.block(call):
            return tensors
        shape = call.spec(1).shape
        return [None if t is None else lower.as_layout(t.reshaped(shape), layout) for t in tensors]

    def gradients(
        self, lower: Lowering, call: Call, kind: type, dtype: np.dtype, grad: Tensor
    ) -> Sequence[Tensor | None]:
        """Emit the backward pass. Returns the gradients of the array and of the scale, then None for the zero point.

        Args:
            kind: class of the step. It reads grad, the array, the scale and the zero point, and writes the array's
                gradient and, for each element, the term that it adds to the scale's gradient.
            dtype: dtype of the integers.
            grad: gradient of the output.
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
        """Sum `terms`, of the array's shape, over the elements of each scale. The result has the scale's shape."""
        shape, axis = call.spec(1).shape, self.axis(call)
        if self.block(call):
            sums = lower.tensor(shape, terms.layout)
            lower.emit(quantize.BlockSums(lower.build, *sizes), reads=[terms], writes=[sums])
            return sums
        sums = reduced(lower, "sum", terms, [i for i in range(len(terms.shape)) if i != axis])
        return lower.as_layout(sums, Layout.ROW_MAJOR).reshaped(shape)


class QuantizeLinear(Linear):
    """q = clip(round(x / scale) + zero point), with halves rounded to even.

    q has the zero point's dtype; without a zero point that of the attribute output_dtype, default uint8. The attribute
    `precision` (the dtype of x / scale) is ignored: all floating-point numbers have the plan's dtype. `saturate` is
    ignored too: it applies to 8-bit floats, which cconv does not support.
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
    """x = (q - zero point) * scale, in the dtype of the attribute output_dtype, or without it in the scale's."""

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
