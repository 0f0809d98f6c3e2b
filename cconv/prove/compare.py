"""Compare an output of cconv with the same output of onnxruntime.

The relative error of an output is its largest absolute difference divided by the largest absolute value of the whole
output. It is not computed element by element, because a logit near zero carries the rounding error of the large numbers
that were summed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """One output of the model, as cconv and as a provider of onnxruntime computed it.

    Attributes:
        provider: name of the execution provider.
        output: name of the output.
        shape: shape of the output in onnxruntime.
        max_error: largest absolute difference; infinite if only one of the two has NaN at some position, or if shapes
            or dtypes differ.
        relative_error: `max_error` divided by the largest finite absolute value of the output.
        class_agreement: share of positions at which the argmax along axis 1 is equal; None if the output is not
            floating-point, is empty, or has fewer than two classes on axis 1.
        ok: whether `relative_error` is within the tolerance. Values that are not floating-point must be equal.
        note: remark for the report, such as a difference in shape or dtype; usually "".
        worst: index of the element with the largest difference; None if shapes or dtypes differ or the output is empty.
    """

    provider: str
    output: str
    shape: tuple[int, ...]
    max_error: float
    relative_error: float
    class_agreement: float | None
    ok: bool
    note: str = ""
    worst: tuple[int, ...] | None = None


def compare(provider: str, output: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> Comparison:
    """Compare `ours`, an output of cconv, with `theirs`, the same output of onnxruntime.

    Args:
        provider, output: names for the result.
        tolerance: largest accepted relative error.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    note = ""
    if ours.shape != theirs.shape:
        note = f"cconv gives shape {ours.shape}"
    elif ours.dtype != theirs.dtype:
        note = f"cconv gives {ours.dtype}, not {theirs.dtype}"
    if note:
        return Comparison(provider, output, theirs.shape, math.inf, math.inf, None, False, note)

    floating = bool(np.issubdtype(theirs.dtype, np.floating))
    if not floating and not np.issubdtype(theirs.dtype, np.number):
        apart = ours != theirs
        different = int(np.sum(apart))
        error = math.inf if different else 0.0
        note = f"{different} values differ" if different else ""
        worst = _largest(apart)
        return Comparison(provider, output, theirs.shape, error, error, None, not different, note, worst)

    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    nan = np.isnan(a) != np.isnan(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
    difference[~np.isfinite(difference)] = math.inf
    error = float(difference.max(initial=0.0))
    scale = max(float(np.abs(v[np.isfinite(v)]).max(initial=0.0)) for v in (a, b))
    relative = 0.0 if error == 0 else error / scale if scale else math.inf
    if nan.any():
        note = f"{int(nan.sum())} values are NaN in only one of the two"
    agreement = None
    if floating and theirs.ndim >= 2 and theirs.shape[1] >= 2 and theirs.size:
        agreement = float(np.mean(a.argmax(axis=1) == b.argmax(axis=1)))
    ok = relative <= tolerance if floating else error == 0
    worst = _largest(difference)
    return Comparison(provider, output, theirs.shape, error, relative, agreement, ok, note, worst)


def _largest(difference: np.ndarray) -> tuple[int, ...] | None:
    """The index of the largest element; None if the array is empty."""
    if not difference.size:
        return None
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(difference)), difference.shape))
