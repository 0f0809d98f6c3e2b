import numpy as np

from ops_cases.case import Case


def large(rng, shape):
    """Logits whose exponentials overflow unless the maximum is taken off."""
    return 100 * rng.standard_normal(shape) + 1000


CASES = [
    Case(kind, [shape], {} if axis is None else {"axis": axis}, opset=opset)
    for kind in ("Softmax", "LogSoftmax")
    for opset in (7, 11, 13)
    for shape, axis in [
        ((7,), 0),
        ((3, 10), None),
        ((3, 1000), 1),
        ((2, 5, 3), 1),
        ((2, 5, 3), 2),
        ((2, 3, 4, 5), None),
        ((2, 19, 6, 7), 1),
        ((2, 3, 4, 5), 0),
        ((2, 3, 4, 5), 2),
        ((2, 3, 4, 5), 3),
        ((2, 3, 2, 4, 3), 1),
        ((2, 3, 2, 4, 3), 3),
        ((4, 1), 1),
    ]
]
CASES += [
    Case(kind, [shape], {"axis": axis}, fill=large, gradient=(), note="large")
    for kind in ("Softmax", "LogSoftmax")
    for shape, axis in [((5, 33), -1), ((2, 5, 33), -2)]
]
CASES += [Case(kind, [(3, 4)], {"axis": -2}) for kind in ("Softmax", "LogSoftmax")]
CASES += [
    Case("Hardmax", [shape], {} if axis is None else {"axis": axis}, opset=opset)
    for shape, axis in [((4, 5), None), ((3, 4, 5), 0), ((3, 4, 5), 1), ((3, 4, 5), -1), ((2, 3, 4, 5), 2)]
    for opset in (11, 13)
]
CASES += [Case("Hardmax", [np.array([[1, 3, 3], [2, 2, 2]], np.float32)], note="ties")]
# Up to opset 12 all axes from this one on are one, by default from axis 1 on.
CASES += [
    Case("Hardmax", [shape], {} if axis is None else {"axis": axis}, opset=7)
    for shape, axis in [((4, 5), None), ((3, 4, 5), None), ((3, 4, 5), 0), ((3, 4, 5), 2), ((2, 3, 4, 5), 2)]
]
