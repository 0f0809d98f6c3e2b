"""Helpers that emit sums and other reductions over axes, for operators, broadcast gradients and bias gradients."""

from __future__ import annotations

import math
from collections.abc import Collection

import cconv.kernels.reduce.reduce as reduce
from cconv.kernels.move.copy import Copy
from cconv.ops.operator import Lowering
from cconv.ops.tensor import Layout, Tensor


def sum_to(lower: Lowering, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum `tensor` down to `shape`: the gradient of broadcasting from `shape` to the tensor's shape.

    Args:
        tensor: any layout.
        shape: result shape, aligned with the tensor's at the last axis; each size is the tensor's or 1.

    Returns:
        A tensor of `shape`, in the tensor's layout if the rank does not change, else row-major. If there is nothing to
        sum, the tensor itself or a reshaped view of its memory.
    """
    missing = len(tensor.shape) - len(shape)
    padded = (1,) * missing + tuple(shape)
    assert missing >= 0 and all(n in (1, m) for n, m in zip(padded, tensor.shape)), (tensor.shape, shape)
    if padded == tensor.shape:
        if missing == 0:
            return tensor
        return lower.as_layout(tensor, Layout.ROW_MAJOR).reshaped(shape)
    result = lower.tensor(shape, Layout.ROW_MAJOR if missing else tensor.layout)
    strides = (0,) * missing + result.strides
    _emit(lower, "sum", tensor, result, [0 if n == 1 else stride for n, stride in zip(padded, strides)])
    return result


def channel_sums(lower: Lowering, tensor: Tensor) -> Tensor:
    """Sum a tensor (N, C, ...) of any layout over all axes but the channels, to (C,): the gradient of a bias."""
    channels = tensor.shape[1]
    result = lower.tensor((channels,))
    strides = [int(axis == 1 and channels > 1) for axis in range(len(tensor.shape))]
    _emit(lower, "sum", tensor, result, strides)
    return result


def reduced(lower: Lowering, kind: str, tensor: Tensor, axes: Collection[int]) -> Tensor:
    """Reduce a tensor along `axes`. These axes stay, with size 1; the layout does not change.

    Args:
        kind: an operation of kernels/reduce/reduce.h: "sum", "prod", "max" or "min".
    """
    if all(tensor.shape[axis] == 1 for axis in axes):
        return tensor
    result = lower.tensor([1 if axis in axes else n for axis, n in enumerate(tensor.shape)], tensor.layout)
    _emit(lower, kind, tensor, result, [0 if axis in axes else s for axis, s in enumerate(result.strides)])
    return result


def extent(shape: tuple[int, ...], axes: Collection[int]) -> int:
    """Number of elements along `axes`: the product of their sizes."""
    return math.prod(shape[axis] for axis in axes)


def without(lower: Lowering, tensor: Tensor, axes: Collection[int]) -> Tensor:
    """Remove axes of size 1. The result is a view of the same memory if the remaining axes are in the order of a
    layout; otherwise the tensor is copied."""
    remaining = [axis for axis in range(len(tensor.shape)) if axis not in axes]
    shape = tuple(tensor.shape[axis] for axis in remaining)
    for layout in Layout if len(shape) >= 3 else [Layout.ROW_MAJOR]:
        view = Tensor(tensor.buffer, shape, tensor.dtype, layout)
        if all(n == 1 or tensor.strides[axis] == s for axis, n, s in zip(remaining, shape, view.strides)):
            return view
    return lower.as_layout(tensor, Layout.ROW_MAJOR).reshaped(shape)


def repeated(lower: Lowering, tensor: Tensor, shape: tuple[int, ...], layout: Layout) -> Tensor:
    """Repeat a tensor along its axes of size 1, up to `shape`: the gradient of a sum over these axes."""
    if tensor.shape == shape:
        return tensor
    result = lower.tensor(shape, layout)
    tensor = lower.as_layout(tensor, layout)
    strides = [0 if n == 1 else stride for n, stride in zip(tensor.shape, tensor.strides)]
    step = Copy(lower.build, shape, strides, result.strides, itemsize=result.dtype.itemsize)
    lower.emit(step, reads=[tensor], writes=[result])
    return result


def _emit(lower: Lowering, kind: str, source: Tensor, target: Tensor, target_strides: list[int]) -> None:
    step = reduce.Reduce(lower.build, kind, source.shape, source.strides, target_strides)
    partials = lower.tensor((step.partials,), name="partial results") if step.partials else None
    lower.emit(step, reads=[source], writes=[target, partials])
