import numpy as np

from ops_cases.case import Case


def ties(rng, shape):
    """Few distinct values, so that most windows have several maxima."""
    return rng.integers(0, 3, shape).astype(np.float32)


def distinct(rng, shape):
    """Evenly spaced values in 0..1: the difference quotient must not change which one is the largest."""
    size = int(np.prod(shape))
    return rng.permutation(size).reshape(shape) / size


WINDOWS = [
    ((2, 3, 9), {"kernel_shape": [3]}),
    ((2, 3, 9), {"kernel_shape": [3], "strides": [2], "pads": [1, 0]}),
    ((1, 17, 8), {"kernel_shape": [2], "strides": [3]}),
    ((2, 5, 8, 7), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((2, 16, 9, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 33, 7, 6), {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [2, 0, 1, 1]}),
    ((2, 3, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((2, 3, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [0, 1, 2, 1], "ceil_mode": 1}),
    ((1, 4, 7, 7), {"kernel_shape": [2, 2], "strides": [5, 5], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ((2, 3, 7, 8), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((2, 3, 7, 8), {"kernel_shape": [4, 3], "strides": [2, 3], "auto_pad": "SAME_LOWER"}),
    ((2, 3, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"}),
    ((2, 3, 5, 5), {"kernel_shape": [5, 5]}),
    ((1, 3, 5, 6, 4), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [0, 1, 1, 1, 1, 0]}),
]
DILATED = [
    ((2, 3, 11), {"kernel_shape": [3], "dilations": [2], "strides": [3], "pads": [2, 1]}),
    ((2, 5, 9, 10), {"kernel_shape": [2, 3], "dilations": [3, 2], "strides": [2, 2], "pads": [1, 1, 0, 2]}),
    ((1, 3, 7, 6, 8), {"kernel_shape": [2, 2, 2], "dilations": [2, 1, 4], "strides": [2, 1, 2]}),
]

CASES = []
for shape, attributes in WINDOWS:
    CASES.append(Case("MaxPool", [shape], attributes, fill=distinct))
    CASES.append(Case("AveragePool", [shape], attributes))
    CASES.append(Case("AveragePool", [shape], {**attributes, "count_include_pad": 1}))
for shape, attributes in DILATED:
    CASES.append(Case("MaxPool", [shape], attributes, fill=distinct))
    CASES.append(Case("AveragePool", [shape], attributes))
    CASES.append(Case("AveragePool", [shape], {**attributes, "count_include_pad": 1}))

# Older opsets: 8 brought storage_order and the indices, 10 ceil_mode and dilations, 12 nothing for floats.
POOL2 = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 0, 0, 1]}
CASES += [Case("MaxPool", [(2, 3, 5, 6)], POOL2, opset=opset, fill=distinct) for opset in (7, 8, 10, 11, 12)]
CASES += [Case("AveragePool", [(2, 3, 5, 6)], POOL2, opset=opset) for opset in (7, 10, 11, 19, 22)]
CASES += [
    Case("MaxPool", [(2, 3, 5, 6)], {**POOL2, "ceil_mode": 1}, opset=10, fill=distinct),
    Case("AveragePool", [(2, 3, 5, 6)], {**POOL2, "ceil_mode": 1, "count_include_pad": 1}, opset=10),
]

# The second output. Of equal values the first one's index counts.
for order in (0, 1):
    for shape, attributes in (
        ((2, 3, 9), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
        ((2, 3, 6, 7), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
        ((2, 2, 4, 5, 6), {"kernel_shape": [2, 2, 3], "strides": [2, 1, 2]}),
    ):
        attributes = {**attributes, "storage_order": order}
        CASES.append(Case("MaxPool", [shape], attributes, outputs=2, fill=ties, gradient=(), note="ties"))
        CASES.append(Case("MaxPool", [shape], attributes, outputs=2, fill=distinct))
# A window that sees nothing: dilated taps on both sides of the image.
EMPTY = {"kernel_shape": [2], "dilations": [3], "pads": [1, 1]}
CASES.append(Case("MaxPool", [(2, 3, 2)], EMPTY, gradient=(), note="empty"))

for shape in ((2, 3, 9), (2, 17, 7, 7), (1, 300, 3, 4), (3, 2, 3, 4, 5), (2, 5, 40, 33)):
    CASES.append(Case("GlobalAveragePool", [shape], opset=7))
    CASES.append(Case("GlobalMaxPool", [shape], opset=7, fill=distinct))
CASES.append(Case("GlobalAveragePool", [(2, 3, 4, 4)], opset=22))
CASES.append(Case("GlobalMaxPool", [(2, 3, 4, 4)], opset=22, fill=distinct))
CASES += [
    Case(
        "MaxPool",
        [np.random.default_rng(0).integers(low, low + 256, (2, 3, 7, 6)).astype(dtype)],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
        opset=12,
        outputs=outputs,
        note=dtype + "-indices" * (outputs - 1),
    )
    for dtype, low in (("int8", -128), ("uint8", 0))
    for outputs in (1, 2)
]
CASES += [
    Case("MaxPool", [(2, 3, 7, 6)], {**POOL2, "ceil_mode": 1, "dilations": [2, 1]}, opset=22, outputs=n, fill=distinct,
         note=f"{n}")
    for n in (1, 2)
]  # fmt: skip
