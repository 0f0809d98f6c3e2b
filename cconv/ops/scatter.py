"""ScatterND, ScatterElements, Scatter, MaxUnpool: write elements to positions given by indices.

The output is a copy of the data x into which the updates u are written. If several updates have the same place, they
are reduced in their order; without a reduction the last one remains. See kernels/move/index.pyx. The gradients are

    none  dx = dy, 0 at the places               du = dy[places]
    add   dx = dy                                du = dy[places]
    mul   dx = dy * product of u at the place    du = dy[places] * product of x and the other u at the place
    min, max    dy is divided equally among all elements equal to the extreme, as in PyTorch

ONNX does not define the result of duplicate indices without a reduction. Here every such update gets dy of its place.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

from cconv.errors import DTypeError, ModelError, ShapeError, UnsupportedOpError
from cconv.kernels.move.copy import Copy
from cconv.ops.elementwise import binary, unary
from cconv.ops.gather import Addressing, element_addressing, element_kind, nd_addressing, require_indices
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.strided import StridedPart, zeros
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.ops.window import explicit_pads, kernel_of, per_axis

# reduction: the opset that introduced it, in both ScatterElements and ScatterND.
REDUCTIONS = {"none": 1, "add": 16, "mul": 16, "min": 18, "max": 18}


class Scattering(Operator):
    """Base class of operators with the inputs data, indices and updates. The output has the shape of data."""

    inputs = (3, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (0, 2)

    def addressing(self, call: Call) -> Addressing:
        raise NotImplementedError

    def update_shape(self, call: Call) -> tuple[int, ...]:
        """Shape that the updates must have.

        Raises:
            ShapeError: the shape of the indices does not fit the data.
        """
        raise NotImplementedError

    def reduction(self, call: Call) -> str:
        reduction = call.attribute("reduction", "none")
        if REDUCTIONS.get(reduction, call.opset + 1) > call.opset:
            known = ", ".join(name for name, since in REDUCTIONS.items() if since <= call.opset)
            raise call.error(UnsupportedOpError, f"the reduction is one of {known}", repr(reduction))
        if reduction != "none" and element_kind(call.spec(0).dtype) not in ("real", "int32", "int64"):
            found = f"{reduction!r} of {call.spec(0).dtype}"
            raise call.error(UnsupportedOpError, "reduces floating-point numbers, int32 and int64", found)
        return reduction

    def shapes(self, call: Call) -> list[Spec]:
        data, updates = call.spec(0), call.spec(2)
        require_indices(call, 1)
        shape = self.update_shape(call)
        if updates.shape != shape:
            found = f"data {data.shape}, indices {call.spec(1).shape}, updates {updates.shape}"
            raise call.error(ShapeError, f"updates have the shape {shape}", found)
        if (data.dtype.kind, updates.dtype.kind) != ("f", "f") and data.dtype != updates.dtype:
            raise call.error(DTypeError, "data and updates have one dtype", f"{data.dtype} and {updates.dtype}")
        self.reduction(call)
        return [data]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, updates = (lower.as_layout(call.input(i), Layout.ROW_MAJOR) for i in (0, 2))
        addressing = self.addressing(call)
        call.saved["places"] = places = addressing.places(lower, call.input(1))
        call.saved.update(x=x, updates=updates)
        y = copied(lower, x)
        return [addressing.put(lower, updates, places, y, self.reduction(call))]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        reduction, addressing, places = self.reduction(call), self.addressing(call), call.saved["places"]
        dy = lower.as_layout(grads[0], Layout.ROW_MAJOR)
        if reduction == "mul":
            return self.of_product(lower, call, dy)
        if reduction in ("min", "max"):
            return self.of_extreme(lower, call, dy)
        dx = updates = None
        if call.needs_gradient(2):
            updates = addressing.take(lower, dy, places, lower.tensor(call.spec(2).shape))
        if call.needs_gradient(0):
            dx = dy
            if reduction == "none":
                nothing = zeros(lower, call.spec(2).shape, Layout.ROW_MAJOR, dy.dtype)
                dx = addressing.put(lower, nothing, places, copied(lower, dy))
        return [dx, None, updates]

    def of_extreme(self, lower: Lowering, call: Call, dy: Tensor) -> list[Tensor | None]:
        x, updates, places, addressing = (*(call.saved[k] for k in ("x", "updates", "places")), self.addressing(call))
        y = call.outputs[0]
        y_of_update = addressing.take(lower, y, places, lower.tensor(updates.shape))
        x_is_y, update_is_y = binary(lower, "equal", x, y), binary(lower, "equal", updates, y_of_update)
        count = addressing.put(lower, update_is_y, places, copied(lower, x_is_y), "add")
        share = binary(lower, "div_or_zero", dy, count)
        share_of_update = addressing.take(lower, share, places, lower.tensor(updates.shape))
        return [binary(lower, "mul", x_is_y, share), None, binary(lower, "mul", update_is_y, share_of_update)]

    def of_product(self, lower: Lowering, call: Call, dy: Tensor) -> list[Tensor | None]:
        """Emit the gradients for the reduction "mul".

        The gradient of an update is dy times the product of the other factors at its place, x and the other updates.
        That product is computed as the product of all factors, with zeros replaced by ones, divided by the update (by 1
        if the update is 0). If one of the other factors is 0, the gradient is 0.
        """
        x, updates, places, addressing = (*(call.saved[k] for k in ("x", "updates", "places")), self.addressing(call))
        ones = unary(lower, "affine", zeros(lower, x.shape, Layout.ROW_MAJOR, dy.dtype), 1.0, 1.0)
        dx = du = None
        if call.needs_gradient(0):
            dx = binary(lower, "mul", addressing.put(lower, updates, places, ones, "mul"), dy)
        if call.needs_gradient(2):
            zero = lower.external(np.zeros((), lower.dtype), "zero")
            x_is_0, update_is_0 = binary(lower, "equal", x, zero), binary(lower, "equal", updates, zero)
            filled = binary(lower, "add", updates, update_is_0)
            count = addressing.put(lower, update_is_0, places, copied(lower, x_is_0), "add")
            total = addressing.put(lower, filled, places, binary(lower, "add", x, x_is_0), "mul")
            total, count = (
                addressing.take(lower, t, places, lower.tensor(updates.shape))
                for t in (binary(lower, "mul", total, dy), count)
            )
            du = binary(lower, "mul", binary(lower, "div", total, filled), binary(lower, "equal", count, update_is_0))
        return [dx, None, du]


def copied(lower: Lowering, x: Tensor) -> Tensor:
    """Emit a copy of a row-major tensor to new memory."""
    y = lower.tensor(x.shape, dtype=x.dtype)
    step = Copy(lower.build, x.shape, x.strides, y.strides, itemsize=x.dtype.itemsize)
    lower.emit(step, reads=[x], writes=[y])
    return y


class ScatterElements(Scattering):
    """y[i, indices[i, j, k], k] = updates[i, j, k] for axis = 1: the index replaces the position along `axis`."""

    type = "ScatterElements"
    since = 11

    def update_shape(self, call: Call) -> tuple[int, ...]:
        return element_addressing(call).grid

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0, 1, 2} and element_addressing(call).strides[0] > 0

    def addressing(self, call: Call) -> Addressing:
        return element_addressing(call)


class Scatter(ScatterElements):
    """The name of ScatterElements in opsets 9 and 10."""

    type = "Scatter"
    since = 9


class ScatterND(Scattering):
    """Copy the data to y, then write y[*indices[i, :], ...] = updates[i, ...] for each i."""

    type = "ScatterND"
    since = 11

    def update_shape(self, call: Call) -> tuple[int, ...]:
        data, indices = call.spec(0).shape, call.spec(1).shape
        if not indices or not 1 <= indices[-1] <= len(data):
            raise call.error(
                ShapeError,
                "the indices' last axis holds one index per indexed axis",
                f"data of shape {data}, indices of shape {indices}",
            )
        return indices[:-1] + data[indices[-1] :]

    def addressing(self, call: Call) -> Addressing:
        return nd_addressing(call, 0)


class MaxUnpool(Operator):
    """The inverse of MaxPool: write each element of the input to its index in a feature map of zeros.

    The indices are those that MaxPool returns: they count through all images and channels of the unpooled feature map,
    whose sizes follow from kernel_shape, strides and pads. If output_shape is larger, zeros are added at the end of the
    axes. output_shape must be known before the model runs.
    """

    type = "MaxUnpool"
    since = 9
    inputs = (2, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def unpooled(self, call: Call) -> tuple[int, ...]:
        """Shape of the feature map into which the indices point: the input of the MaxPool to invert.

        Raises:
            ShapeError: the kernel does not have one entry per spatial axis, or the pads leave no element.
        """
        x, kernel = self.require_rank(call, 0, 3, 8, "(N, C, spatial...)").shape, kernel_of(call)
        rank = len(x) - 2
        if len(kernel) != rank:
            raise call.error(ShapeError, f"the kernel has {rank} axes for {rank} spatial axes", f"{kernel}")
        begin, end = explicit_pads(call, rank)
        stride = per_axis(call, "strides", rank, 1)
        sizes = [(n - 1) * s - b - e + k for n, s, b, e, k in zip(x[2:], stride, begin, end, kernel)]
        if min(sizes) < 1:
            raise call.error(ShapeError, "pads leave at least one element along each axis", f"sizes {sizes}")
        return (*x[:2], *sizes)

    def shapes(self, call: Call) -> list[Spec]:
        spec, indices, shape = call.spec(0), call.spec(1), self.unpooled(call)
        if indices.shape != spec.shape or indices.dtype != np.int64:
            found = f"{indices.dtype} of shape {indices.shape} for {spec.shape}"
            raise call.error(ModelError, "there is an int64 index for each element of the input", found)
        if call.has(2):
            output_shape = tuple(call.integers(2, "the output's shape"))
            if len(output_shape) != len(shape) or any(n < m for n, m in zip(output_shape, shape)):
                raise call.error(ShapeError, f"output_shape is at least {shape}", f"{output_shape}")
            shape = output_shape
        return [Spec(shape, spec.dtype)]

    def addressing(self, call: Call) -> Addressing:
        size = math.prod(self.unpooled(call))
        return Addressing((call.spec(0).size,), (0,), (size,), (1,), 1)

    def part(self, call: Call) -> StridedPart:
        """The part of the output that the unpooled feature map fills: from index 0 on along each axis."""
        shape = self.unpooled(call)
        return StridedPart([0] * len(shape), [1] * len(shape), shape)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, addressing = lower.as_layout(call.input(0), Layout.ROW_MAJOR), self.addressing(call)
        call.saved["places"] = places = addressing.places(lower, call.input(1))
        y = zeros(lower, self.unpooled(call), Layout.ROW_MAJOR, x.dtype)
        addressing.put(lower, x, places, y)
        return [self.part(call).placed(lower, y, call.results[0].shape)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        dy = self.part(call).taken(lower, lower.as_layout(grads[0], Layout.ROW_MAJOR))
        dx = self.addressing(call).take(lower, dy, call.saved["places"], lower.tensor(call.spec(0).shape))
        return [dx, *[None] * (len(call.specs) - 1)]


OPERATORS: list[Operator] = [ScatterElements(), Scatter(), ScatterND(), MaxUnpool()]
