"""Comparison of one output with another.

The relative error is the largest difference over the largest value of the whole output, not taken value by
value: a logit that happens to be near zero carries the rounding of the large numbers it was summed from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """One output of the model, as cconv and as a provider of onnxruntime computed it.

    Attributes:
        provider: the execution provider's name.
        output: the output's name.
        shape: its shape in onnxruntime.
        max_error: largest absolute difference; infinite where only one of the two has NaN, or the shapes or
            the kinds of value differ.
        relative_error: that over the largest finite absolute value.
        class_agreement: share of positions whose largest value along axis 1 is of the same class; None
            where the output has no such axis.
        ok: whether relative_error is within the tolerance; values that are not floating-point must be equal.
        note: what there is to say beyond numbers.
        worst: index of the element that is furthest apart; None where shapes or kinds differ, or it is empty.
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
    """`ours` (cconv) against `theirs` (onnxruntime)."""
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
        note = f"{int(nan.sum())} values are NaN in one of the two only"
    agreement = None
    if floating and theirs.ndim >= 2 and theirs.shape[1] >= 2 and theirs.size:
        agreement = float(np.mean(a.argmax(axis=1) == b.argmax(axis=1)))
    ok = relative <= tolerance if floating else error == 0
    worst = _largest(difference)
    return Comparison(provider, output, theirs.shape, error, relative, agreement, ok, note, worst)


def _largest(difference: np.ndarray) -> tuple[int, ...] | None:
    """The index of the largest element."""
    if not difference.size:
        return None
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(difference)), difference.shape))
