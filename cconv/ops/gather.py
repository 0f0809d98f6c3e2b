"""Gather, GatherElements, GatherND, Compress, ReverseSequence: read elements at positions given by indices.

A first step turns indices into offsets in memory, called places. If the indices are known before the model runs, the
places are a table made with the plan. A second step copies a run of contiguous elements from each place; see
kernels/move/index.pyx. The backward pass adds the runs of dy to the places that they came from, in the order of the
indices.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cconv.errors import DTypeError, ModelError, ShapeError, ValueRangeError
from cconv.kernels.core.axes import dense_strides
from cconv.kernels.move.index import Offsets, Put, Reversed, Take
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.strided import StridedPart, copy, zeros
from cconv.ops.tensor import Layout, Spec, Tensor


@dataclass(frozen=True)
class Addressing:
    """How indices address runs of contiguous elements in an array.

    Each point of a grid selects one run. Its place, the offset of the run's first element in the array, is

        sum over grid axes of position * strides  +  sum over the point's indices of index * steps

    Attributes:
        grid: sizes of the grid's axes.
        strides: for each grid axis, the offset in elements between neighbouring points. 0 if only the index matters.
        sizes: for each index of a point, the size of the axis that it indexes.
        steps: for each index of a point, the stride of that axis in elements.
        length: elements per run.
        outer: number of groups of runs. Runs of different groups never overlap, so that groups can be written in
            parallel. If not `shared`, the groups are consecutive parts of the grid. If `shared`, every group uses the
            places of the whole grid, moved by `stride` elements from group to group.
    """

    grid: tuple[int, ...]
    strides: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    length: int
    outer: int = 1
    stride: int = 0
    shared: bool = False

    @property
    def groups(self) -> int:
        """Number of places in each group."""
        count = math.prod(self.grid)
        return count if self.shared else count // max(1, self.outer)

    def places(self, lower: Lowering, indices: Tensor) -> Tensor:
        """Emit the step that computes the places, int64, from an index tensor (*grid, len(sizes))."""
        result = lower.tensor((math.prod(self.grid),), dtype=np.int64, name="places")
        step = Offsets(self.grid, self.strides, self.sizes, self.steps, indices.dtype.itemsize)
        lower.emit(step, reads=[lower.as_layout(indices, Layout.ROW_MAJOR)], writes=[result])
        return result

    def take(self, lower: Lowering, x: Tensor, places: Tensor, y: Tensor) -> Tensor:
        """Emit the step that copies the runs from x to y, one after the other. Returns y."""
        outer, groups = (self.outer, self.groups) if self.shared else (1, math.prod(self.grid))
        step = Take(outer, self.stride, groups, self.length, x.dtype.itemsize)
        lower.emit(step, reads=[x, places], writes=[y])
        return y

    def put(self, lower: Lowering, x: Tensor, places: Tensor, y: Tensor, reduction: str = "none") -> Tensor:
        """Emit the step that writes consecutive runs of x to their places in y. Returns y.

        Args:
            reduction: how a run is combined with the elements of y: "none" (overwrite), "add", "mul", "min" or "max".
        """
        kind = str(y.dtype.itemsize) if reduction == "none" else element_kind(y.dtype)
        step = Put(lower.build, reduction, self.outer, self.stride, self.groups, self.length, self.shared, kind)
        lower.emit(step, reads=[x, places], updates=[y])
        return y

    def added(
        self, lower: Lowering, dy: Tensor, places: Tensor, shape: Sequence[int], layout: Layout = Layout.ROW_MAJOR
    ) -> Tensor:
        """The gradient of `take`: a tensor of zeros of `shape` to which each run of dy is added at its place."""
        return self.put(lower, dy, places, zeros(lower, shape, layout, dy.dtype), "add")


def element_kind(dtype: np.dtype) -> str:
    """Name of a dtype in kernels that do arithmetic. It is one of KINDS if such kernels support the dtype."""
    return "real" if dtype.kind == "f" else str(dtype)


def require_indices(call: Call, i: int) -> Spec:
    """Shape and dtype of input i, which must hold int32 or int64.

    Raises:
        DTypeError: another dtype.
    """
    spec = call.spec(i)
    if spec.dtype not in (np.int32, np.int64):
        raise call.error(DTypeError, f"input {i} holds indices, int32 or int64", str(spec.dtype))
    return spec


class Gather(Operator):
    """y[before axis, *indices' axes, after axis] = x[before axis, indices[...], after axis]."""

    type = "Gather"
    inputs = (2, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def axis(self, call: Call, rank: int) -> int:
        return normalize_axis(call, call.attribute("axis", 0), rank)

    def known(self, call: Call) -> np.ndarray | None:
        """The indices as non-negative numbers, if they are known before the model runs, else None.

        Raises:
            ValueRangeError: an index is outside of the axis.
        """
        if call.constants[1] is None:
            return None
        indices = call.constant(1, "the indices").astype(np.int64)
        shape = self.shape(call)
        size = shape[self.axis(call, len(shape))]
        outside = indices[(indices < -size) | (indices >= size)]
        if outside.size:
            found = f"index {outside[0]} for an input of shape {shape}"
            raise call.error(ValueRangeError, f"indices lie in {-size}..{size - 1}", found)
        return np.where(indices < 0, indices + size, indices)

    def shape(self, call: Call) -> tuple[int, ...]:
        """Shape of the input as it is indexed. Compress may flatten the input."""
        return call.spec(0).shape

    def source(self, lower: Lowering, call: Call, x: Tensor) -> Tensor:
        """x in the layout in which it is indexed. If the indices have rank 1, the output has the input's rank, and any
        layout works. Otherwise x must be row-major."""
        return x if len(self.index_shape(call)) == 1 else lower.as_layout(x, Layout.ROW_MAJOR)

    def index_shape(self, call: Call) -> tuple[int, ...]:
        return require_indices(call, 1).shape

    def shapes(self, call: Call) -> list[Spec]:
        shape, indices = self.shape(call), self.index_shape(call)
        if not shape:
            raise call.error(ShapeError, "input 0 has at least one axis", f"shape {shape}")
        axis = self.axis(call, len(shape))
        self.known(call)
        return [Spec((*shape[:axis], *indices, *shape[axis + 1 :]), call.spec(0).dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.axis(call, len(self.shape(call))) != 0

    def addressing(self, call: Call, x: Tensor) -> Addressing:
        """How the indices address x, the result of `source`."""
        place = x.order.index(self.axis(call, len(x.shape)))
        sizes, grid = x.memory_shape, self.index_shape(call)
        inner, outer = math.prod(sizes[place + 1 :]), math.prod(sizes[:place])
        size = sizes[place]
        return Addressing(grid, (0,) * len(grid), (size,), (inner,), inner, outer, size * inner, shared=True)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        indices = self.known(call)
        shape = call.results[0].shape
        if indices is not None and indices.ndim == 0:
            x, y = call.input(0), lower.tensor(shape, dtype=call.input(0).dtype)
            part = self.slice(call, int(indices))
            copy(lower, x, y, part.shape, part.view(x), (self.with_axis(call, y.strides), 0))
            return [y]
        x = self.source(lower, call, call.input(0))
        addressing = self.addressing(call, x)
        if indices is not None:
            places = lower.external(np.ascontiguousarray(indices.reshape(-1) * addressing.length), "places")
        else:
            places = addressing.places(lower, call.input(1))
        call.saved.update(places=places, x=x)
        return [addressing.take(lower, x, places, lower.tensor(shape, x.layout, x.dtype))]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        dy, indices = grads[0], self.known(call)
        assert dy is not None
        absent = [None] * (len(call.specs) - 1)
        if indices is not None and indices.ndim == 0:
            dy = lower.as_layout(dy, Layout.ROW_MAJOR)
            dx = zeros(lower, call.spec(0).shape, Layout.ROW_MAJOR, dy.dtype)
            part = self.slice(call, int(indices))
            copy(lower, dy, dx, part.shape, (self.with_axis(call, dy.strides), 0), part.view(dx), dx)
            return [dx, *absent]
        x = call.saved["x"]
        dy = lower.as_layout(dy, x.layout)
        dx = self.addressing(call, x).added(lower, dy, call.saved["places"], x.shape, x.layout)
        return [dx if dx.shape == call.spec(0).shape else dx.reshaped(call.spec(0).shape), *absent]

    def slice(self, call: Call, index: int) -> StridedPart:
        """The part of the input that a single index selects. The indexed axis stays, with size 1."""
        shape = call.spec(0).shape
        axis = self.axis(call, len(shape))
        first = [index if i == axis else 0 for i in range(len(shape))]
        return StridedPart(first, [1] * len(shape), [1 if i == axis else n for i, n in enumerate(shape)])

    def with_axis(self, call: Call, strides: tuple[int, ...]) -> tuple[int, ...]:
        """Insert a stride of 0 for the indexed axis, which the result of a scalar index does not have."""
        axis = self.axis(call, len(strides) + 1)
        return (*strides[:axis], 0, *strides[axis:])


class Compress(Gather):
    """Select the indices along `axis` at which the condition is true; without `axis`, elements of the flattened input.

    The condition must be known before the model runs, because the output's shape depends on it.
    """

    type = "Compress"
    since = 9

    def flat(self, call: Call) -> bool:
        return call.attribute("axis") is None

    def shape(self, call: Call) -> tuple[int, ...]:
        spec = call.spec(0)
        return (spec.size,) if self.flat(call) else spec.shape

    def known(self, call: Call) -> np.ndarray:
        condition = call.constant(1, "the condition")
        size = self.shape(call)[self.axis(call, len(self.shape(call)))]
        if condition.ndim != 1 or condition.dtype != bool or condition.size > size:
            found = f"{condition.dtype} of shape {condition.shape}"
            raise call.error(ShapeError, f"the condition is a row of at most {size} bools", found)
        return np.flatnonzero(condition)

    def index_shape(self, call: Call) -> tuple[int, ...]:
        return self.known(call).shape

    def source(self, lower: Lowering, call: Call, x: Tensor) -> Tensor:
        return lower.as_layout(x, Layout.ROW_MAJOR).reshaped((x.size,)) if self.flat(call) else x


class ByPlaces(Operator):
    """Base class of operators whose row-major output consists of runs of the input, each read at a place."""

    inputs = (2, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def addressing(self, call: Call) -> Addressing:
        raise NotImplementedError

    def places(self, lower: Lowering, call: Call) -> Tensor:
        return self.addressing(call).places(lower, call.input(1))

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = lower.as_layout(call.input(0), Layout.ROW_MAJOR)
        call.saved["places"] = places = self.places(lower, call)
        y = lower.tensor(call.results[0].shape, dtype=x.dtype)
        return [self.addressing(call).take(lower, x, places, y)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        dy = lower.as_layout(grads[0], Layout.ROW_MAJOR)
        return [self.addressing(call).added(lower, dy, call.saved["places"], call.spec(0).shape), None]


class GatherElements(ByPlaces):
    """y[i, j, k] = x[i, indices[i, j, k], k] for axis = 1: the index replaces the position along `axis`."""

    type = "GatherElements"
    since = 11

    def shapes(self, call: Call) -> list[Spec]:
        return [Spec(element_addressing(call).grid, call.spec(0).dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0, 1} and normalize_axis(call, call.attribute("axis", 0), len(call.spec(0).shape)) != 0

    def addressing(self, call: Call) -> Addressing:
        return element_addressing(call)


def element_addressing(call: Call) -> Addressing:
    """Addressing of GatherElements and ScatterElements: input 1 indexes single elements of input 0 along `axis`.

    Raises:
        ShapeError: the ranks differ, or the index array is longer than the input along an axis other than `axis`.
        ValueRangeError: an index known before the model runs is outside of the axis. The check is made here because
            onnx's reference implementation can take hours to find such an index.
    """
    shape, grid = call.spec(0).shape, require_indices(call, 1).shape
    axis = normalize_axis(call, call.attribute("axis", 0), len(shape))
    others = [i for i in range(len(shape)) if i != axis]
    if len(grid) != len(shape) or any(grid[i] > shape[i] for i in others):
        raise call.error(
            ShapeError,
            f"the indices have the input's axes, none longer but axis {axis}",
            f"an input of shape {shape}, indices of shape {grid}",
        )
    indices = call.constants[1]
    if indices is not None and ((indices < -shape[axis]) | (indices >= shape[axis])).any():
        raise call.error(ValueRangeError, f"indices lie in {-shape[axis]}..{shape[axis] - 1}", "an index outside")
    strides = dense_strides(shape)
    steps, base = (strides[axis],), tuple(0 if i == axis else stride for i, stride in enumerate(strides))
    return Addressing(grid, base, (shape[axis],), steps, 1, outer=math.prod(grid[:axis]))


class GatherND(ByPlaces):
    """y[batch, i, ...] = x[batch, *indices[batch, i, :], ...]. `batch` stands for the first batch_dims axes."""

    type = "GatherND"
    since = 11

    def batch(self, call: Call) -> int:
        return call.attribute("batch_dims", 0)

    def shapes(self, call: Call) -> list[Spec]:
        spec, indices, batch = call.spec(0), require_indices(call, 1).shape, self.batch(call)
        found = f"an input of shape {spec.shape}, indices of shape {indices}, batch_dims {batch}"
        if not indices or not 0 <= batch < min(len(spec.shape), len(indices)):
            raise call.error(ShapeError, "input and indices have more axes than batch_dims", found)
        if spec.shape[:batch] != indices[:batch]:
            raise call.error(ShapeError, "the first batch_dims axes are equal in input and indices", found)
        if not 1 <= indices[-1] <= len(spec.shape) - batch:
            raise call.error(ShapeError, "the indices' last axis holds one index per indexed axis", found)
        return [Spec(indices[:-1] + spec.shape[batch + indices[-1] :], spec.dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0, 1} and self.batch(call) > 0

    def addressing(self, call: Call) -> Addressing:
        return nd_addressing(call, self.batch(call))


def nd_addressing(call: Call, batch: int) -> Addressing:
    """Addressing of GatherND and ScatterND: each row along the last axis of input 1 indexes a run of input 0.

    Args:
        batch: number of leading axes that input 0 and the indices share.
    """
    shape, indices = call.spec(0).shape, call.spec(1).shape
    strides, named, grid = dense_strides(shape), slice(batch, batch + indices[-1]), indices[:-1]
    base = strides[:batch] + (0,) * (len(grid) - batch)
    length = math.prod(shape[named.stop :])
    return Addressing(grid, base, shape[named], strides[named], length, outer=math.prod(grid[:batch]))


class ReverseSequence(ByPlaces):
    """Reverse the first sequence_lens[b] elements of each sequence b along time_axis. The others stay in place."""

    type = "ReverseSequence"
    since = 10

    def axes(self, call: Call) -> tuple[int, int]:
        """(time_axis, batch_axis)."""
        axes = call.attribute("time_axis", 0), call.attribute("batch_axis", 1)
        if sorted(axes) != [0, 1]:
            raise call.error(ModelError, "time_axis and batch_axis are 0 and 1, either way", f"{axes}")
        return axes

    def shapes(self, call: Call) -> list[Spec]:
        spec, lengths = self.require_rank(call, 0, 2, 64, "(time, batch, ...) or (batch, time, ...)"), call.spec(1)
        if require_indices(call, 1).shape != (spec.shape[self.axes(call)[1]],):
            found = f"{lengths.shape} for an input of shape {spec.shape}"
            raise call.error(ShapeError, "sequence_lens holds one length for each sequence", found)
        return [spec]

    def addressing(self, call: Call) -> Addressing:
        shape = call.spec(0).shape
        return Addressing(shape[:2], dense_strides(shape)[:2], (), (), math.prod(shape[2:]), math.prod(shape[:2]))

    def places(self, lower: Lowering, call: Call) -> Tensor:
        addressing, lengths = self.addressing(call), call.input(1)
        grid = dense_strides(addressing.grid)
        time, batch = ((grid[i], addressing.grid[i], addressing.strides[i]) for i in self.axes(call))
        places = lower.tensor((math.prod(addressing.grid),), dtype=np.int64, name="places")
        step = Reversed(addressing.grid, addressing.strides, time, batch, lengths.dtype.itemsize)
        lower.emit(step, reads=[lengths], writes=[places])
        return places


OPERATORS: list[Operator] = [Gather(), GatherElements(), GatherND(), Compress(), ReverseSequence()]
