import numpy as np

from ops_cases.case import Case

SHAPES = [(7,), (3, 5), (2, 3, 4, 5), (1, 17, 3), (2, 4, 3, 2, 5)]


def away_from(*kinks):
    """Normal numbers, none within 0.01 of a kink: a difference quotient across one is no gradient."""

    def fill(rng, shape):
        x = np.asarray(rng.standard_normal(shape))
        for kink in kinks:
            x = np.where(np.abs(x - kink) < 0.01, kink + 0.02, x)
        return x

    return fill


def wide(rng, shape):
    """Numbers far into both tails."""
    return rng.uniform(-120, 120, shape)


LOW, HIGH = np.float32(-0.5), np.float32(0.7)
ZERO = away_from(0)

CASES = [Case("Relu", [shape], opset=opset, fill=ZERO) for shape in SHAPES for opset in (7, 14)]
CASES += [
    Case("LeakyRelu", [shape], attributes, opset=opset, fill=ZERO)
    for shape in SHAPES
    for attributes, opset in [({}, 7), ({"alpha": 0.2}, 16), ({"alpha": -0.3}, 16), ({"alpha": 0.0}, 16)]
]
CASES += [Case(kind, [shape], opset=opset) for shape in SHAPES for kind in ("Sigmoid", "Tanh") for opset in (7, 13)]
CASES += [Case(kind, [(5, 33)], fill=wide, note="tails") for kind in ("Sigmoid", "Tanh")]
CASES += [
    Case("Clip", [shape], attributes, opset=opset, fill=away_from(-0.5, 0.7))
    for shape in SHAPES
    for attributes, opset in [
        ({}, 7),
        ({"min": -0.5, "max": 0.7}, 7),
        ({"min": -0.5}, 10),
        ({"max": 0.7}, 10),
    ]
]
CASES += [
    Case("Clip", [shape, *bounds], constant_inputs=(1, 2), opset=opset, fill=away_from(-0.5, 0.7), note=note)
    for shape in SHAPES
    for opset in (11, 13)
    for bounds, note in [
        ((np.array(LOW), np.array(HIGH)), "both"),
        ((np.array(LOW),), "low"),
        ((None, np.array(HIGH)), "high"),
        ((), "none"),
    ]
]
CASES += [
    Case(
        "Clip",
        [(4, 9), np.array(HIGH), np.array(LOW)],
        constant_inputs=(1, 2),
        fill=away_from(-0.5, 0.7),
        note="bounds-swapped",
    ),
]

# Bounds computed at run time, and integers.
CASES += [
    Case("Clip", [shape, *bounds], opset=opset, fill=away_from(-0.5, 0.7), note=note)
    for shape in [(7,), (2, 3, 4, 5)]
    for opset in (11, 13)
    for bounds, note in [
        ((np.array(LOW), np.array(HIGH)), "both-given"),
        ((np.array([LOW]),), "low-given"),
        ((None, np.array(HIGH)), "high-given"),
        ((np.array(HIGH), np.array(LOW)), "swapped-given"),
    ]
]
CASES += [
    Case("Clip", [np.arange(-9, 9, dtype=dtype), np.array(-3, dtype), np.array(5, dtype)], opset=opset, note=dtype)
    for dtype, opset in [("int8", 12), ("int32", 13), ("int64", 13)]
]

# Operator: oldest opset, newest opset with a change, attributes to try, kinks.
OTHERS = {
    "ThresholdedRelu": (10, 22, [{}, {"alpha": 0.3}, {"alpha": -0.4}], (1, 0.3, -0.4)),
    "HardSigmoid": (7, 22, [{}, {"alpha": 0.7, "beta": 0.4}, {"alpha": -0.7}], (4 / 7, -6 / 7, 5 / 7, -5 / 7)),
    "HardSwish": (14, 22, [{}], ()),
    "Swish": (24, 24, [{}, {"alpha": 1.7}, {"alpha": -0.5}], ()),
    "Mish": (18, 22, [{}], ()),
    "Gelu": (20, 20, [{}, {"approximate": "none"}, {"approximate": "tanh"}], ()),
    "Elu": (7, 22, [{}, {"alpha": 0.3}], (0,)),
    "Selu": (7, 22, [{}, {"alpha": 0.3, "gamma": 2.0}], (0,)),
    "Celu": (12, 12, [{}, {"alpha": 0.3}], (0,)),
    "Softplus": (7, 22, [{}], ()),
    "Softsign": (7, 22, [{}], ()),
}
CASES += [
    Case(kind, [shape], attributes, opset=opset, fill=away_from(*kinks))
    for kind, (oldest, newest, choices, kinks) in OTHERS.items()
    for shape in [(), *SHAPES]
    for attributes in choices
    for opset in sorted({oldest, newest})
]


def apart(rng, shape):
    """Both parts of HardSwish and Clip at 3, and what lies between."""
    return away_from(*(n / 5 for n in (-3, 3)))(rng, shape) * 5


CASES += [Case("HardSwish", [(5, 33)], fill=apart, note="beyond-3")]
CASES += [
    Case(kind, [(5, 33)], attributes, fill=lambda rng, shape: rng.uniform(-9, 9, shape), note="tails")
    for kind, attributes in [("Mish", {}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("Softplus", {})]
]

SLOPES = [
    ((7,), ()),
    ((7,), (7,)),
    ((3, 5), (5,)),
    ((3, 5), (3, 1)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), (1, 3, 1, 1)),
    ((2, 3, 4, 5), (1,)),
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (4, 1)),
    ((1, 17, 33), (17, 1)),
    ((2, 4, 3, 2, 5), (4, 1, 1, 1)),
]
CASES += [Case("PRelu", [x, slope], opset=opset, fill=ZERO) for x, slope in SLOPES for opset in (7, 9, 16)]
CASES += [Case("Relu", [(2, 3, 4, 5)], opset=13, fill=ZERO), Case("Celu", [(2, 3, 4, 5)], {"alpha": 0.3}, opset=28)]
