"""Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Identity, Constant: operators that need no copy, or only a copy.

ONNX defines Reshape, Flatten, Squeeze and Unsqueeze in row-major order. A channels-last feature map is converted to
row-major first, which needs no copy if all its spatial axes, or its channels, have size 1. The result is then the same
memory with another shape.
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
    """Base class of operators whose output is input 0, in row-major order, with the shape `new_shape`."""

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
    """Give the input a new shape. A size 0 keeps the input's size (unless allowzero=1). One size may be -1: it is
    computed from the number of elements."""

    type = "Reshape"
    inputs = (2, 2)

    def new_shape(self, call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
        target = call.integers(1, "the new shape")
        found = f"{target} for an input of shape {shape}"
        keeps = not call.attribute("allowzero", 0)
        if any(n < -1 for n in target) or target.count(-1) > 1 or (not keeps and -1 in target and 0 in target):
            raise call.error(ShapeError, "the new shape has sizes >= 0 and at most one -1", found)
        if keeps and any(n == 0 for n in target[len(shape) :]):
            raise call.error(ShapeError, "a 0 in the new shape stands for an axis that the input has", found)
        sizes = [shape[i] if n == 0 and keeps else n for i, n in enumerate(target)]
        if -1 in sizes:
            others = math.prod(n for n in sizes if n != -1)
            sizes[sizes.index(-1)] = math.prod(shape) // others if others else 0
        if math.prod(sizes) != math.prod(shape):
            raise call.error(
                ShapeError,
                "the new shape has as many elements as the input",
                found,
                "If the new shape has a fixed batch size, replace it by 0 or -1.",
            )
        return tuple(sizes)


class Squeeze(Reshaping):
    """Remove axes of size 1: those given, or if none is given all of them."""

    type = "Squeeze"
    inputs = (1, 2)

    def new_shape(self, call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
        axes = _axes(call, len(shape))
        if axes is None:
            axes = [axis for axis, n in enumerate(shape) if n == 1]
        if any(shape[axis] != 1 for axis in axes):
            raise call.error(ShapeError, "only axes of size 1 can be removed", f"axes {axes} of shape {shape}")
        return tuple(n for axis, n in enumerate(shape) if axis not in axes)


class Unsqueeze(Reshaping):
    """Insert axes of size 1. The given axes are positions in the output's shape."""

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
    """Axes of a Squeeze or Unsqueeze as the model gives them: an attribute up to opset 12, an input from 13 on. None:
    no axes are given."""
    if call.opset < 13:
        return call.attribute("axes")
    return call.integers(1, "axes") if call.has(1) else None


def _axes(call: Call, rank: int) -> list[int] | None:
    """Axes of a Squeeze or Unsqueeze as non-negative numbers. None: no axes are given.

    Raises:
        ShapeError: an axis does not exist or is named twice.
    """
    given = _given_axes(call)
    if given is None:
        return None
    axes = [normalize_axis(call, axis, rank) for axis in given]
    if len(set(axes)) != len(axes):
        raise call.error(ShapeError, "each axis is named once", f"axes {given} of {rank}")
    return axes


class Identity(Operator):
    """Return the input unchanged."""

    type = "Identity"
    per_example = True

    def shapes(self, call: Call) -> list[Spec]:
        return [call.spec(0)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [call.input(0)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        return grads


class Transpose(Operator):
    """Permute the axes: output axis i is input axis perm[i]. Without perm, the order of the axes is reversed."""

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
    """Permute the axes of x: axis i of the result is axis perm[i] of x.

    If the permuted memory order is one of the layouts, the result is a view of the same memory; otherwise it is a
    row-major copy. The transpose (N, H, W, C) -> (N, C, H, W) in networks from TensorFlow needs no copy: its result is
    channels-last.
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
    """A constant tensor stored in the node's attribute."""

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
