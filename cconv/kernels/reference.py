"""Convolution written from its formula, in float64: what the kernels are compared with.

    y[n, m, o] = b[m] + sum over c, t of  w[m, c, t] * x[n, c, o * stride + t * dilation - pad]

for every axis of space at once: o is a position of the output, t a tap of the kernel, and x is zero outside
of its range. With groups, output channel m reads the input channels of its own group only. The functions walk
the taps; for one tap the positions o * stride + t * dilation of the padded input are a slice, `_window`, and
the sum over c is a matrix product. Nothing here is shared with the kernels or with ConvGeometry, so that an
error in one does not hide in the other.

Both gradients read the same line the other way round. A transposed convolution is the input gradient of the
convolution with the same weights, so it has no formula of its own: its arrays change places.

Arguments, all of ONNX's meaning, for K axes of space:
    x (N, C, spatial...), w (M, C / group, kernel...), b (M,), y and dy (N, M, spatial...)
    strides, dilations: K numbers, default 1. pads: 2K numbers, all begins, then all ends; default 0.
A transposed convolution has w (C, M / group, kernel...). Arrays of any dtype go in, float64 comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Sizes = Sequence[int] | None
Index = tuple[Any, ...]


def conv(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    strides: Sizes = None,
    pads: Sizes = None,
    dilations: Sizes = None,
    group: int = 1,
) -> np.ndarray:
    """y of the formula above: (N, M, floor((in + pads - dilation * (kernel - 1) - 1) / stride) + 1 ...)."""
    strides, pads, dilations = _defaults(w, strides, pads, dilations)
    padded = _pad(x, pads)
    size = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(padded.shape[2:], w.shape[2:], strides, dilations)]
    return _correlate(padded, w, size, strides, dilations, group) + _column(b, w)


def conv_input_gradient(
    dy: np.ndarray,
    w: np.ndarray,
    size: Sequence[int],
    strides: Sizes = None,
    pads: Sizes = None,
    dilations: Sizes = None,
    group: int = 1,
) -> np.ndarray:
    """dx (N, C, size...): each dy[n, m, o] * w[m, c, t] goes to where y[n, m, o] read x."""
    strides, pads, dilations = _defaults(w, strides, pads, dilations)
    rank = len(size)
    batch, positions = dy.shape[0], dy.shape[2:]
    dy = _grouped(dy, group).reshape(batch, group, w.shape[0] // group, int(np.prod(positions)))
    dx = np.zeros((batch, group, w.shape[1], *_padded(size, pads)))
    for tap in np.ndindex(*w.shape[2:]):
        taken = _tap(w, tap, group).swapaxes(1, 2) @ dy
        dx[_window(tap, positions, strides, dilations)] += taken.reshape(*taken.shape[:3], *positions)
    inner: Index = (..., *(slice(pads[i], pads[i] + size[i]) for i in range(rank)))
    return dx.reshape(batch, group * w.shape[1], *dx.shape[3:])[inner]


def conv_weight_gradient(
    dy: np.ndarray,
    x: np.ndarray,
    kernel: Sequence[int],
    strides: Sizes = None,
    pads: Sizes = None,
    dilations: Sizes = None,
    group: int = 1,
) -> np.ndarray:
    """dw (M, C / group, kernel...): dw[m, c, t] sums dy[n, m, o] times the x that t met at o."""
    shape = (dy.shape[1], x.shape[1] // group, *kernel)
    strides, pads, dilations = _defaults(np.empty(shape), strides, pads, dilations)
    positions = dy.shape[2:]
    padded = _grouped(_pad(x, pads), group)
    dy = _grouped(dy, group).reshape(dy.shape[0], group, shape[0] // group, int(np.prod(positions)))
    dw = np.zeros(shape)
    for tap in np.ndindex(*kernel):
        patch = padded[_window(tap, positions, strides, dilations)].reshape(*padded.shape[:3], dy.shape[3])
        dw[(..., *tap)] = (dy @ patch.swapaxes(2, 3)).sum(axis=0).reshape(shape[:2])
    return dw


def conv_bias_gradient(dy: np.ndarray) -> np.ndarray:
    """db (M,): the sum of dy over everything but the channels. The same for a transposed convolution."""
    return dy.astype(np.float64).sum(axis=(0, *range(2, dy.ndim)))


def conv_transpose(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    strides: Sizes = None,
    pads: Sizes = None,
    dilations: Sizes = None,
    group: int = 1,
    output_padding: Sizes = None,
) -> np.ndarray:
    """y (N, M, stride * (in - 1) + dilation * (kernel - 1) + 1 + output_padding - pads ...)."""
    strides, pads, dilations = _defaults(w, strides, pads, dilations)
    rank = len(strides)
    extra = output_padding or [0] * rank
    size = [
        strides[i] * (x.shape[2 + i] - 1) + dilations[i] * (w.shape[2 + i] - 1) + 1 + extra[i]
        - pads[i] - pads[rank + i]
        for i in range(rank)
    ]  # fmt: skip
    y = conv_input_gradient(x, w, size, strides, pads, dilations, group)
    return y if b is None else y + b.astype(np.float64).reshape(-1, *[1] * rank)


def conv_transpose_input_gradient(
    dy: np.ndarray,
    w: np.ndarray,
    size: Sequence[int],
    strides: Sizes = None,
    pads: Sizes = None,
    dilations: Sizes = None,
    group: int = 1,
) -> np.ndarray:
    """dx (N, C, size...). The size is needed: an output_padding of a stride or more leaves it open."""
    strides, pads, dilations = _defaults(w, strides, pads, dilations)
    return _correlate(_pad(dy, pads), w, size, strides, dilations, group)


def conv_transpose_weight_gradient(
    dy: np.ndarray,
    x: np.ndarray,
    kernel: Sequence[int],
    strides: Sizes = None,
    pads: Sizes = None,
    dilations: Sizes = None,
    group: int = 1,
) -> np.ndarray:
    """dw (C, M / group, kernel...)."""
    return conv_weight_gradient(x, dy, kernel, strides, pads, dilations, group)


def _correlate(
    padded: np.ndarray,
    w: np.ndarray,
    size: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> np.ndarray:
    """The formula's double sum at `size` positions, on an input that already has its zeros around it."""
    padded = _grouped(padded, group)
    y = np.zeros((len(padded), group, w.shape[0] // group, int(np.prod(size))))
    for tap in np.ndindex(*w.shape[2:]):
        patch = padded[_window(tap, size, strides, dilations)].reshape(*padded.shape[:3], y.shape[3])
        y += _tap(w, tap, group) @ patch
    return y.reshape(len(padded), w.shape[0], *size)


def _window(tap: Sequence[int], size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Index:
    """Index of the padded positions o * stride + tap * dilation, o below size, on every axis of space."""
    axes = zip(tap, size, strides, dilations)
    return (..., *(slice(t * d, t * d + s * (o - 1) + 1, s) for t, o, s, d in axes))


def _tap(w: np.ndarray, tap: Sequence[int], group: int) -> np.ndarray:
    """One tap's weights as a matrix per group: (group, M / group, C / group) float64."""
    at: Index = (..., *tap)
    return w[at].astype(np.float64).reshape(group, -1, w.shape[1])


def _grouped(x: np.ndarray, group: int) -> np.ndarray:
    """(N, C, spatial...) as (N, group, C / group, spatial...) float64."""
    return x.astype(np.float64).reshape(x.shape[0], group, x.shape[1] // group, *x.shape[2:])


def _pad(x: np.ndarray, pads: Sequence[int]) -> np.ndarray:
    """x with its zeros around it."""
    rank = x.ndim - 2
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:])])


def _padded(size: Sequence[int], pads: Sequence[int]) -> list[int]:
    return [n + pads[i] + pads[len(size) + i] for i, n in enumerate(size)]


def _column(b: np.ndarray | None, w: np.ndarray) -> np.ndarray:
    """The bias, shaped to be added to (N, M, spatial...)."""
    bias = np.zeros(w.shape[0]) if b is None else b.astype(np.float64)
    return bias.reshape(-1, *[1] * (w.ndim - 2))


def _defaults(w: np.ndarray, strides: Sizes, pads: Sizes, dilations: Sizes) -> tuple[list[int], list[int], list[int]]:
    rank = w.ndim - 2
    return list(strides or [1] * rank), list(pads or [0] * 2 * rank), list(dilations or [1] * rank)
