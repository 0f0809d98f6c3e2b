"""Resize and Upsample: change the size of feature maps by interpolation along each axis.

Each output position along an axis has a coordinate in the input (coordinate_transformation_mode). The output is a
weighted sum of input positions around this coordinate, called taps (mode). Taps and weights are a table per axis, made
with the plan; see kernels/move/resample.pyx.

Weights are computed in double precision. In mode nearest the coordinates are computed in float32, as in other
frameworks: a file holds scales in float32, and 3 / 0.6f is meant to be exactly 5.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

import cconv.kernels.move.pad as pad
from cconv.errors import ModelError, ShapeError, UnsupportedOpError, ValueRangeError
from cconv.kernels.move.copy import Fill
from cconv.kernels.move.resample import Resample
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.strided import StridedPart, copy
from cconv.ops.tensor import Spec, Tensor, natural_layout

# coordinate_transformation_mode: the opset that introduced it.
COORDINATES = {
    "half_pixel": 11,
    "pytorch_half_pixel": 11,
    "align_corners": 11,
    "asymmetric": 10,
    "tf_half_pixel_for_nn": 11,
    "tf_crop_and_resize": 11,
    "half_pixel_symmetric": 19,
}
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class TapTable:
    """The taps of each output position along one axis. Position i has the taps bounds[i] .. bounds[i + 1] - 1.

    Attributes:
        source: size of the input axis.
        bounds: index of the first tap of each output position, and at the end the number of taps.
        index: for each tap, its position in the input.
        weight: for each tap, its weight.
    """

    source: int
    bounds: np.ndarray
    index: np.ndarray
    weight: np.ndarray

    @property
    def size(self) -> int:
        return len(self.bounds) - 1

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.bounds, self.index, self.weight

    @property
    def transposed(self) -> TapTable:
        """The table of the gradient: for each input position, the output positions that read it."""
        place = np.repeat(np.arange(self.size), np.diff(self.bounds))
        order = np.argsort(self.index, kind="stable")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(self.index, minlength=self.source))])
        return TapTable(self.size, bounds, place[order], self.weight[order])


def table_of(index: np.ndarray, weight: np.ndarray, source: int) -> TapTable:
    """Make a TapTable from arrays of taps.

    Indices outside of the axis are clamped to it. Taps of one output position that have the same index are added, and
    taps of weight 0 are dropped.

    Args:
        index: (output positions, taps per position) int64, positions in the input.
        weight: (output positions, taps per position) float64.
        source: size of the input axis.
    """
    place = np.arange(len(index))[:, None] * source
    taps, which = np.unique((place + np.clip(index, 0, source - 1)).reshape(-1), return_inverse=True)
    total = np.bincount(which, weights=weight.reshape(-1), minlength=len(taps))
    taps, total = taps[total != 0], total[total != 0]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(taps // source, minlength=len(index)))])
    return TapTable(source, bounds, taps % source, total)


class Axis(NamedTuple):
    """How one axis is resized.

    Attributes:
        source, size: size of the axis in the input and in the output.
        scale: size / source, before rounding.
        region: part of the input axis that is resized (tf_crop_and_resize only): 0 is its first position, 1 its last.
    """

    source: int
    size: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


def coordinates(axis: Axis, mode: str, dtype: type = np.float64) -> np.ndarray:
    """For each output position, its coordinate in the input, by the formulas of coordinate_transformation_mode."""
    place: np.ndarray = np.arange(axis.size, dtype=dtype)
    scale, half, one, last = dtype(axis.scale), dtype(0.5), dtype(1), dtype(axis.source - 1)
    # The output length in the formulas is scale * source, not rounded, as ONNX defines it. onnxruntime uses the rounded
    # size. A difference within float32 rounding of the scale is ignored: then the length is the size.
    length = dtype(axis.scale * axis.source)
    length = dtype(axis.size) if abs(length - axis.size) < 1e-4 * axis.size else length
    if mode == "asymmetric":
        return place / scale
    if mode == "align_corners":
        return place * 0 if length == 1 else place * last / (length - one)
    if mode == "pytorch_half_pixel" and length == 1:
        return place * 0 - half
    if mode == "tf_half_pixel_for_nn":
        return (place + half) / scale
    if mode == "tf_crop_and_resize":
        start, end = dtype(axis.region[0]), dtype(axis.region[1])
        if length == 1:
            return place * 0 + half * (start + end) * last
        return start * last + place * (end - start) * last / (length - one)
    x = (place + half) / scale - half
    return x + half * axis.source * (one - axis.size / length) if mode == "half_pixel_symmetric" else x


def nearest(x: np.ndarray, mode: str) -> np.ndarray:
    """Round each coordinate x to an input position, by the rule nearest_mode."""
    if mode in ("floor", "ceil"):
        return (np.floor(x) if mode == "floor" else np.ceil(x)).astype(np.int64)
    half = x.dtype.type(0.5)
    return (np.ceil(x - half) if mode == "round_prefer_floor" else np.floor(x + half)).astype(np.int64)


def triangle(distance: np.ndarray) -> np.ndarray:
    """Weights of linear interpolation at the given distances from the coordinate."""
    return np.maximum(0, 1 - np.abs(distance))


def cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Weights of cubic interpolation (R. Keys, "Cubic convolution interpolation", 1981) with the parameter a."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    return np.where(d <= 1, near, np.where(d < 2, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a, 0))


class Resampling(Operator):
    """Base class of Resize and Upsample, which resize some axes of input 0."""

    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def axes(self, call: Call) -> dict[int, Axis]:
        """The axes to resize. Axes that do not change are left out."""
        raise NotImplementedError

    def mode(self, call: Call) -> str:
        mode = call.attribute("mode", "nearest")
        return {"bilinear": "linear", "trilinear": "linear"}.get(mode, mode)

    def coordinate_mode(self, call: Call) -> str:
        return "asymmetric"

    def nearest_mode(self, call: Call) -> str:
        return "floor"

    def table(self, call: Call, axis: Axis, x: np.ndarray) -> TapTable:
        """TapTable of the taps around the coordinates x, with their weights."""
        mode = self.mode(call)
        if mode == "nearest":
            index = nearest(x, self.nearest_mode(call))[:, None]
            return table_of(index, np.ones(index.shape), axis.source)
        # If an axis shrinks and antialias=1, the weight function is widened by 1 / scale, so that no input position
        # between two coordinates is left out.
        stretch = min(axis.scale, 1.0) if call.attribute("antialias", 0) else 1.0
        reach = 1 if mode == "linear" else 2
        before = -math.floor(-reach / stretch) - 1
        first = np.ceil(x) - 1  # If both ends of the window are equally far from x, the left one is included.
        index = first[:, None] + np.arange(-before, before + 2)
        distance = (index - x[:, None]) * stretch
        a = float(call.attribute("cubic_coeff_a", -0.75))
        weight = triangle(distance) if mode == "linear" else cubic(distance, a)
        if call.attribute("exclude_outside", 0):
            weight = np.where((index < 0) | (index >= axis.source), 0, weight)
        total = weight.sum(axis=1, keepdims=True)
        weight = weight / np.where(total == 0, 1, total)
        return table_of(index.astype(np.int64), weight, axis.source)

    def tables(self, call: Call) -> tuple[dict[int, TapTable], StridedPart | None]:
        """A table for each axis to resize, and the part of the output that the resampled values fill.

        The part is None if they fill all of the output. With tf_crop_and_resize, elements outside of the part are
        extrapolated: they get the attribute extrapolation_value.
        """
        shape, result = list(call.results[0].shape), {}
        first = [0] * len(shape)
        for i, axis in self.axes(call).items():
            dtype = np.float32 if self.mode(call) == "nearest" else np.float64
            x = coordinates(axis, self.coordinate_mode(call), dtype)
            if self.coordinate_mode(call) == "tf_crop_and_resize":
                inside = np.flatnonzero((x >= 0) & (x <= axis.source - 1))
                first[i] = int(inside[0]) if inside.size else 0
                x = x[inside]
            result[i] = self.table(call, axis, x)
            shape[i] = len(x)
        part = StridedPart(first, [1] * len(shape), shape)
        return result, None if part.shape == call.results[0].shape else part

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        modes = ("nearest", "linear", "cubic") if call.opset >= 11 else ("nearest", "linear")
        mode = self.mode(call)
        if mode not in modes:
            raise call.error(UnsupportedOpError, f"the mode is one of {', '.join(modes)}", repr(mode))
        if mode != "nearest" and spec.dtype.kind != "f":
            raise call.error(UnsupportedOpError, "interpolates floating-point numbers", f"{spec.dtype}")
        axes = self.axes(call)
        if any(axis.size < 1 or axis.source < 1 for axis in axes.values()):
            found = f"sizes {[axis.size for axis in axes.values()]} from shape {spec.shape}"
            raise call.error(ShapeError, "resized axes have at least one element, before and after", found)
        return [Spec(tuple(axes[i].size if i in axes else n for i, n in enumerate(spec.shape)), spec.dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and 0 not in self.axes(call)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        tables, part = self.tables(call)
        x = call.input(0)
        if x.dtype.kind != "f":
            return [self.moved(lower, call, x, tables)]
        y = resampled(lower, x, tables)
        if part is None:
            return [y]
        whole = lower.tensor(call.results[0].shape, y.layout)
        value = np.asarray(call.attribute("extrapolation_value", 0.0), whole.dtype).tobytes()
        lower.emit(Fill(lower.build, whole.size, value), writes=[whole])
        copy(lower, y, whole, part.shape, (y.strides, 0), part.view(whole), whole)
        return [whole]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        tables, part = self.tables(call)
        dy = grads[0] if part is None else part.taken(lower, grads[0])
        turned = {axis: table.transposed for axis, table in reversed(tables.items())}
        return [resampled(lower, dy, turned), *[None] * (len(call.specs) - 1)]

    def moved(self, lower: Lowering, call: Call, x: Tensor, tables: Mapping[int, TapTable]) -> Tensor:
        """Mode nearest for dtypes that are not floating-point: copy elements without arithmetic."""
        if self.coordinate_mode(call) == "tf_crop_and_resize":
            raise call.error(UnsupportedOpError, "crops and resizes floating-point numbers", f"{x.dtype}")
        y = lower.tensor(call.results[0].shape, x.layout, x.dtype)
        places = [tables[axis].index.tolist() if axis in tables else list(range(x.shape[axis])) for axis in x.order]
        lower.emit(pad.Pad(lower.build, x.memory_shape, places, bytes(x.dtype.itemsize)), [x], [y])
        return y


def resampled(lower: Lowering, x: Tensor, tables: Mapping[int, TapTable]) -> Tensor:
    """Emit the steps that resample x along the axes that have a table, in the order of `tables`.

    One step resamples two axes if they are neighbours in memory.
    """
    if min(tables, default=0) >= 2:  # Only spatial axes are resized, so channels-last keeps channels contiguous.
        x = lower.as_layout(x, natural_layout(len(x.shape)))
    remaining = dict(tables)
    while remaining:
        axis = next(iter(remaining))
        place, table = x.order.index(axis), remaining.pop(axis)
        after = x.order[place + 1] if place + 1 < len(x.shape) else None
        column = remaining.pop(after) if after is not None and after in remaining else None
        sizes = x.memory_shape
        inner = sizes[place + 2 :] if column else sizes[place + 1 :]
        shape = list(x.shape)
        shape[axis] = table.size
        if column is not None and after is not None:
            shape[after] = column.size
        y = lower.tensor(shape, x.layout)
        step = Resample(
            lower.build,
            math.prod(sizes[:place]),
            table.source,
            table.arrays,
            column.source if column else 1,
            column.arrays if column else None,
            math.prod(inner),
        )
        lower.emit(step, reads=[x], writes=[y])
        x = y
    return x


class Resize(Resampling):
    """Resize. Inputs: x, a region (for tf_crop_and_resize), and scales or sizes. Up to opset 10: x and scales."""

    type = "Resize"
    since = 10
    inputs = (1, 4)

    def coordinate_mode(self, call: Call) -> str:
        mode = call.attribute("coordinate_transformation_mode", "half_pixel") if call.opset >= 11 else "asymmetric"
        if COORDINATES.get(mode, call.opset + 1) > call.opset:
            known = ", ".join(name for name, since in COORDINATES.items() if since <= call.opset)
            raise call.error(UnsupportedOpError, f"coordinate_transformation_mode is one of {known}", repr(mode))
        return mode

    def nearest_mode(self, call: Call) -> str:
        mode = call.attribute("nearest_mode", "round_prefer_floor") if call.opset >= 11 else "floor"
        if mode not in NEAREST:
            raise call.error(UnsupportedOpError, f"nearest_mode is one of {', '.join(NEAREST)}", repr(mode))
        return mode

    def axes(self, call: Call) -> dict[int, Axis]:
        shape = call.spec(0).shape
        if call.attribute("antialias", 0) and self.mode(call) == "nearest":
            raise call.error(UnsupportedOpError, "antialias is for the modes linear and cubic", "mode 'nearest'")
        self.nearest_mode(call)
        chosen = call.attribute("axes")
        chosen = range(len(shape)) if chosen is None else [normalize_axis(call, i, len(shape)) for i in chosen]
        scales = self.vector(call, 1 if call.opset < 11 else 2, "the scales", len(chosen))
        sizes = self.vector(call, 3, "the sizes", len(chosen)) if call.opset >= 11 else None
        if (scales is None) == (sizes is None):
            raise call.error(ModelError, "is given either scales or sizes", "both" if scales else "neither")
        regions = [(0.0, 1.0)] * len(chosen)
        crops = self.coordinate_mode(call) == "tf_crop_and_resize"
        if crops:
            flat = self.vector(call, 1, "the region", 2 * len(chosen))
            if flat is None:
                raise call.error(ModelError, "tf_crop_and_resize names a region (input 1)", "none")
            regions = list(zip(flat[: len(chosen)], flat[len(chosen) :]))
        source = [shape[i] for i in chosen]
        if sizes is not None:
            if not all(map(math.isfinite, sizes)):
                raise call.error(ValueRangeError, "the sizes are whole numbers", f"{sizes}")
            axes = self.by_sizes(call, source, [int(n) for n in sizes])
        else:
            axes = [scaled(call, n, scale) for n, scale in zip(source, scales or [])]
        return {
            i: axis._replace(region=region)
            for i, axis, region in zip(chosen, axes, regions)
            if axis.size != axis.source or (crops and region != (0, 1)) or not math.isclose(axis.scale, 1)
        }

    def by_sizes(self, call: Call, source: Sequence[int], sizes: Sequence[int]) -> list[Axis]:
        """Axes for given output sizes.

        With keep_aspect_ratio_policy "not_larger" or "not_smaller", all axes get the same scale: the smallest or the
        largest of the scales that the sizes stand for.
        """
        policy = call.attribute("keep_aspect_ratio_policy", "stretch")
        scales = [size / max(1, n) for size, n in zip(sizes, source)]
        if policy == "stretch":
            return [Axis(n, size, scale) for n, size, scale in zip(source, sizes, scales)]
        if policy not in ("not_larger", "not_smaller"):
            known = "stretch, not_larger, not_smaller"
            raise call.error(UnsupportedOpError, f"keep_aspect_ratio_policy is one of {known}", repr(policy))
        scale = min(scales) if policy == "not_larger" else max(scales)
        return [Axis(n, math.floor(scale * n + 0.5), scale) for n in source]

    def vector(self, call: Call, i: int, what: str, length: int) -> list[float] | None:
        """The numbers of input i. None if the input is absent or, as opset 11 writes an absent input, empty.

        Raises:
            ShapeError: the number of entries is not `length`.
            UnsupportedOpError: the values are known only at run time.
        """
        if not call.has(i) or call.spec(i).size == 0:
            return None
        values = [float(n) for n in call.constant(i, what).reshape(-1)]
        if len(values) != length:
            raise call.error(ShapeError, f"{what} have {length} entries", f"{values}")
        return values


class Upsample(Resampling):
    """Multiply the sizes of the axes by scales. The scales are an attribute up to opset 8 and an input in opset 9."""

    type = "Upsample"
    inputs = (1, 2)

    def axes(self, call: Call) -> dict[int, Axis]:
        shape = call.spec(0).shape
        values = call.attribute("scales", []) if call.opset < 9 else call.constant(1, "the scales").reshape(-1)
        scales = [float(scale) for scale in values]
        if len(scales) != len(shape):
            raise call.error(ShapeError, "there is a scale for each axis", f"{scales} for shape {shape}")
        axes = [scaled(call, n, scale) for n, scale in zip(shape, scales)]
        return {i: axis for i, axis in enumerate(axes) if axis.scale != 1}


def scaled(call: Call, n: int, scale: float) -> Axis:
    """The axis that results from scaling size n. The new size is computed in float32, as in onnx's own shape rule.

    Raises:
        ValueRangeError: the scale is not a positive finite number, or the new size overflows float32.
    """
    if not 0 < scale < math.inf:
        raise call.error(ValueRangeError, "scales are positive numbers", f"{scale}")
    with np.errstate(over="ignore"):
        size = np.float32(n) * np.float32(scale)
    if not np.isfinite(size):
        raise call.error(ValueRangeError, "a size times its scale is a number of float32", f"{n} times {scale}")
    return Axis(n, math.floor(size), scale)


OPERATORS: list[Operator] = [Resize(), Upsample()]
