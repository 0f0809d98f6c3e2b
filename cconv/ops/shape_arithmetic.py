"""Operators that are gone once the plan is made: Shape, Size, Range, ConstantOfShape, EyeLike, NonZero.

Shape, Size and EyeLike read no values, and a plan knows all shapes. Range, ConstantOfShape and NonZero have outputs
whose shape depends on values, so these must be known before the model runs. None of them has steps or a gradient.
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
    """Base: `values` tells the output, from the input's shape or from inputs that the shape rule has settled."""

    differentiable: ClassVar[tuple[int, ...] | None] = ()

    def value(self, call: Call) -> np.ndarray:
        """The output. Its shape and dtype are those of `shapes`."""
        raise NotImplementedError

    def fold(self, call: Call) -> list[np.ndarray]:
        return [self.value(call)]


class Shape(Known):
    """The sizes of the input's axes start..end-1 (from opset 15 on; all before)."""

    type = "Shape"

    def value(self, call: Call) -> np.ndarray:
        start, end = call.attribute("start", 0), call.attribute("end")
        return np.array(call.spec(0).shape[start:end], LONG)

    def shapes(self, call: Call) -> list[Spec]:
        call.read_by_shape_rule.add(0)
        return [Spec(self.value(call).shape, LONG)]


class Size(Known):
    """The number of the input's elements."""

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
    """Ones on the diagonal k of a matrix of the input's shape, in the attribute's dtype or the input's."""

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
    """start, start + delta, ... as long as limit is not reached."""

    type = "Range"
    since = 11
    inputs = (3, 3)

    def limits(self, call: Call) -> tuple[np.ndarray, np.ndarray, int]:
        """start, delta, and how many numbers there are."""
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
    """The attribute's one value (0.0 without it) in the shape that the input holds."""

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
    """The indices of the elements that are not 0, an axis a row, in row-major order; a scalar counts as (1,)."""

    type = "NonZero"
    since = 9

    def value(self, call: Call) -> np.ndarray:
        return np.array(np.nonzero(np.atleast_1d(call.constant(0, "the data"))), LONG)

    def shapes(self, call: Call) -> list[Spec]:
        return [Spec(self.value(call).shape, LONG)]


def numpy_dtype(call: Call, number: int) -> np.dtype:
    """The dtype that an attribute names by ONNX's number.

    Raises:
        UnsupportedOpError: one that NumPy has not.
    """
    from onnx import helper

    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, ValueError, TypeError):
        raise call.error(UnsupportedOpError, "dtype is one that NumPy has", f"number {number}") from None


OPERATORS = [Shape(), Size(), EyeLike(), Range(), ConstantOfShape(), NonZero()]
