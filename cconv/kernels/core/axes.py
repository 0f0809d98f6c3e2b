"""Axes of arrays with strides: fewer of them describe the same elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

Axis = tuple[int, ...]


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements between neighbours along each axis of a dense array, slowest axis first."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def merge_axes(shape: Sequence[int], *strides: Sequence[int], order_of: int | None = None) -> list[Axis]:
    """Merge neighbouring axes that all operands step through alike, and drop axes of size 1.

    Args:
        shape: sizes, slowest axis first.
        strides: for each operand the elements between neighbours along each axis.
        order_of: first sort the axes by the strides of this operand, largest first; None: keep the order of `shape`.

    Returns:
        (size, stride of the first operand, stride of the second, ...) of each axis that is left, slowest first.
    """
    axes = [axis for axis in zip(shape, *strides) if axis[0] != 1]
    if order_of is not None:
        axes.sort(key=lambda axis: -axis[1 + order_of])
    merged: list[Axis] = []
    for n, *steps in axes:
        if merged and all(outer == n * step for outer, step in zip(merged[-1][1:], steps)):
            merged[-1] = (merged[-1][0] * n, *steps)
        else:
            merged.append((n, *steps))
    return merged
