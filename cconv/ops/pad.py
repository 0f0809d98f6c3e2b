"""Pad. For each axis, a table made with the plan maps output positions to input positions; see kernels/move/pad.pyx."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Literal, cast

import numpy as np

import cconv.kernels.move.pad as pad
from cconv.errors import DTypeError, ShapeError, UnsupportedOpError
from cconv.ops.elementwise import is_real, typed
from cconv.ops.operator import Call, Lowering, Operator, normalize_axis
from cconv.ops.reduce import sum_to
from cconv.ops.tensor import Spec, Tensor

# mode: the opset that introduced it.
MODES = {"constant": 7, "reflect": 7, "edge": 7, "wrap": 19}


class Pad(Operator):
    """Pad each axis at both ends. A negative pad crops.

    Pads and value are attributes up to opset 10 and inputs from opset 11 on. The pads must be known before the model
    runs. The axes are cropped before the rest is reflected, repeated (edge) or wrapped. The value may be computed at
    run time; its gradient is then the sum of dy over the padding.
    """

    type = "Pad"
    inputs = (1, 4)
    differentiable: ClassVar[tuple[int, ...] | None] = (0, 2)
    settings: ClassVar[tuple[int, ...]] = (2,)

    def pads(self, call: Call) -> list[tuple[int, int]]:
        """(pad at the beginning, pad at the end) of each axis."""
        rank = len(call.spec(0).shape)
        axes = list(range(rank))
        if call.opset < 11:
            flat = [int(n) for n in call.attribute("pads", call.attribute("paddings", []))]
        else:
            flat = call.integers(1, "pads")
            if call.has(3):
                axes = [normalize_axis(call, axis, rank) for axis in call.integers(3, "axes")]
        if len(flat) != 2 * len(axes) or len(set(axes)) != len(axes):
            found = f"{flat} for axes {axes}"
            raise call.error(ShapeError, "pads holds one begin, then one end for each axis", found)
        result = [(0, 0)] * rank
        for i, axis in enumerate(axes):
            result[axis] = flat[i], flat[len(axes) + i]
        return result

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return set(moving) == {0} and self.pads(call)[0] == (0, 0)

    def mode(self, call: Call) -> str:
        mode = call.attribute("mode", "constant")
        if MODES.get(mode, call.opset + 1) > call.opset:
            known = ", ".join(name for name, since in MODES.items() if since <= call.opset)
            raise call.error(UnsupportedOpError, f"the mode is one of {known}", repr(mode))
        return mode

    def shapes(self, call: Call) -> list[Spec]:
        spec, mode = call.spec(0), self.mode(call)
        if call.has(2):
            value = call.spec(2)
            if value.size != 1:
                raise call.error(ShapeError, "the value is one number", f"shape {value.shape}")
            if value.dtype != spec.dtype and not (is_real(spec.dtype) and is_real(value.dtype)):
                raise call.error(DTypeError, "the value has the input's dtype", f"{value.dtype} for {spec.dtype}")
        shape = []
        for axis, (n, (before, after)) in enumerate(zip(spec.shape, self.pads(call))):
            cropped = n + min(before, 0) + min(after, 0)
            size = n + before + after
            found = f"pads {before} and {after} on axis {axis} of shape {spec.shape}"
            if cropped < 0:
                raise call.error(ShapeError, "negative pads crop at most the whole axis", found)
            if mode != "constant" and cropped == 0 and size > 0:
                raise call.error(ShapeError, f"mode '{mode}' needs at least one element after cropping", found)
            if mode == "reflect" and max(before, after) >= max(cropped, 1):
                raise call.error(ShapeError, "mode 'reflect' pads less than the size of the axis", found)
            shape.append(size)
        return [Spec(tuple(shape), spec.dtype)]

    def tables(self, call: Call, x: Tensor) -> list[list[int]]:
        """For each axis, in the order of x's memory: the index in x for each index in y; -1 is the padding value."""
        pads, mode = self.pads(call), self.mode(call)
        tables = []
        for axis in x.order:
            before, after = pads[axis]
            n = x.shape[axis]
            places = np.arange(max(-before, 0), n - max(-after, 0))
            width = (max(before, 0), max(after, 0))
            if mode == "constant":
                tables.append(np.pad(places, width, constant_values=-1).tolist())
            elif places.size == 0:
                tables.append([])
            else:
                kind = cast(Literal["reflect", "edge", "wrap"], mode)
                tables.append(np.pad(places, width, mode=kind).tolist())
        return tables

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        if not any(before or after for before, after in self.pads(call)):
            return [x]
        computed = self.is_computed(call)
        value = call.attribute("value", 0.0) if call.opset < 11 else 0
        if call.has(2) and not computed and self.mode(call) == "constant":
            value = call.constant(2, "the value").item()
        y = lower.tensor(call.results[0].shape, x.layout, x.dtype)
        constant = np.asarray(value).astype(x.dtype).tobytes()
        lower.emit(pad.Pad(lower.build, x.memory_shape, self.tables(call, x), constant), [x], [y])
        if computed:
            scalar = Tensor(call.input(2).buffer, (), call.input(2).dtype)
            y = typed(lower, f"select_{y.dtype.itemsize}", [self.shown(lower, call), y, scalar], y.dtype)
        return [y]

    def is_computed(self, call: Call) -> bool:
        """Whether the padding value is used (mode constant) and computed at run time."""
        return call.has(2) and call.constants[2] is None and self.mode(call) == "constant"

    def shown(self, lower: Lowering, call: Call) -> Tensor:
        """A bool tensor of the output's shape: True for elements of the input, False for padding."""
        shape = call.results[0].shape
        mask = np.ones(shape, bool)
        for axis, (n, (before, after)) in enumerate(zip(shape, self.pads(call))):
            places = np.arange(n)
            inside = (places >= max(before, 0)) & (places < n - max(after, 0))
            mask &= inside.reshape([n if i == axis else 1 for i in range(len(shape))])
        return lower.external(mask, "what is not padding")

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x = call.input(0)
        assert grads[0] is not None
        result: list[Tensor | None] = [None] * len(call.specs)
        result[0] = dy = lower.as_layout(grads[0], x.layout)
        if any(before or after for before, after in self.pads(call)):
            result[0] = lower.tensor(x.shape, x.layout)
            lower.emit(pad.PadGradient(lower.build, x.memory_shape, self.tables(call, x)), [dy], [result[0]])
        if call.needs_gradient(2) and self.is_computed(call):
            zero = lower.external(np.zeros((), lower.dtype), "zero")
            padding = typed(lower, f"select_{dy.dtype.itemsize}", [self.shown(lower, call), zero, dy], dy.dtype)
            result[2] = sum_to(lower, padding, ()).reshaped(call.spec(2).shape)
        return result


OPERATORS = [Pad()]
