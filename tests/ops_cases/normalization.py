import numpy as np

from ops_cases.case import Case
from ops_cases.reduction import apart


def spread(rng, shape):
    return np.asarray(rng.standard_normal(shape) * 3 + 1)


CASES = [
    Case("LpNormalization", [x], {"axis": axis, "p": p}, opset=opset, fill=apart)
    for x, axis in [((7,), 0), ((3, 5), -1), ((3, 5), 0), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), -1), ((2, 17, 9), 1)]
    for p in (1, 2)
    for opset in (7, 22)
]
CASES += [Case("LpNormalization", [(3, 5)], opset=7, fill=apart, note="default")]
CASES += [
    Case("MeanVarianceNormalization", [x], attributes, opset=opset, fill=spread, tolerance=1e-5,
         reason="onnxruntime finds the variance as mean(x^2) - mean(x)^2")
    for x, attributes in [
        ((2, 3, 4, 5), {}),
        ((2, 3, 4, 5), {"axes": [2, 3]}),
        ((2, 3, 4, 5), {"axes": [1]}),
        ((2, 3, 4, 5), {"axes": [-1, 0]}),
        ((2, 17, 9), {"axes": [0, 2]}),
        ((3, 5), {"axes": [0, 1]}),
    ]
    for opset in (9, 13)
]  # fmt: skip
