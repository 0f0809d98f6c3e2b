"""Operators that move no numbers, or only move them: Reshape and its kind, Transpose, Identity, Constant.

ONNX's Reshape, Flatten, Squeeze and Unsqueeze speak of row-major order. A channels-last feature map is
brought into that order first (nothing moves where its spatial axes or its channels have size 1); from there
on the result is the same memory under another shape.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np

from cconv.errors import ModelError, ShapeError, UnsupportedOpError
from cconv.kernels.move.copy import Copy
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.tensor import Layout, Spec, Tensor


class Reshaping(Operator):
    """Base of operators whose output is input 0 in row-major order under the shape of `new_shape`."""

    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def new_shape(self, call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The output's shape for an input of `shape`."""
        raise NotImplementedError

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        return [Spec(self.new_shape(call, spec.shape), spec.dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and call.results[0].shape[:1] == call.spec(0).shape[:1] != ()

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [lower.as_layout(call.input(0), Layout.ROW_MAJOR).reshaped(call.results[0].shape)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        dx = lower.as_layout(grads[0], Layout.ROW_MAJOR).reshaped(call.input(0).shape)
        return [dx, *[None] * (len(call.specs) - 1)]


class Flatten(Reshaping):
    """(d0, ..., dn) -> (d0 * ... * d[axis - 1], d[axis] * ... * dn)."""

    type = "Flatten"

    def new_shape(self, call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
        axis = normalize_axis(call, call.attribute("axis", 1), len(shape), extra=1)
        return math.prod(shape[:axis]), math.prod(shape[axis:])


class Reshape(Reshaping):
    """0 keeps the input's size (unless allowzero), one -1 stands for what is left."""

    type = "Reshape"
    inputs = (2, 2)

    def new_shape(self, call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
        wish = call.integers(1, "the new shape")
        found = f"{wish} for an input of shape {shape}"
        keeps = not call.attribute("allowzero", 0)
        if any(n < -1 for n in wish) or wish.count(-1) > 1 or (not keeps and -1 in wish and 0 in wish):
            raise call.error(ShapeError, "the new shape has sizes >= 0 and at most one -1", found)
        if keeps and any(n == 0 for n in wish[len(shape) :]):
            raise call.error(ShapeError, "a 0 in the new shape keeps the size of an axis there is", found)
        sizes = [shape[i] if n == 0 and keeps else n for i, n in enumerate(wish)]
        if -1 in sizes:
            others = math.prod(n for n in sizes if n != -1)
            sizes[sizes.index(-1)] = math.prod(shape) // others if others else 0
        if math.prod(sizes) != math.prod(shape):
            raise call.error(
                ShapeError,
                "the new shape has as many elements as the input",
                found,
                "A batch size may be baked in: a 0 or -1 leaves that axis free.",
            )
        return tuple(sizes)


class Squeeze(Reshaping):
    """Drops axes of size 1: the given ones, or all."""

    type = "Squeeze"
    inputs = (1, 2)

    def new_shape(self, call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
        axes = _axes(call, len(shape))
        if axes is None:
            axes = [axis for axis, n in enumerate(shape) if n == 1]
        if any(shape[axis] != 1 for axis in axes):
            raise call.error(ShapeError, "only axes of size 1 can go", f"axes {axes} of shape {shape}")
        return tuple(n for axis, n in enumerate(shape) if axis not in axes)


class Unsqueeze(Reshaping):
    """Inserts axes of size 1 at the given places of the output."""

    type = "Unsqueeze"
    inputs = (1, 2)

    def new_shape(self, call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
        given = _given_axes(call)
        if given is None:
            raise call.error(ModelError, "names the axes to insert", "none")
        rank = len(shape) + len(given)
        axes = _axes(call, rank)
        sizes = iter(shape)
        return tuple(1 if axis in (axes or []) else next(sizes) for axis in range(rank))


def _given_axes(call: Call) -> list[int] | None:
    """The node's axes as written: an attribute up to opset 12, a constant input from 13 on."""
    if call.opset < 13:
        return call.attribute("axes")
    return call.integers(1, "axes") if call.has(1) else None


def _axes(call: Call, rank: int) -> list[int] | None:
    """The node's axes counted from the front, each once."""
    given = _given_axes(call)
    if given is None:
        return None
    axes = [normalize_axis(call, axis, rank) for axis in given]
    if len(set(axes)) != len(axes):
        raise call.error(ShapeError, "each axis is named once", f"axes {given} of {rank}")
    return axes


class Identity(Operator):
    """The input itself."""

    type = "Identity"
    per_example = True

    def shapes(self, call: Call) -> list[Spec]:
        return [call.spec(0)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [call.input(0)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        return grads


class Transpose(Operator):
    """Output axis i is input axis perm[i]; without perm, the axes reversed."""

    type = "Transpose"

    def permutation(self, call: Call) -> list[int]:
        return call.attribute("perm", list(range(len(call.spec(0).shape)))[::-1])

    def shapes(self, call: Call) -> list[Spec]:
        spec, perm = call.spec(0), self.permutation(call)
        if sorted(perm) != list(range(len(spec.shape))):
            raise call.error(ShapeError, "perm names each axis of the input once", f"{perm} for {spec.shape}")
        return [Spec(tuple(spec.shape[axis] for axis in perm), spec.dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.permutation(call)[:1] == [0]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [transposed(lower, call.input(0), self.permutation(call))]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        perm = self.permutation(call)
        return [transposed(lower, grads[0], [perm.index(axis) for axis in range(len(perm))])]


def transposed(lower: Lowering, x: Tensor, perm: list[int]) -> Tensor:
    """x with axis perm[i] as axis i; the same memory where that is one of the layouts, else a row-major copy.

    The first is what happens to the (N, H, W, C) -> (N, C, H, W) of a network from TensorFlow.
    """
    shape = tuple(x.shape[axis] for axis in perm)
    strides = tuple(x.strides[axis] for axis in perm)
    for layout in Layout:
        view = Tensor(x.buffer, shape, x.dtype, layout if len(shape) >= 3 else Layout.ROW_MAJOR)
        if all(n == 1 or s == t for n, s, t in zip(shape, strides, view.strides)):
            return view
    y = lower.tensor(shape, dtype=x.dtype)
    step = Copy(lower.build, shape, strides, y.strides, itemsize=x.dtype.itemsize)
    lower.emit(step, reads=[x], writes=[y])
    return y


class Constant(Operator):
    """A value written into the graph."""

    type = "Constant"
    inputs = (0, 0)

    def value(self, call: Call) -> np.ndarray:
        kinds: dict[str, Any] = {
            "value": None,
            "value_float": np.float32,
            "value_floats": np.float32,
            "value_int": np.int64,
            "value_ints": np.int64,
        }
        for name, dtype in kinds.items():
            if name in call.attributes:
                return np.asarray(call.attributes[name], dtype=dtype)
        raise call.error(
            UnsupportedOpError,
            f"its value is one of {', '.join(kinds)}",
            ", ".join(call.attributes) or "no attribute",
        )

    def shapes(self, call: Call) -> list[Spec]:
        value = self.value(call)
        return [Spec(value.shape, value.dtype)]

    def fold(self, call: Call) -> list[np.ndarray] | None:
        return [self.value(call)]


OPERATORS = [Flatten(), Reshape(), Squeeze(), Unsqueeze(), Identity(), Transpose(), Constant()]
