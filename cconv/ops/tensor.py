"""Tensor: shape, dtype and layout of an array while a plan is built. Memory is assigned later.

Layouts. Shapes are always ONNX's, with channels on axis 1. In memory an array of rank 3 or more is either row-major,
as in ONNX, or channels-last: (N, spatial..., C). Convolutions, pooling and normalisation use channels-last, in which
the channels of a pixel are contiguous and can be read with vector loads. Operators that work on any layout keep that of
their input. So a network is converted once at its input and, if a Flatten needs row-major, once at its head.
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
    """Shape and dtype of a value. The axes are in ONNX's order, whatever the layout in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(eq=False)
class Buffer:
    """A piece of memory that steps read and write. It is the memory of `array`, or, if that is None, a part of the
    plan's arena."""

    nbytes: int
    name: str = ""
    array: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A dense array in a buffer.

    Attributes:
        shape: sizes of the axes in ONNX's order, (N, C, spatial...) for feature maps.
        layout: order of the axes in memory. Tensors of rank 2 and below are always row-major.
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
        """Distance in elements between neighbours along each axis, in ONNX's order of axes."""
        strides = [0] * len(self.shape)
        step = 1
        for axis in reversed(self.order):
            strides[axis] = step
            step *= self.shape[axis]
        return tuple(strides)

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """Sizes of the axes from slowest to fastest in memory."""
        return tuple(self.shape[axis] for axis in self.order)

    def with_layout(self, layout: Layout) -> Tensor | None:
        """The same memory as a tensor of another layout, without a copy. None if the elements would have to move."""
        other = Tensor(self.buffer, self.shape, self.dtype, layout)
        mine = [axis for axis in self.order if self.shape[axis] > 1]
        theirs = [axis for axis in other.order if self.shape[axis] > 1]
        return other if mine == theirs else None

    def reshaped(self, shape: tuple[int, ...]) -> Tensor:
        """The same memory with another shape, without a copy. The tensor must be row-major."""
        if self.layout is not Layout.ROW_MAJOR or math.prod(shape) != self.size:
            raise AssertionError(f"cannot view {self.shape} {self.layout} as {shape}")
        return Tensor(self.buffer, shape, self.dtype)


def natural_layout(rank: int) -> Layout:
    """The layout that feature maps of this rank have inside a plan."""
    return Layout.CHANNELS_LAST if rank >= 3 else Layout.ROW_MAJOR
