import numpy as np

from ops_cases.case import Case


def away_from_zero(rng, shape):
    """Divisors between 0.5 and 1.5, of either sign."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape))


PAIRS = [
    ((), ()),
    ((7,), (7,)),
    ((7,), ()),
    ((3, 5), (3, 5)),
    ((3, 5), (5,)),
    ((3, 5), (3, 1)),
    ((3, 1), (1, 5)),
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), (1, 3, 1, 1)),
    ((2, 3, 4, 5), (2, 3, 1, 1)),
    ((2, 3, 4, 5), (2, 1, 4, 5)),
    ((2, 3, 4, 5), (4, 5)),
    ((2, 3, 4, 5), (1,)),
    ((2, 3, 1, 1), (1, 3, 4, 5)),
    ((2, 17, 9), (17, 1)),
    ((3, 1, 4), (5, 1)),
    ((2, 3, 2, 3, 4), (3, 1, 1, 4)),
    ((2, 33, 40, 40), (33, 1, 1)),
    ((0, 3), (3,)),
]
PAIRS += [(b, a) for a, b in PAIRS if a != b]

CASES = [
    Case(kind, [a, b], opset=opset, fill=away_from_zero)
    for kind in ("Add", "Sub", "Mul", "Div")
    for a, b in PAIRS
    for opset in (7, 14)
]
CASES += [
    Case(kind, [(2, 3, 4), (3, 1)], constant_inputs=(1,), fill=away_from_zero, note=f"constant-{kind}")
    for kind in ("Add", "Sub", "Mul", "Div")
]

# Shape arithmetic: integers, both known.
LEFT, RIGHT = np.array([[-7, 7, 9], [-8, 8, 0]]), np.array([2, -2, 4])
CASES += [Case(kind, [LEFT, RIGHT], constant_inputs=(0, 1), note="integers") for kind in ("Add", "Sub", "Mul", "Div")]

# Integers that are computed at run time.
CASES += [
    Case(kind, [LEFT.astype(dtype), RIGHT.astype(dtype)], note=dtype)
    for kind in ("Add", "Sub", "Mul", "Div")
    for dtype in ("int32", "int64", "uint8", "int8")
]


def positive(rng, shape):
    return np.asarray(rng.uniform(0.3, 2, shape))


# Where the quotient is a whole number fmod jumps; of some hundred random ones none comes near.
CASES += [
    Case("Mod", [a, b], {"fmod": 1}, opset=opset, fill=away_from_zero)
    for a, b in PAIRS
    for opset in (10, 13)
    if 40 not in (*a, *b)
]
CASES += [
    Case("Mod", [LEFT.astype(dtype), RIGHT.astype(dtype)], {"fmod": fmod}, note=dtype)
    for dtype in ("int32", "int64", "int8")
    for fmod in (0, 1)
]
CASES += [Case("Pow", [a, b], opset=opset, fill=positive) for a, b in PAIRS for opset in (7, 12, 15)]
CASES += [
    Case("Pow", [(2, 3, 4, 5), np.array(n, np.float32)], constant_inputs=(1,), note=f"by-{n}") for n in (0, 1, 2, 3)
]
CASES += [
    Case("Pow", [(2, 3, 4, 5), np.array(n, np.float32)], constant_inputs=(1,), fill=positive, note=f"by-{n}")
    for n in (0.5, -0.5, -1, 1.7)
]
CASES += [Case("Pow", [(3, 4), np.array([0, 1, 2, 3], dtype)], note=dtype) for dtype in ("int32", "int64")]
CASES += [
    Case("Pow", [np.array([3, -2, 0, 1], dtype), np.array([[0], [1], [5]], dtype)], note=dtype)
    for dtype in ("int32", "int64")
]
CASES += [Case("Pow", [np.array([3, 2, 0], np.int32), np.array(2, np.float32)], note="int-by-float", gradient=())]
CASES += [Case(kind, [(2, 3, 4), (3, 1)], opset=13, fill=away_from_zero) for kind in ("Add", "Sub", "Mul", "Div")]
CASES += [Case("Pow", [(2, 3, 4), (3, 1)], opset=13, fill=positive)]
# From opset 28 on floats need no fmod=1. onnxruntime refuses them without.
CASES += [
    Case("Mod", [a, b], {"fmod": fmod}, opset=28, fill=away_from_zero, judge="onnx")
    for a, b in [((3, 5), (3, 5)), ((2, 3, 4, 5), (3, 1, 1)), ((5,), (3, 1))]
    for fmod in (0, 1)
]
