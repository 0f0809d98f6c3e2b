"""Sums over axes, as the gradients of broadcasting and of biases need them."""

from __future__ import annotations

from cconv.ops.operator import Lowering
from cconv.ops.tensor import Layout, Tensor


def sum_to(lower: Lowering, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`tensor` summed to a shape that broadcasts to its own: the gradient of that broadcasting.

    Args:
        tensor: any layout.
        shape: aligned with the tensor's at the last axis; each size is the tensor's or 1.

    Returns:
        A tensor of `shape` in the tensor's layout where the rank stays, else row-major; the tensor itself, or
        its memory under another shape, where there is nothing to sum.
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
    _emit(lower, tensor, result, [0 if n == 1 else stride for n, stride in zip(padded, strides)])
    return result


def channel_sums(lower: Lowering, tensor: Tensor) -> Tensor:
    """Sum of each channel of (N, C, ...), any layout, as (C,): the gradient of a bias."""
    channels = tensor.shape[1]
    result = lower.tensor((channels,))
    strides = [int(axis == 1 and channels > 1) for axis in range(len(tensor.shape))]
    _emit(lower, tensor, result, strides)
    return result


def _emit(lower: Lowering, source: Tensor, target: Tensor, target_strides: list[int]) -> None:
    step = lower.kernels.reduce.Sum(source.shape, source.strides, target_strides)
    partials = lower.tensor((step.partials,), name="partial sums") if step.partials else None
    lower.emit(step, reads=[source], writes=[target, partials])
