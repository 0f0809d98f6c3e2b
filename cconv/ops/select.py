"""TopK, Trilu, OneHot, CumSum, CumProd: operators that work along an axis or depend on the position of an element."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

import cconv.kernels.move.index as index
import cconv.kernels.reduce.scan as scan
from cconv.errors import DTypeError, ShapeError, UnsupportedOpError
from cconv.kernels.core.element import KINDS
from cconv.ops.elementwise import binary, is_real, typed
from cconv.ops.gather import Addressing, element_kind
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.reduce import sum_to
from cconv.ops.strided import zeros
from cconv.ops.tensor import Layout, Spec, Tensor


def around(x: Tensor, axis: int) -> tuple[int, int, int]:
    """Number of elements before an axis, along it and after it, in the order of x's memory."""
    place = x.order.index(axis)
    return math.prod(x.memory_shape[:place]), x.shape[axis], math.prod(x.memory_shape[place + 1 :])


def require_number(call: Call, i: int) -> str:
    """The kernels' name for the dtype of input i: one of KINDS.

    Raises:
        UnsupportedOpError: the dtype is neither floating-point nor int32 nor int64.
    """
    kind = element_kind(call.spec(i).dtype)
    if kind not in KINDS:
        raise call.error(UnsupportedOpError, "takes floating-point numbers, int32 or int64", f"{call.spec(i).dtype}")
    return kind


class TopK(Operator):
    """The k largest or smallest elements along `axis`, and their indices.

    k is an attribute up to opset 9, and from opset 10 on an input that must be known before the model runs. The
    elements are always sorted, whatever the attribute `sorted` says. Equal elements are in the order of their indices.
    """

    type = "TopK"
    inputs = (1, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def axis(self, call: Call) -> int:
        return normalize_axis(call, call.attribute("axis", -1), len(call.spec(0).shape))

    def shapes(self, call: Call) -> list[Spec]:
        spec, axis = call.spec(0), self.axis(call)
        require_number(call, 0)
        k = np.asarray(call.attribute("k", -1) if call.opset < 10 else call.constant(1, "k")).reshape(-1)
        if k.size != 1 or not 0 <= k[0] <= spec.shape[axis]:
            raise call.error(ShapeError, f"k is one number in 0..{spec.shape[axis]}", f"{k.tolist()}")
        shape = (*spec.shape[:axis], int(k[0]), *spec.shape[axis + 1 :])
        return [Spec(shape, spec.dtype), Spec(shape, np.dtype(np.int64))]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.axis(call) != 0

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, axis, shape = call.input(0), self.axis(call), call.results[0].shape
        values, places = (lower.tensor(shape, x.layout, dtype) for dtype in (x.dtype, np.int64))
        largest = bool(call.attribute("largest", 1))
        step = scan.TopK(lower.build, *around(x, axis), shape[axis], largest, require_number(call, 0))
        lower.emit(step, reads=[x], writes=[values, places])
        call.saved["places"] = places
        return [values, places][: call.output_count]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        absent = [None] * (len(call.specs) - 1)
        if grads[0] is None:  # Only the indices were used, which have no gradient.
            return [None, *absent]
        x, places = call.input(0), call.saved["places"]
        dy = lower.as_layout(grads[0], x.layout)
        outer, size, inner = around(x, self.axis(call))
        k = call.results[0].shape[self.axis(call)]
        addressing = Addressing((outer, k, inner), (size * inner, 0, 1), (size,), (inner,), 1, outer)
        dx = zeros(lower, x.shape, x.layout, dy.dtype)
        row = Tensor(places.buffer, (places.size,), places.dtype)
        return [addressing.put(lower, dy, addressing.places(lower, row), dx), *absent]


class Trilu(Operator):
    """Keep the upper or lower triangle of each matrix, bounded by diagonal k. Elements outside of it become 0."""

    type = "Trilu"
    since = 14
    inputs = (1, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def shapes(self, call: Call) -> list[Spec]:
        self.diagonal(call)
        return [self.require_rank(call, 0, 2, 64, "(..., rows, columns)")]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and len(call.spec(0).shape) > 2

    def diagonal(self, call: Call) -> int:
        if not call.has(1):
            return 0
        k = call.constant(1, "the diagonal")
        if k.dtype.kind not in "iu" or k.size != 1:
            raise call.error(DTypeError, "input 1 (k) is one integer", f"{k.dtype} of shape {k.shape}")
        return int(k.item())

    def mask(self, call: Call) -> np.ndarray:
        """Bool array (rows, columns): True for the elements of a matrix that are kept."""
        rows, columns = call.spec(0).shape[-2:]
        k = min(max(self.diagonal(call), -rows - columns), rows + columns)
        distance = np.arange(columns) - np.arange(rows)[:, None]
        return distance >= k if call.attribute("upper", 1) else distance <= k

    def masked(self, lower: Lowering, call: Call, x: Tensor) -> Tensor:
        mask = lower.external(np.ascontiguousarray(self.mask(call)), "triangle")
        nothing = lower.external(np.zeros((), x.dtype), "0")
        return typed(lower, f"select_{x.dtype.itemsize}", [mask, x, nothing], x.dtype)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [self.masked(lower, call, call.input(0))]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return [self.masked(lower, call, grads[0]), *[None] * (len(call.specs) - 1)]


class OneHot(Operator):
    """Insert an axis of size `depth`, with values[1] at the given index and values[0] elsewhere.

    An index outside of the axis gives values[0] everywhere. The gradient of each of the two values is the sum of dy
    over the elements that hold it.
    """

    type = "OneHot"
    since = 9
    inputs = (3, 3)
    differentiable: ClassVar[tuple[int, ...] | None] = (2,)
    settings: ClassVar[tuple[int, ...]] = (2,)

    def axis(self, call: Call) -> int:
        rank = len(call.spec(0).shape)
        return normalize_axis(call, call.attribute("axis", -1), rank + 1)

    def shapes(self, call: Call) -> list[Spec]:
        shape, axis, depth = call.spec(0).shape, self.axis(call), call.constant(1, "the depth").reshape(-1)
        if depth.size != 1 or not 1 <= depth[0] < 2**31:
            raise call.error(ShapeError, "the depth is one positive number", f"{depth.tolist()}")
        if call.spec(2).shape != (2,):
            raise call.error(ShapeError, "values are (2,), off and on", f"shape {call.spec(2).shape}")
        require_number(call, 0)
        return [Spec((*shape[:axis], int(depth[0]), *shape[axis:]), call.spec(2).dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.axis(call) != 0

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [self.of(lower, call, call.input(2))]

    def of(self, lower: Lowering, call: Call, values: Tensor) -> Tensor:
        indices = lower.as_layout(call.input(0), Layout.ROW_MAJOR)
        y = lower.tensor(call.results[0].shape, dtype=values.dtype)
        step = index.OneHot(lower.build, *around(y, self.axis(call)), require_number(call, 0), y.dtype.itemsize)
        lower.emit(step, reads=[indices, values], writes=[y])
        return y

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        dy = lower.as_layout(grads[0], Layout.ROW_MAJOR).reshaped((1, grads[0].size))
        numbers = lower.external(np.array([0, 1], lower.dtype), "off and on")
        which = self.of(lower, call, numbers).reshaped(dy.shape)
        own = binary(lower, "equal", which, numbers.reshaped((2, 1)))
        return [None, None, sum_to(lower, binary(lower, "mul", own, dy), (2, 1)).reshaped((2,))]


class CumSum(Operator):
    """Running sums along an axis. The axis is an input that must be known before the model runs."""

    type = "CumSum"
    since = 11
    inputs = (2, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)
    product = False

    def shapes(self, call: Call) -> list[Spec]:
        axis = call.constant(1, "the axis")
        if axis.size != 1 or not np.issubdtype(axis.dtype, np.integer):
            raise call.error(DTypeError, "the axis is one integer", f"{axis.dtype} of shape {axis.shape}")
        require_number(call, 0)
        self.axis(call)
        return [call.spec(0)]

    def axis(self, call: Call) -> int:
        axis = call.constant(1, "the axis").reshape(-1)[0]
        return normalize_axis(call, int(axis), len(call.spec(0).shape))

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.axis(call) != 0

    def running(
        self, lower: Lowering, call: Call, x: Tensor, backwards: bool, product: bool = False, inclusive: bool = False
    ) -> Tensor:
        """Emit running sums or products of x along the node's axis.

        Args:
            backwards: whether to run in the direction opposite to the node's (attribute `reverse`).
            product: products instead of sums.
            inclusive: whether to ignore the node's attribute `exclusive`, so that each sum includes its own element.
        """
        exclusive = bool(call.attribute("exclusive", 0)) and not inclusive
        reverse = bool(call.attribute("reverse", 0))
        y = lower.tensor(x.shape, x.layout, x.dtype)
        kind = "real" if is_real(x.dtype) else str(x.dtype)
        way = exclusive, reverse != backwards, kind, product
        step = scan.Cumulative(lower.build, *around(x, self.axis(call)), *way)
        lower.emit(step, reads=[x], writes=[y])
        return y

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [self.running(lower, call, call.input(0), False, self.product)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return [self.running(lower, call, grads[0], backwards=True), None]


class CumProd(CumSum):
    """Running products along an axis.

    With y the running products, and sum() a running sum in the opposite direction, the gradient is

        dx = sum(dy * y) / x       where x is not 0 (y is 0 from the first 0 of x on)
        dx = sum(dy * y')          at the first 0 of x, where y' are the products with this 0 replaced by 1
        dx = 0                     at every later 0 of x
    """

    type = "CumProd"
    since = 26
    product = True

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, dy, y = call.input(0), grads[0], call.outputs[0]
        assert dy is not None
        zero = lower.external(np.zeros((), lower.dtype), "0")
        one = lower.external(np.ones((), lower.dtype), "1")
        zeros_of_x = binary(lower, "equal", x, zero)
        count = self.running(lower, call, zeros_of_x, False, inclusive=True)
        first = binary(lower, "mul", zeros_of_x, binary(lower, "equal", count, one))
        total = self.running(lower, call, binary(lower, "mul", dy, y), True)
        others = binary(lower, "div", total, binary(lower, "add", x, zeros_of_x))
        filled = self.running(lower, call, binary(lower, "add", x, first), False, product=True)
        at_first = self.running(lower, call, binary(lower, "mul", dy, filled), True)
        return [binary(lower, "add", others, binary(lower, "mul", first, at_first)), None]


OPERATORS: list[Operator] = [TopK(), Trilu(), OneHot(), CumSum(), CumProd()]
