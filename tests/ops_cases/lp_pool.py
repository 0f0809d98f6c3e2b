import numpy as np

from ops_cases.case import Case


def away_from_zero(rng, shape):
    """|x| has no derivative at 0."""
    return rng.uniform(0.2, 1.5, shape) * rng.choice([-1, 1], shape)


def pool(shape, opset=18, **attributes):
    reason = "powers by exponential and logarithm"
    return Case("LpPool", [shape], attributes, opset=opset, fill=away_from_zero, tolerance=5e-6, reason=reason)


CASES = [
    pool((2, 3, 9), kernel_shape=[3], opset=7),
    pool((2, 3, 6, 7), kernel_shape=[2, 3], strides=[2, 1], opset=11),
    pool((2, 17, 6, 7), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    pool((2, 3, 6, 7), kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2]),
    pool((2, 3, 6, 7), kernel_shape=[2, 2], p=1),
    pool((2, 3, 6, 7), kernel_shape=[3, 2], p=3, pads=[1, 0, 0, 1]),
    pool((2, 3, 7, 8), kernel_shape=[2, 2], dilations=[2, 3]),
    pool((2, 3, 7, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    pool((1, 2, 4, 5, 6), kernel_shape=[2, 2, 2], strides=[1, 2, 2]),
]
CASES += [
    Case("GlobalLpPool", [shape], attributes, opset=opset, fill=away_from_zero, tolerance=5e-6, reason="as above")
    for shape, attributes, opset in [
        ((2, 3, 9), {}, 7),
        ((2, 17, 6, 7), {}, 13),
        ((2, 3, 6, 7), {"p": 1}, 13),
        ((2, 3, 6, 7), {"p": 3}, 20),
        ((1, 2, 3, 4, 5), {}, 20),
    ]
]
CASES += [
    pool((2, 3, 7, 8), kernel_shape=[3, 3], strides=[2, 2], dilations=[2, 1], ceil_mode=1, opset=22),
    Case("GlobalLpPool", [(2, 3, 6, 7)], {"p": 3}, opset=22, fill=away_from_zero, tolerance=5e-6, reason="as above",
         judge=lambda x: np.sum(np.abs(x) ** 3, axis=(2, 3), keepdims=True) ** (1 / 3)),
]  # fmt: skip
