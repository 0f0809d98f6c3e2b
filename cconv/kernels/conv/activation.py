"""Activations whose derivative a convolution's input gradient can apply while it computes; see gradient_sums.h."""

from __future__ import annotations

import math

# Values of `enum slope` in gradient_sums.h.
SLOPE_ONE = 0
SLOPE_OF_Z = 2


def derivative_interval(activation: tuple[str, float, float] | None) -> tuple[int, float, float] | None:
    """Where the derivative of y = f(z) is 1, for an f whose derivative is 0 elsewhere.

    Args:
        activation: f as (name, a, b), see norm.pyx; None: y = z.

    Returns:
        (slope, low, high). SLOPE_ONE: the derivative is 1 everywhere. SLOPE_OF_Z: it is 1 for low < z < high and 0
        elsewhere. None instead of the three: the derivative takes other values.
    """
    if activation is None:
        return SLOPE_ONE, -math.inf, math.inf
    name, a, b = activation
    if name == "relu":
        return SLOPE_OF_Z, 0.0, math.inf
    return (SLOPE_OF_Z, a, b) if name == "clip" else None
