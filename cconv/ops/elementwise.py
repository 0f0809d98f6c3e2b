"""Helpers that emit elementwise steps. They take tensors and handle broadcasting, layouts and dtypes.

    binary, unary, scaled    floating-point numbers, in the plan's dtype
    typed                    any loop of kernels/elementwise/typed.h; the operands have the loop's dtypes
    whole                    integers of any width
    cast                     conversion between dtypes

Inside a plan all floating-point tensors have the plan's dtype. Integers and bools keep their own. Integer arithmetic is
done in 64 bits and the result is narrowed, which gives the same bits; see kernels/elementwise/typed.h.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import cconv.kernels.elementwise.elementwise as elementwise
import cconv.kernels.elementwise.typed as typed_kernel
from cconv.errors import DTypeError, ShapeError
from cconv.ops.operator import Call, Lowering
from cconv.ops.tensor import Layout, Tensor

BOOL = np.dtype(bool)
LONG = np.dtype(np.int64)


def is_real(dtype: np.dtype) -> bool:
    """Whether `dtype` is floating-point, bfloat16 included. A plan computes all of these in its own dtype."""
    return bool(np.issubdtype(dtype, np.floating)) or dtype.name == "bfloat16"


def require_real(call: Call, i: int) -> None:
    """Check that input i holds floating-point numbers.

    Raises:
        DTypeError: it does not.
    """
    if not is_real(call.spec(i).dtype):
        raise call.error(DTypeError, f"input {i} holds floating-point numbers", str(call.spec(i).dtype))


def is_whole(dtype: np.dtype) -> bool:
    """Whether `dtype` is an integer dtype. bool is not."""
    return bool(np.issubdtype(dtype, np.integer))


def broadcast_shape(call: Call) -> tuple[int, ...]:
    """The common shape to which all inputs of a node broadcast.

    Raises:
        ShapeError: the shapes cannot be broadcast together.
    """
    shapes = [call.spec(i).shape for i in range(len(call.specs))]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise call.error(
            ShapeError,
            "sizes of the inputs' axes, aligned at the last, are equal or 1",
            f"shapes {' and '.join(map(str, shapes))}",
        ) from None


def aligned(
    lower: Lowering, operands: Sequence[Tensor]
) -> tuple[tuple[int, ...], Layout, list[Tensor], list[list[int]]]:
    """Prepare operands for an elementwise step with broadcasting.

    Returns:
        shape: the result's shape.
        layout: the result's layout. It is channels-last if an operand of the result's shape is channels-last; if no
            operand has that shape, if one of the result's rank is.
        operands: those of the result's rank converted to that layout.
        strides: for each operand, its strides along the result's axes, slowest axis in memory first.
    """
    shape = np.broadcast_shapes(*(t.shape for t in operands))
    alike = [t for t in operands if t.shape == shape] or [t for t in operands if len(t.shape) == len(shape)]
    last = any(t.layout is Layout.CHANNELS_LAST for t in alike)
    layout = Layout.CHANNELS_LAST if last else Layout.ROW_MAJOR
    fitted = [lower.as_layout(t, layout) if len(t.shape) == len(shape) else t for t in operands]
    rank = len(shape)
    order = (0, *range(2, rank), 1) if last else tuple(range(rank))
    return shape, layout, fitted, [_strides(t, order) for t in fitted]


def _strides(operand: Tensor, order: Sequence[int]) -> list[int]:
    """The operand's strides along the result's axes, in the order `order`. 0 for an axis along which the operand is
    repeated."""
    missing = len(order) - len(operand.shape)
    strides = [0] * missing + [s if n > 1 else 0 for n, s in zip(operand.shape, operand.strides)]
    return [strides[axis] for axis in order]


def binary(lower: Lowering, kind: str, x: Tensor, y: Tensor) -> Tensor:
    """Emit z = x op y with broadcasting. `kind` names a loop of kernels/elementwise/elementwise.h."""
    shape, layout, (x, y), strides = aligned(lower, (x, y))
    z = lower.tensor(shape, layout)
    if x.shape == y.shape:
        step = elementwise.Binary(lower.build, kind, z.size)
    else:
        step = elementwise.Broadcast(lower.build, kind, z.memory_shape, *strides)
    lower.emit(step, reads=[x, y], writes=[z], inplace=x.shape == shape)
    return z


def unary(lower: Lowering, kind: str, x: Tensor, a: float = 0.0, b: float = 0.0) -> Tensor:
    """Emit y = f(x; a, b). `kind` names a loop of kernels/elementwise/elementwise.h."""
    y = lower.tensor(x.shape, x.layout)
    lower.emit(elementwise.Unary(lower.build, kind, x.size, a, b), reads=[x], writes=[y], inplace=True)
    return y


def scaled(lower: Lowering, x: Tensor, factor: float) -> Tensor:
    """Emit factor * x. Returns x itself if factor is 1."""
    return x if factor == 1 else unary(lower, "scale", x, factor)


def typed(lower: Lowering, kind: str, operands: Sequence[Tensor], dtype: np.dtype | None = None) -> Tensor:
    """Emit a function of one to three operands with broadcasting.

    Args:
        kind: name of a loop of kernels/elementwise/typed.h.
        operands: tensors of the dtypes that the loop takes.
        dtype: dtype of the result; None: the plan's.
    """
    shape, layout, operands, strides = aligned(lower, operands)
    z = lower.tensor(shape, layout, dtype)
    lower.emit(typed_kernel.Map(lower.build, kind, z.memory_shape, *strides), reads=operands, writes=[z])
    return z


def wide(dtype: np.dtype) -> np.dtype:
    """The 64-bit dtype in which arithmetic on integers of `dtype` is done: uint64 or int64."""
    return np.dtype(np.uint64) if np.issubdtype(dtype, np.unsignedinteger) else LONG


def whole(lower: Lowering, kind: str, operands: Sequence[Tensor]) -> Tensor:
    """Emit a function of integer tensors. The result has the dtype of the first.

    Args:
        kind: name of a loop of kernels/elementwise/typed.h, without the dtype at its end.
    """
    dtype = operands[0].dtype
    inside = wide(dtype)
    return cast(lower, typed(lower, f"{kind}_{inside}", [cast(lower, x, inside) for x in operands], inside), dtype)


def cast(lower: Lowering, x: Tensor, dtype: np.dtype) -> Tensor:
    """Emit a conversion of x to another dtype, with the rules of C.

    Floating-point numbers are truncated towards 0, integers that do not fit wrap around, and bool(x) is x != 0. A cast
    between floating-point dtypes returns x itself, as a plan has only one floating-point dtype.
    """
    dtype = lower.dtype if is_real(dtype) else dtype
    if x.dtype == dtype:
        return x
    kind = f"cast_{_name(x.dtype)}_{_name(dtype)}"
    if kind not in typed_kernel.formulas(lower.build):
        return cast(lower, cast(lower, x, LONG), dtype)
    return typed(lower, kind, [x], dtype)


def _name(dtype: np.dtype) -> str:
    return "real" if is_real(dtype) else dtype.name
