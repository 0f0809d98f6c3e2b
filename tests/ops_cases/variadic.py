import numpy as np

from ops_cases.case import Case

SHAPES = [
    [()],
    [(2, 3, 4, 5)],
    [(3, 5), (3, 5)],
    [(3, 5), (5,), ()],
    [(3, 1), (1, 5), (3, 5), (1,)],
    [(2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5)],
    [(2, 3, 4, 5), (3, 1, 1), (2, 1, 4, 5)],
    [(1, 3, 1, 1), (2, 3, 4, 5)],
    [(17, 1), (2, 17, 9), (1,)],
]

CASES = [
    Case(kind, shapes, opset=opset)
    for kind, opsets in {"Sum": (8, 13), "Mean": (8, 13), "Max": (8, 12, 13), "Min": (8, 12, 13)}.items()
    for shapes in SHAPES
    for opset in opsets
]
CASES += [Case(kind, [(3, 5)] * 3, opset=7, note="no-broadcasting") for kind in ("Sum", "Mean", "Max", "Min")]
CASES += [
    Case(kind, [np.array([[3, 1, 7]], dtype), np.array([[2], [5]], dtype)], opset=12, note=dtype)
    for kind in ("Max", "Min")
    for dtype in ("int32", "int64", "uint8", "int8")
]
