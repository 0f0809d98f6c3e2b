"""Slice, Split, Expand, Tile: operators that copy a strided view of the input. They keep the input's layout.

The gradient of Slice and Split copies dy into a strided view of dx. The gradient of Expand and Tile sums dy over the
axes along which the input was repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

import cconv.kernels.reduce.reduce as reduce
from cconv.errors import ModelError, ShapeError, ValueRangeError
from cconv.kernels.move.copy import Copy, Fill
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.reduce import sum_to
from cconv.ops.tensor import Layout, Spec, Tensor


def copy(
    lower: Lowering,
    x: Tensor,
    y: Tensor,
    shape: Sequence[int],
    source: tuple[Sequence[int], int],
    target: tuple[Sequence[int], int],
    others: Tensor | None = None,
) -> None:
    """Emit a step that copies an array of `shape` from x to y.

    Args:
        source: (strides, offset) of the array within x, in elements.
        target: (strides, offset) of the array within y, in elements.
        others: y itself if an earlier step has written elements of y that must be kept; None if this step writes all
            of y.
    """
    step = Copy(
        lower.build,
        shape,
        source[0],
        target[0],
        itemsize=y.dtype.itemsize,
        source_offset=source[1],
        target_offset=target[1],
    )
    lower.emit(step, reads=[x], updates=[others] if others else [], writes=[] if others else [y])


def zeros(lower: Lowering, shape: Sequence[int], layout: Layout, dtype: np.dtype) -> Tensor:
    """Allocate a tensor and emit a step that fills it with zeros."""
    y = lower.tensor(shape, layout, dtype)
    lower.emit(Fill(lower.build, y.size, bytes(dtype.itemsize)), writes=[y])
    return y


class StridedPart:
    """A strided part of an array. Along each axis it has the indices first, first + step, first + 2 * step, ...

    Attributes:
        first: index of the first element along each axis.
        step: distance between elements along each axis; may be negative.
        shape: number of elements along each axis.
    """

    def __init__(self, first: Sequence[int], step: Sequence[int], shape: Sequence[int]) -> None:
        self.first, self.step, self.shape = tuple(first), tuple(step), tuple(shape)

    def view(self, whole: Tensor) -> tuple[list[int], int]:
        """(strides, offset) of the part within the tensor `whole`, in elements."""
        strides = [stride * step for stride, step in zip(whole.strides, self.step)]
        offset = sum(stride * first for stride, first in zip(whole.strides, self.first))
        return strides, offset if 0 not in self.shape else 0

    def keeps_examples(self, shape: Sequence[int]) -> bool:
        """Whether the part contains every index of axis 0 of an array of this shape, in ascending order."""
        return self.shape[:1] == tuple(shape[:1]) != () and self.step[0] > 0

    def taken(self, lower: Lowering, x: Tensor) -> Tensor:
        """Copy this part of x to a new tensor in x's layout. If the part is all of x, return x itself."""
        if self.shape == x.shape and all(step > 0 for step in self.step):
            return x
        y = lower.tensor(self.shape, x.layout, x.dtype)
        copy(lower, x, y, y.shape, self.view(x), (y.strides, 0))
        return y

    def placed(self, lower: Lowering, dy: Tensor, shape: Sequence[int]) -> Tensor:
        """The gradient of `taken`: a tensor of `shape` that is dy in this part and 0 elsewhere."""
        if self.shape == tuple(shape) and all(step > 0 for step in self.step):
            return dy
        dx = zeros(lower, shape, dy.layout, dy.dtype)
        copy(lower, dy, dx, dy.shape, (dy.strides, 0), self.view(dx), dx)
        return dx


class Slice(Operator):
    """x[starts[0]:ends[0]:steps[0], ...] along `axes`. Starts and ends outside of an axis are clamped to it.

    Up to opset 9, starts, ends and axes are attributes, and there are no steps. From opset 10 on, all four are inputs,
    whose values must be known before the model runs.
    """

    type = "Slice"
    inputs = (1, 5)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def part(self, call: Call) -> StridedPart:
        shape = call.spec(0).shape
        if call.opset < 10:
            starts, ends = call.attribute("starts"), call.attribute("ends")
            axes, steps = call.attribute("axes"), None
            if starts is None or ends is None:
                raise call.error(ModelError, "the attributes starts and ends are required", "one is missing")
        else:
            starts, ends, axes, steps = (
                call.integers(i, name) if call.has(i) or i < 3 else None
                for i, name in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps"))
            )
        axes = list(range(len(starts))) if axes is None else axes
        axes = [normalize_axis(call, axis, len(shape)) for axis in axes]
        steps = [1] * len(axes) if steps is None else steps
        found = f"starts {starts}, ends {ends}, axes {axes}, steps {steps}"
        if not len(starts) == len(ends) == len(axes) == len(steps) or len(set(axes)) != len(axes):
            raise call.error(ShapeError, "starts, ends, steps have an entry for each axis, each named once", found)
        if 0 in steps:
            raise call.error(ValueRangeError, "no step is 0", found)
        ranges = [range(n) for n in shape]
        for axis, start, end, step in zip(axes, starts, ends, steps):
            ranges[axis] = ranges[axis][_bounds(start, end, step, shape[axis])]
        return StridedPart([r.start for r in ranges], [r.step for r in ranges], [len(r) for r in ranges])

    def shapes(self, call: Call) -> list[Spec]:
        return [Spec(self.part(call).shape, call.spec(0).dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.part(call).keeps_examples(call.spec(0).shape)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [self.part(call).taken(lower, call.input(0))]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        dx = self.part(call).placed(lower, grads[0], call.spec(0).shape)
        return [dx, *[None] * (len(call.specs) - 1)]


def _bounds(start: int, end: int, step: int, size: int) -> slice:
    """Convert start and end of an ONNX Slice to a Python slice, clamped to an axis of `size` elements.

    With a negative step, ONNX's end can mean "before element 0". In a Python slice that is None.
    """
    start, end = (n + size if n < 0 else n for n in (start, end))
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(start, end if end >= 0 else None, step) if size else slice(0, 0, step)


class Split(Operator):
    """Split the input along `axis` into parts of given or of equal sizes.

    The sizes are an attribute up to opset 12, and from opset 13 on an input whose value must be known before the model
    runs. Without sizes the parts are equal. From opset 18 on, the last parts may be smaller, or empty, if the axis is
    not divisible by the number of parts.
    """

    type = "Split"
    inputs = (1, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def axis(self, call: Call) -> int:
        return normalize_axis(call, call.attribute("axis", 0), len(call.spec(0).shape))

    def sizes(self, call: Call) -> list[int]:
        """Size of each part along the axis.

        Raises:
            ShapeError: the sizes do not add up to the axis, or their number is not the number of outputs.
        """
        total, count = call.spec(0).shape[self.axis(call)], call.output_count
        sizes = call.attribute("split") if call.opset < 13 else None
        if call.has(1):
            sizes = call.integers(1, "split")
        if sizes is None:
            stated = call.attribute("num_outputs", count)
            if stated != count or (call.opset < 18 and total % count):
                found = f"num_outputs {stated}, {count} outputs, axis of {total}"
                raise call.error(ShapeError, "there is an output for each of num_outputs equal parts", found)
            each = -(-total // count)
            sizes = [min(each, max(0, total - i * each)) for i in range(count)]
        if len(sizes) != count or any(n < 0 for n in sizes) or sum(sizes) != total:
            found = f"{sizes}, {count} outputs, axis of {total}"
            raise call.error(ShapeError, "split has a size for each output, and they add up to the axis", found)
        return sizes

    def parts(self, call: Call) -> list[StridedPart]:
        axis, shape = self.axis(call), call.spec(0).shape
        result, before = [], 0
        for n in self.sizes(call):
            first = [before if i == axis else 0 for i in range(len(shape))]
            result.append(StridedPart(first, [1] * len(shape), (*shape[:axis], n, *shape[axis + 1 :])))
            before += n
        return result

    def shapes(self, call: Call) -> list[Spec]:
        return [Spec(part.shape, call.spec(0).dtype) for part in self.parts(call)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.axis(call) != 0

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [part.taken(lower, call.input(0)) for part in self.parts(call)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, parts = call.input(0), self.parts(call)
        absent = [None] * (len(call.specs) - 1)
        if len(parts) == 1:
            return [grads[0], *absent]
        some = next(grad for grad in grads if grad is not None)
        # If an output has no gradient, its part of dx must be 0, so dx is filled with zeros first.
        whole = all(grad is not None or part.shape[self.axis(call)] == 0 for grad, part in zip(grads, parts))
        written = None if whole else zeros(lower, x.shape, some.layout, some.dtype)
        dx = written or lower.tensor(x.shape, some.layout, some.dtype)
        for grad, part in zip(grads, parts):
            if grad is not None:
                copy(lower, grad, dx, part.shape, (grad.strides, 0), part.view(dx), written)
                written = dx
        return [dx, *absent]


class Expand(Operator):
    """Broadcast the input to a shape. Axes of size 1 and missing leading axes are repeated."""

    type = "Expand"
    since = 8
    inputs = (2, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def shapes(self, call: Call) -> list[Spec]:
        spec, target = call.spec(0), tuple(call.integers(1, "the shape"))
        try:
            return [Spec(np.broadcast_shapes(spec.shape, target), spec.dtype)]
        except ValueError:
            found = f"{target} for an input of shape {spec.shape}"
            raise call.error(ShapeError, "sizes, aligned at the last axis, are the input's or 1", found) from None

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        before, after = call.spec(0).shape, call.results[0].shape
        return set(moving) == {0} and len(before) == len(after) and before[:1] == after[:1]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, shape = call.input(0), call.results[0].shape
        if shape == x.shape:
            return [x]
        missing = len(shape) - len(x.shape)
        y = lower.tensor(shape, Layout.ROW_MAJOR if missing else x.layout, x.dtype)
        strides = [0] * missing + [0 if n == 1 else stride for n, stride in zip(x.shape, x.strides)]
        copy(lower, x, y, shape, (strides, 0), (y.strides, 0))
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return [sum_to(lower, grads[0], call.spec(0).shape), None]


class Tile(Operator):
    """Repeat the whole input repeats[axis] times along each axis."""

    type = "Tile"
    inputs = (2, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def repeats(self, call: Call) -> list[int]:
        shape, repeats = call.spec(0).shape, call.integers(1, "repeats")
        if len(repeats) != len(shape) or any(n < 0 for n in repeats):
            found = f"{repeats} for an input of shape {shape}"
            raise call.error(ShapeError, "repeats has an entry for each axis, none negative", found)
        return repeats

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        return [Spec(tuple(n * times for n, times in zip(spec.shape, self.repeats(call))), spec.dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.repeats(call)[:1] == [1]

    def split(self, call: Call, whole: Tensor, part: Tensor) -> tuple[list[int], list[int], list[int]]:
        """View the tiled array with each axis split into two, (repeats, size).

        Returns:
            The sizes of these axes, their strides in the tiled array `whole`, and their strides in one tile `part`,
            where the stride along a repeats axis is 0.
        """
        sizes, of_whole, of_part = [], [], []
        for n, times, outer, inner in zip(part.shape, self.repeats(call), whole.strides, part.strides):
            sizes += [times, n]
            of_whole += [outer * n, outer]
            of_part += [0, inner]
        return sizes, of_whole, of_part

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        if all(times == 1 for times in self.repeats(call)):
            return [x]
        y = lower.tensor(call.results[0].shape, x.layout, x.dtype)
        sizes, of_whole, of_part = self.split(call, y, x)
        copy(lower, x, y, sizes, (of_part, 0), (of_whole, 0))
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        dy = grads[0]
        assert dy is not None
        if all(times == 1 for times in self.repeats(call)):
            return [dy, None]
        dx = lower.tensor(call.spec(0).shape, dy.layout, dy.dtype)
        step = reduce.Reduce(lower.build, "sum", *self.split(call, dy, dx))
        partials = lower.tensor((step.partials,), name="partial sums") if step.partials else None
        lower.emit(step, reads=[dy], writes=[dx, partials])
        return [dx, None]


OPERATORS: list[Operator] = [Slice(), Split(), Expand(), Tile()]
