"""Strides of dense arrays, and merging of axes: describe a strided array with as few axes as possible."""

from __future__ import annotations

import math
from collections.abc import Sequence

Axis = tuple[int, ...]


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a dense array in C order (slowest axis first)."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def merge_axes(shape: Sequence[int], *strides: Sequence[int], order_of: int | None = None) -> list[Axis]:
    """Merge adjacent axes that are contiguous with each other in all operands, and drop axes of size 1.

    Args:
        shape: sizes, slowest axis first.
        strides: for each operand, its strides in elements.
        order_of: index of an operand; before merging, sort the axes by its strides, largest first. None: keep the order
            of `shape`.

    Returns:
        For each remaining axis, slowest first: (size, stride of the first operand, stride of the second, ...).
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
