"""Tensor, what an operator sees of an array while a plan is laid out: shape, dtype and layout, no memory yet.

Layouts. Shapes are always ONNX's, channels on axis 1. In memory an array of rank 3 or more is either
row-major as ONNX has it, or channels-last: (N, spatial..., C). Convolutions, pooling and normalisation work
channels-last, where a pixel's channels are one run of vector loads; what works on any order keeps the order
it is given. So a network is converted once at its input and, where a Flatten needs it, once at its head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np


class Layout(Enum):
    """Order of the axes in memory, slowest first."""

    ROW_MAJOR = "row-major"
    CHANNELS_LAST = "channels-last"


@dataclass(frozen=True)
class Spec:
    """Shape and dtype of a value, as ONNX sees it."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(eq=False)
class Buffer:
    """A piece of memory that steps read and write: in the plan's arena, or, with `array`, outside of it."""

    nbytes: int
    name: str = ""
    array: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A dense array in a buffer.

    Attributes:
        shape: ONNX's axes, (N, C, spatial...) for feature maps.
        layout: how they lie in memory; rank 2 and below is always row-major.
    """

    buffer: Buffer
    shape: tuple[int, ...]
    dtype: np.dtype
    layout: Layout = Layout.ROW_MAJOR

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def order(self) -> tuple[int, ...]:
        """The axes from slowest to fastest in memory."""
        axes = tuple(range(len(self.shape)))
        return axes if self.layout is Layout.ROW_MAJOR else (0, *axes[2:], 1)

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements between neighbours along each of ONNX's axes."""
        strides = [0] * len(self.shape)
        step = 1
        for axis in reversed(self.order):
            strides[axis] = step
            step *= self.shape[axis]
        return tuple(strides)

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """The shape as it lies in memory."""
        return tuple(self.shape[axis] for axis in self.order)

    def with_layout(self, layout: Layout) -> Tensor | None:
        """The same memory read in another layout, if the two orders of elements coincide; else None."""
        other = Tensor(self.buffer, self.shape, self.dtype, layout)
        mine = [axis for axis in self.order if self.shape[axis] > 1]
        theirs = [axis for axis in other.order if self.shape[axis] > 1]
        return other if mine == theirs else None

    def reshaped(self, shape: tuple[int, ...]) -> Tensor:
        """The same elements in their row-major order under another shape (the tensor must be row-major)."""
        if self.layout is not Layout.ROW_MAJOR or math.prod(shape) != self.size:
            raise AssertionError(f"cannot view {self.shape} {self.layout} as {shape}")
        return Tensor(self.buffer, shape, self.dtype)


def natural_layout(rank: int) -> Layout:
    """The layout that feature maps of this rank have inside a plan."""
    return Layout.CHANNELS_LAST if rank >= 3 else Layout.ROW_MAJOR
