"""Checks of arguments, so that all refusals read alike. NumPy's scalars count as numbers everywhere."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Sequence

import numpy as np

from cconv.errors import DTypeError, ValueRangeError, explain

Sizes = int | Sequence[int]
"""One number for all spatial axes, or one for each."""

FIXED_BATCH = (
    "The batch size is fixed in this model; use batches of that size, or free it: cconv.finetune.repair(model)."
)
"""What to do about inputs of another batch size than the model declares."""


def number(
    place: str,
    name: str,
    value: object,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """`value` is a finite number, value >= least, above < value < below.

    Raises:
        ValueRangeError: it is not.
    """
    good = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not (least <= value and above < value < below):  # type: ignore[operator]
        limits = ((">=", least), (">", above), ("<", below))
        bounds = " and ".join(f"{sign} {limit:g}" for sign, limit in limits if math.isfinite(limit))
        raise ValueRangeError(explain(place, f"{name} is a finite number {bounds}".rstrip(), repr(value)))


def whole(place: str, name: str, value: object, least: int = 0, below: int | None = None) -> None:
    """`value` is a whole number, least <= value < below.

    Raises:
        ValueRangeError: it is not.
    """
    good = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not good or value < least or (below is not None and value >= below):  # type: ignore[operator]
        upper = f" and < {below}" if below is not None else ""
        raise ValueRangeError(explain(place, f"{name} is a whole number >= {least}{upper}", repr(value)))


def refuse_bytes(place: str, array: np.ndarray, dtype: np.dtype) -> None:
    """Refuse pixels of 0..255 where a network takes floating-point numbers: it was trained on scaled ones.

    Raises:
        DTypeError: the array is uint8 and `dtype` is floating-point.
    """
    if array.dtype == np.uint8 and dtype.kind == "f":
        fix = "Scale pictures as the network was trained on them, for example x.astype(np.float32) / 255."
        raise DTypeError(explain(place, f"is {dtype}", "uint8", fix))


def closest(name: str, names: Iterable[str]) -> str:
    """A sentence that names what `name` may have been meant to be."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:5]
    return f"Closest: {', '.join(repr(n) for n in near)}." if near else "There are none."


def sizes(place: str, name: str, value: Sizes, length: int | None, least: int) -> tuple[int, ...]:
    """`value` as `length` whole numbers >= least; one number stands for all axes.

    Args:
        length: None: any number of entries but none.

    Raises:
        ValueRangeError: anything else.
    """
    if isinstance(value, numbers.Integral):
        several: tuple[object, ...] = (value,) * (length or 1)
    else:
        array = (isinstance(value, Sequence) and not isinstance(value, str)) or hasattr(value, "__array__")
        several = tuple(value) if array else ()  # type: ignore[arg-type]
    right = len(several) == length if length is not None else len(several) > 0
    if right and all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in several):
        found = tuple(int(n) for n in several)  # type: ignore[call-overload]
        if min(found) >= least:
            return found
    forms = {None: "a tuple of whole numbers", 1: "a whole number"}
    form = forms.get(length, f"a whole number or a tuple of {length}")
    raise ValueRangeError(explain(place, f"{name} is {form}, each >= {least}", repr(value)))


def conv_sizes(
    place: str, rank: int, kernel: Sizes, stride: Sizes, padding: Sizes | str, dilation: Sizes
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], list[int]]:
    """Arguments of a convolution, with PyTorch's meaning, for each spatial axis.

    Args:
        padding: zeros on both sides of each axis; "valid" is 0; "same" (stride 1) keeps the size.

    Returns:
        Kernel, stride, dilation, and ONNX's pads: those before all axes, then those after.

    Raises:
        ValueRangeError: one is out of its range, or "same" with a stride.
    """
    kernel = sizes(place, "kernel_size", kernel, rank, 1)
    stride = sizes(place, "stride", stride, rank, 1)
    dilation = sizes(place, "dilation", dilation, rank, 1)
    if not isinstance(padding, str):
        around = sizes(place, "padding", padding, rank, 0)
        return kernel, stride, dilation, [*around, *around]
    if padding not in ("same", "valid") or (padding == "same" and max(stride) > 1):
        rule = 'padding is a size, "valid", or, with stride 1, "same"'
        raise ValueRangeError(explain(place, rule, f"{padding!r} with stride {stride}"))
    total = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation)]
    return kernel, stride, dilation, [n // 2 for n in total] + [n - n // 2 for n in total]
