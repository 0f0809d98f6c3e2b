import numpy as np

from ops_cases.activation import away_from
from ops_cases.case import Case

SHAPES = [(), (7,), (3, 5), (2, 3, 4, 5), (1, 17, 3), (2, 4, 3, 2, 5)]


def between(low, high):
    """Uniform numbers, within the function's domain."""
    return lambda rng, shape: np.asarray(rng.uniform(low, high, shape))


def halves(rng, shape):
    """Multiples of a quarter: halves to round, and none to round."""
    return np.asarray(rng.integers(-20, 20, shape) / 4)


# Operator: oldest opset, newest opset with a change, numbers to compute on.
FUNCTIONS = {
    "Neg": (7, 13, None),
    "Abs": (7, 13, away_from(0)),
    "Sign": (9, 13, halves),
    "Floor": (7, 13, halves),
    "Ceil": (7, 13, halves),
    "Round": (11, 22, halves),
    "Exp": (7, 13, between(-20, 3)),
    "Log": (7, 13, between(0.01, 5)),
    "Sqrt": (7, 13, between(0.1, 5)),
    "Reciprocal": (7, 13, between(0.2, 5)),
    "Erf": (9, 13, None),
    "Sin": (7, 22, between(-20, 20)),
    "Cos": (7, 22, between(-20, 20)),
    "Tan": (7, 22, between(-1.2, 1.2)),
    "Asin": (7, 22, between(-0.9, 0.9)),
    "Acos": (7, 22, between(-0.9, 0.9)),
    "Atan": (7, 22, None),
    "Sinh": (9, 22, None),
    "Cosh": (9, 22, None),
    "Asinh": (9, 22, None),
    "Acosh": (9, 22, between(1.1, 4)),
    "Atanh": (9, 22, between(-0.9, 0.9)),
}

CASES = [
    Case(kind, [shape], opset=opset, fill=fill)
    for kind, (oldest, newest, fill) in FUNCTIONS.items()
    for shape in SHAPES
    for opset in (oldest, newest)
]
CASES += [
    Case(kind, [np.array([[-7, 7, 0], [-100, 100, 5]], dtype)], note=dtype)
    for kind in ("Neg", "Abs", "Sign")
    for dtype in ("int8", "int32", "int64")
]
CASES += [Case(kind, [np.array([7, 0, 200], np.uint8)], note="uint8") for kind in ("Abs", "Sign")]
