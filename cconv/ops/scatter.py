"""ScatterND, ScatterElements, Scatter, MaxUnpool: elements written to places that indices name.

Of updates that name one place the last stays, or they are reduced in their order; see kernels/move/index.pyx. With
y = x, then y[places] = u (or += u), the gradients are

    none  dx = dy, 0 at the places      du = dy[places]
    add   dx = dy                       du = dy[places]
    mul   dx = dy * product of its u    du = dy[places] * the other factors' product
    min, max: those that are the extreme share dy equally, as in PyTorch

(ONNX leaves open what happens where a place is named twice without a reduction; each update gets the gradient then.)
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
from cconv.ops.strided import Part, zeros
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.ops.window import explicit_pads, kernel_of, per_axis

# reduction: opset that brought it, of ScatterElements and ScatterND alike.
REDUCTIONS = {"none": 1, "add": 16, "mul": 16, "min": 18, "max": 18}


class Scattering(Operator):
    """Base of operators with inputs data, indices, updates and an output like data."""

    inputs = (3, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (0, 2)

    def addressing(self, call: Call) -> Addressing:
        raise NotImplementedError

    def update_shape(self, call: Call) -> tuple[int, ...]:
        """The shape that updates must have; checks that of the indices."""
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
        found = addressing.take(lower, y, places, lower.tensor(updates.shape))
        those, they = binary(lower, "equal", x, y), binary(lower, "equal", updates, found)
        count = addressing.put(lower, they, places, copied(lower, those), "add")
        share = binary(lower, "div_or_zero", dy, count)
        theirs = addressing.take(lower, share, places, lower.tensor(updates.shape))
        return [binary(lower, "mul", those, share), None, binary(lower, "mul", they, theirs)]

    def of_product(self, lower: Lowering, call: Call, dy: Tensor) -> list[Tensor | None]:
        """An update's is that of the product without it: with ones in the place of zeros the product over itself, where
        there are as many zeros as it is one itself."""
        x, updates, places, addressing = (*(call.saved[k] for k in ("x", "updates", "places")), self.addressing(call))
        ones = unary(lower, "affine", zeros(lower, x.shape, Layout.ROW_MAJOR, dy.dtype), 1.0, 1.0)
        dx = du = None
        if call.needs_gradient(0):
            dx = binary(lower, "mul", addressing.put(lower, updates, places, ones, "mul"), dy)
        if call.needs_gradient(2):
            zero = lower.external(np.zeros((), lower.dtype), "zero")
            those, they = binary(lower, "equal", x, zero), binary(lower, "equal", updates, zero)
            filled = binary(lower, "add", updates, they)
            count = addressing.put(lower, they, places, copied(lower, those), "add")
            total = addressing.put(lower, filled, places, binary(lower, "add", x, those), "mul")
            total, count = (
                addressing.take(lower, t, places, lower.tensor(updates.shape))
                for t in (binary(lower, "mul", total, dy), count)
            )
            du = binary(lower, "mul", binary(lower, "div", total, filled), binary(lower, "equal", count, they))
        return [dx, None, du]


def copied(lower: Lowering, x: Tensor) -> Tensor:
    """A row-major tensor's values in memory of their own."""
    y = lower.tensor(x.shape, dtype=x.dtype)
    step = Copy(lower.build, x.shape, x.strides, y.strides, itemsize=x.dtype.itemsize)
    lower.emit(step, reads=[x], writes=[y])
    return y


class ScatterElements(Scattering):
    """y[i, indices[i, j, ...], ...] = updates[i, j, ...], the index in the place of `axis`."""

    type = "ScatterElements"
    since = 11

    def update_shape(self, call: Call) -> tuple[int, ...]:
        return element_addressing(call).grid

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0, 1, 2} and element_addressing(call).strides[0] > 0

    def addressing(self, call: Call) -> Addressing:
        return element_addressing(call)


class Scatter(ScatterElements):
    """ScatterElements as it was called in opsets 9 and 10."""

    type = "Scatter"
    since = 9


class ScatterND(Scattering):
    """y[*indices[i, :], ...] = updates[i, ...]"""

    type = "ScatterND"
    since = 11

    def update_shape(self, call: Call) -> tuple[int, ...]:
        data, indices = call.spec(0).shape, call.spec(1).shape
        if not indices or not 1 <= indices[-1] <= len(data):
            raise call.error(
                ShapeError,
                "the indices' last axis holds one for each axis that it names",
                f"data of shape {data}, indices of shape {indices}",
            )
        return indices[:-1] + data[indices[-1] :]

    def addressing(self, call: Call) -> Addressing:
        return nd_addressing(call, 0)


class MaxUnpool(Operator):
    """Zeros, and each element of the input at its index: what MaxPool took, put back.

    Indices count through all images and channels of the feature map that pooling with these windows, strides and pads
    makes out of. An output_shape, which must be known before the model runs, adds zeros at the end of its axes.
    """

    type = "MaxUnpool"
    since = 9
    inputs = (2, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def unpooled(self, call: Call) -> tuple[int, ...]:
        """The shape that the indices count through."""
        x, kernel = self.require_rank(call, 0, 3, 8, "(N, C, spatial...)").shape, kernel_of(call)
        rank = len(x) - 2
        if len(kernel) != rank:
            raise call.error(ShapeError, f"the kernel has {rank} axes for {rank} spatial axes", f"{kernel}")
        begin, end = explicit_pads(call, rank)
        stride = per_axis(call, "strides", rank, 1)
        sizes = [(n - 1) * s - b - e + k for n, s, b, e, k in zip(x[2:], stride, begin, end, kernel)]
        if min(sizes) < 1:
            raise call.error(ShapeError, "pads leave something of the feature map", f"sizes {sizes}")
        return (*x[:2], *sizes)

    def shapes(self, call: Call) -> list[Spec]:
        spec, indices, shape = call.spec(0), call.spec(1), self.unpooled(call)
        if indices.shape != spec.shape or indices.dtype != np.int64:
            found = f"{indices.dtype} of shape {indices.shape} for {spec.shape}"
            raise call.error(ModelError, "there is an int64 index for each element of the input", found)
        if call.has(2):
            wish = tuple(call.integers(2, "the output's shape"))
            if len(wish) != len(shape) or any(n < m for n, m in zip(wish, shape)):
                raise call.error(ShapeError, f"output_shape is at least {shape}", f"{wish}")
            shape = wish
        return [Spec(shape, spec.dtype)]

    def addressing(self, call: Call) -> Addressing:
        size = math.prod(self.unpooled(call))
        return Addressing((call.spec(0).size,), (0,), (size,), (1,), 1)

    def part(self, call: Call) -> Part:
        """Where in the output the unpooled feature map lies."""
        shape = self.unpooled(call)
        return Part([0] * len(shape), [1] * len(shape), shape)

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
