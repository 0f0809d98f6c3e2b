"""Elementwise steps as functions of tensors: broadcasting, layouts and dtypes, for operators to compose.

    binary, unary, scaled    real numbers, in the plan's dtype
    typed                    a loop of kernels/typed.h, on operands of its dtype
    whole                    integers of any width
    cast                     from any dtype to any

Inside a plan all floating-point tensors have the plan's dtype; integers and bools have their own. Whole numbers are
computed in 64 bits and narrowed afterwards, which gives the same bits; see kernels/typed.h.
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
    """Whether it is one of the floating-point dtypes that a plan computes in its own."""
    return bool(np.issubdtype(dtype, np.floating)) or dtype.name == "bfloat16"


def require_real(call: Call, i: int) -> None:
    """Input i is real.

    Raises:
        DTypeError: it is not.
    """
    if not is_real(call.spec(i).dtype):
        raise call.error(DTypeError, f"input {i} holds floating-point numbers", str(call.spec(i).dtype))


def is_whole(dtype: np.dtype) -> bool:
    """Whether it is one of the integers, bool not among them."""
    return bool(np.issubdtype(dtype, np.integer))


def broadcast_shape(call: Call) -> tuple[int, ...]:
    """The shape that broadcasting gives all of a node's inputs.

    Raises:
        ShapeError: they do not fit.
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
    """What broadcasting makes of the operands.

    Returns:
        The result's shape and layout (channels-last if an operand of its shape, or else of its rank, is), the operands
        in a layout that suits, and each one's strides along the result's axes in the order of the result's memory.
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
    """The operand's strides along a result's axes, taken in `order`; 0 where it is repeated."""
    missing = len(order) - len(operand.shape)
    strides = [0] * missing + [s if n > 1 else 0 for n, s in zip(operand.shape, operand.strides)]
    return [strides[axis] for axis in order]


def binary(lower: Lowering, kind: str, x: Tensor, y: Tensor) -> Tensor:
    """z = x op y with broadcasting; `kind` is a loop of kernels/elementwise.h."""
    shape, layout, (x, y), strides = aligned(lower, (x, y))
    z = lower.tensor(shape, layout)
    if x.shape == y.shape:
        step = elementwise.Binary(lower.build, kind, z.size)
    else:
        step = elementwise.Broadcast(lower.build, kind, z.memory_shape, *strides)
    lower.emit(step, reads=[x, y], writes=[z], inplace=x.shape == shape)
    return z


def unary(lower: Lowering, kind: str, x: Tensor, a: float = 0.0, b: float = 0.0) -> Tensor:
    """y = f(x; a, b); `kind` is a loop of kernels/elementwise.h."""
    y = lower.tensor(x.shape, x.layout)
    lower.emit(elementwise.Unary(lower.build, kind, x.size, a, b), reads=[x], writes=[y], inplace=True)
    return y


def scaled(lower: Lowering, x: Tensor, factor: float) -> Tensor:
    """factor * x."""
    return x if factor == 1 else unary(lower, "scale", x, factor)


def typed(lower: Lowering, kind: str, operands: Sequence[Tensor], dtype: np.dtype | None = None) -> Tensor:
    """f of one to three operands with broadcasting.

    Args:
        kind: a loop of kernels/typed.h, whose dtypes the operands have.
        dtype: of the result; None: the plan's.
    """
    shape, layout, operands, strides = aligned(lower, operands)
    z = lower.tensor(shape, layout, dtype)
    lower.emit(typed_kernel.Map(lower.build, kind, z.memory_shape, *strides), reads=operands, writes=[z])
    return z


def wide(dtype: np.dtype) -> np.dtype:
    """The dtype that integers of `dtype` are computed in."""
    return np.dtype(np.uint64) if np.issubdtype(dtype, np.unsignedinteger) else LONG


def whole(lower: Lowering, kind: str, operands: Sequence[Tensor]) -> Tensor:
    """f of integers, in the first one's dtype; `kind` names the function in kernels/typed.h."""
    dtype = operands[0].dtype
    inside = wide(dtype)
    return cast(lower, typed(lower, f"{kind}_{inside}", [cast(lower, x, inside) for x in operands], inside), dtype)


def cast(lower: Lowering, x: Tensor, dtype: np.dtype) -> Tensor:
    """x in another dtype, as C converts: real numbers are cut off, integers that do not fit wrap, bool(x) is x != 0.

    Between floating-point dtypes nothing happens: a plan has one of them.
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
