import numpy as np

from ops_cases.arithmetic import PAIRS
from ops_cases.case import Case


def few(rng, shape):
    """Numbers of which many are equal."""
    return np.asarray(rng.integers(-2, 3, shape) / 2)


def extremes(rng, shape):
    return np.asarray(rng.choice([0, 1.5, np.nan, np.inf, -np.inf], shape))


def some(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    return np.asarray(rng.integers(0 if dtype == "uint8" else -2, 3, shape), dtype)


COMPARISONS = {
    "Equal": (7, 11, 19),
    "Less": (7, 9, 13),
    "Greater": (7, 9, 13),
    "LessOrEqual": (12, 16),
    "GreaterOrEqual": (12, 16),
}

CASES = [
    Case(kind, [a, b], opset=opset, fill=few, gradient=())
    for kind, opsets in COMPARISONS.items()
    for a, b in PAIRS
    for opset in (opsets[0], opsets[-1])
    if not (kind == "Equal" and opset == 7)  # integers and bools alone
]
CASES += [
    Case(kind, [some(dtype, (2, 3, 4, 5), 0), some(dtype, (3, 1, 5), 1)], opset=opset, note=dtype)
    for kind, opsets in COMPARISONS.items()
    for dtype in ("int32", "int64")
    for opset in opsets[-2:]
]
CASES += [
    Case("Equal", [some(dtype, (4, 5), 0), some(dtype, (5,), 1)], opset=opset, note=dtype)
    for dtype, opset in [("bool", 7), ("bool", 13), ("int64", 7), ("uint8", 13), ("int8", 19)]
]
CASES += [Case(kind, [(4, 9), (9,)], fill=extremes, gradient=(), note="extremes") for kind in COMPARISONS]
CASES += [
    Case(kind, [some("bool", a, 0), some("bool", b, 1)], opset=7, note=str(i))
    for kind in ("And", "Or", "Xor")
    for i, (a, b) in enumerate(PAIRS)
]
CASES += [Case("Not", [some("bool", shape, 0)], opset=7) for shape in [(), (7,), (2, 3, 4, 5)]]
CASES += [
    Case("IsNaN", [shape], opset=opset, fill=extremes, gradient=())
    for shape in [(), (7,), (4, 33)]
    for opset in (9, 13, 20)
]
CASES += [
    Case("IsInf", [shape], attributes, opset=opset, fill=extremes, gradient=())
    for shape in [(), (7,), (4, 33)]
    for attributes, opset in [
        ({}, 10),
        ({}, 20),
        ({"detect_positive": 0}, 10),
        ({"detect_negative": 0}, 20),
        ({"detect_negative": 0, "detect_positive": 0}, 10),
    ]
]
