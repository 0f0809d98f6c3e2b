import numpy as np

from ops_cases.case import Case

CASES = [
    Case("Concat", shapes, {"axis": axis}, opset=opset)
    for shapes, axis, opset in [
        ([(5,)], 0, 7),
        ([(5,), (1,), (3,)], 0, 11),
        ([(3, 2), (3, 4)], 1, 7),
        ([(3, 2), (1, 2)], -2, 13),
        ([(2, 3, 5), (2, 4, 5)], 1, 13),
        ([(2, 3, 4, 5), (2, 17, 4, 5), (2, 1, 4, 5)], 1, 13),
        ([(2, 3, 4, 5), (1, 3, 4, 5)], 0, 13),
        ([(2, 3, 4, 5), (2, 3, 4, 1)], 3, 11),
        ([(2, 3, 4, 5), (2, 3, 2, 5)], -2, 13),
        ([(2, 3, 1, 2, 2), (2, 2, 1, 2, 2)], 1, 13),
        ([(2, 3), (2, 0), (2, 1)], 1, 13),
    ]
]
CASES += [Case("Concat", [(2, 3, 4), (2, 5, 4)], {"axis": 1}, gradient=(1,), note="one-gradient")]
LONGS, FLAGS = np.arange(6), np.array([True, False])
CASES += [
    Case("Concat", [LONGS, LONGS[:2]], {"axis": 0}, note="int64"),
    Case("Concat", [FLAGS, FLAGS[:1]], {"axis": 0}, note="bool"),
    Case("Concat", [LONGS, LONGS[:2]], {"axis": 0}, constant_inputs=(0, 1), note="folded"),
]
