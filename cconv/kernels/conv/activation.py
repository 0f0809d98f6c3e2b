"""Activation derivatives that the epilogue of a convolution's input gradient can apply; see gradient_sums.h."""

from __future__ import annotations

import math

# The values must equal those of `enum slope` in gradient_sums.h.
SLOPE_ONE = 0
SLOPE_OF_Z = 2


def derivative_interval(activation: tuple[str, float, float] | None) -> tuple[int, float, float] | None:
    """Find the interval in which the derivative of an activation y = f(z) is 1; outside of it the derivative must be 0.

    Args:
        activation: f as (name, a, b), see norm.pyx; None: the identity, y = z.

    Returns:
        (slope, low, high). If slope is SLOPE_ONE, the derivative is 1 everywhere. If slope is SLOPE_OF_Z, the
        derivative is 1 for low < z < high and 0 elsewhere. None if the derivative takes other values than 0 and 1.
    """
    if activation is None:
        return SLOPE_ONE, -math.inf, math.inf
    name, a, b = activation
    if name == "relu":
        return SLOPE_OF_Z, 0.0, math.inf
    return (SLOPE_OF_Z, a, b) if name == "clip" else None
