"""Checks of options, so that each refusal reads alike, and names that come close to a mistyped one."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable

from cconv.errors import ValueRangeError, explain


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


def closest(name: str, names: Iterable[str]) -> str:
    """A sentence that names what `name` may have been meant to be."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:5]
    return f"Closest: {', '.join(repr(n) for n in near)}." if near else "There are none."
