"""Shape, Size, Range, ConstantOfShape, EyeLike, NonZero: operators whose outputs are constants of the plan.

Shape, Size and EyeLike read only the input's shape, and a plan knows all shapes. The output shape of Range,
ConstantOfShape and NonZero depends on input values, so these must be known before the model runs. None of these
operators has steps or a gradient.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from cconv.errors import ModelError, ShapeError, UnsupportedOpError, ValueRangeError
from cconv.ops.operator import Call, Operator
from cconv.ops.tensor import Spec

LONG = np.dtype(np.int64)


class Known(Operator):
    """Base class of operators whose output is computed when the plan is made, by the method `value`."""

    differentiable: ClassVar[tuple[int, ...] | None] = ()

    def value(self, call: Call) -> np.ndarray:
        """Compute the output. It has the shape and dtype that `shapes` returns."""
        raise NotImplementedError

    def fold(self, call: Call) -> list[np.ndarray]:
        return [self.value(call)]


class Shape(Known):
    """Sizes of the input's axes start..end-1. Up to opset 14, sizes of all axes."""

    type = "Shape"

    def value(self, call: Call) -> np.ndarray:
        start, end = call.attribute("start", 0), call.attribute("end")
        return np.array(call.spec(0).shape[start:end], LONG)

    def shapes(self, call: Call) -> list[Spec]:
        call.read_by_shape_rule.add(0)
        return [Spec(self.value(call).shape, LONG)]


class Size(Known):
    """Number of elements of the input."""

    type = "Size"

    def value(self, call: Call) -> np.ndarray:
        return np.array(call.spec(0).size, LONG)

    def shapes(self, call: Call) -> list[Spec]:
        x, most = call.spec(0), np.iinfo(LONG).max
        if x.size > most:
            raise call.error(ShapeError, f"elements are counted up to {most}", f"shape {x.shape}")
        call.read_by_shape_rule.add(0)
        return [Spec((), LONG)]


class EyeLike(Known):
    """A matrix of the input's shape with ones on diagonal k and zeros elsewhere. Its dtype is that of the attribute
    dtype, or without it the input's."""

    type = "EyeLike"
    since = 9

    def value(self, call: Call) -> np.ndarray:
        spec = call.results[0]
        return np.eye(spec.shape[0], spec.shape[1], k=call.attribute("k", 0), dtype=spec.dtype)

    def shapes(self, call: Call) -> list[Spec]:
        call.read_by_shape_rule.add(0)
        spec = self.require_rank(call, 0, 2, 2, "(rows, columns)")
        dtype = call.attribute("dtype")
        return [Spec(spec.shape, spec.dtype if dtype is None else numpy_dtype(call, dtype))]


class Range(Known):
    """The sequence start, start + delta, ... up to but not including limit."""

    type = "Range"
    since = 11
    inputs = (3, 3)

    def limits(self, call: Call) -> tuple[np.ndarray, np.ndarray, int]:
        """(start, delta, number of elements)."""
        names = ("start", "limit", "delta")
        for i, name in enumerate(names):
            if call.constant(i, name).size != 1:
                found = f"{name} of shape {call.spec(i).shape}"
                raise call.error(ShapeError, "start, limit and delta are one number each", found)
        start, limit, delta = (call.constant(i, name).reshape(()) for i, name in enumerate(names))
        found = f"start {start}, limit {limit}, delta {delta}"
        if delta == 0 or not np.all(np.isfinite([start, limit, delta])):
            raise call.error(ValueRangeError, "the numbers are finite, and delta is not 0", found)
        width = limit.item() - start.item()
        count = math.ceil(width / delta.item()) if start.dtype.kind == "f" else -(-width // delta.item())
        return start, delta, max(0, count)

    def value(self, call: Call) -> np.ndarray:
        start, delta, count = self.limits(call)
        return (start + np.arange(count) * delta).astype(start.dtype)

    def shapes(self, call: Call) -> list[Spec]:
        start, _, count = self.limits(call)
        return [Spec((count,), start.dtype)]


class ConstantOfShape(Known):
    """A tensor filled with the attribute's value (default: 0.0). Its shape is given by the input's values."""

    type = "ConstantOfShape"
    since = 9

    def filler(self, call: Call) -> np.ndarray:
        value = np.asarray(call.attribute("value", np.zeros(1, np.float32)))
        if value.size != 1:
            raise call.error(ModelError, "the attribute value holds one element", f"{value.size}")
        return value.reshape(())

    def value(self, call: Call) -> np.ndarray:
        return np.broadcast_to(self.filler(call), call.results[0].shape)

    def shapes(self, call: Call) -> list[Spec]:
        sizes = tuple(call.integers(0, "the shape"))
        if any(n < 0 for n in sizes):
            raise call.error(ShapeError, "sizes are not negative", f"{sizes}")
        return [Spec(sizes, self.filler(call).dtype)]


class NonZero(Known):
    """Indices of the elements that are not 0, as an array (rank, number of elements), in row-major order.

    A scalar input is treated as an array of shape (1,).
    """

    type = "NonZero"
    since = 9

    def value(self, call: Call) -> np.ndarray:
        return np.array(np.nonzero(np.atleast_1d(call.constant(0, "the data"))), LONG)

    def shapes(self, call: Call) -> list[Spec]:
        return [Spec(self.value(call).shape, LONG)]


def numpy_dtype(call: Call, number: int) -> np.dtype:
    """The NumPy dtype for ONNX's dtype number.

    Raises:
        UnsupportedOpError: NumPy does not have the dtype.
    """
    from onnx import helper

    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, ValueError, TypeError):
        raise call.error(UnsupportedOpError, "dtype is one that NumPy has", f"number {number}") from None


OPERATORS = [Shape(), Size(), EyeLike(), Range(), ConstantOfShape(), NonZero()]
