import numpy as np

from ops_cases.case import Case


def ints(*values):
    return np.array(values, dtype=np.int64)


def number(value, dtype=np.int64):
    return np.array(value, dtype)


TIES = np.array([[3, 1, 3, -2, 1], [0, 0, 0, 0, 0], [-5, 7, -5, 7, 2]])
CASES = [
    Case("TopK", [shape], {"k": k, "axis": axis}, outputs=2, opset=7)
    for shape, k, axis in [((5,), 2, 0), ((3, 6), 6, 1), ((2, 3, 4, 5), 2, 1)]
]
CASES += [
    Case("TopK", [shape, ints(k)], attributes, (1,), opset, outputs=outputs, note=f"{k}")
    for shape, k, attributes, outputs, opset in [
        ((5,), 1, {}, 2, 10),
        ((4, 9), 3, {}, 2, 10),
        ((4, 9), 3, {"axis": 0}, 2, 11),
        ((4, 9), 9, {"largest": 0}, 2, 11),
        ((2, 3, 4, 5), 2, {"axis": 1}, 2, 11),
        ((2, 3, 4, 5), 3, {"axis": -2, "largest": 0}, 2, 20),
        ((2, 3, 4, 5), 5, {}, 2, 20),
        ((3, 2000), 50, {}, 2, 20),
        ((3, 4), 0, {}, 2, 20),
    ]
]
CASES += [
    Case(
        "TopK", [TIES.astype(dtype), ints(4)], {"largest": largest}, (1,), outputs=2, gradient=(), note=f"ties-{dtype}"
    )
    for dtype in ("float32", "int32", "int64")
    for largest in (0, 1)
]
CASES += [
    Case("Trilu", [shape, *(ints(n) if n is not None else None for n in k)], {"upper": upper}, (1,), 14, note=f"{k}")
    for shape, k in [
        ((3, 4), ()),
        ((5, 3), (1,)),
        ((2, 4, 4), (-1,)),
        ((2, 3, 4, 5), (2,)),
        ((3, 3), (9,)),
        ((3, 3), (-9,)),
    ]
    for upper in (0, 1)
]
CASES += [
    Case("Trilu", [np.arange(12).reshape(3, 4).astype(dtype), number(-1)], {}, (1,), note=dtype)
    for dtype in ("int64", "bool")
]
CASES += [
    Case(
        "OneHot",
        [indices, number(4, indices.dtype), values],
        {"axis": axis},
        fixed,
        opset,
        note=f"{fixed}{indices.dtype}{values.dtype}",
    )
    for indices, values, axis, fixed, opset in [
        (ints(0, 3, -1, 9), np.array([0, 1], np.float32), -1, (1, 2), 9),
        (ints(0, 3, -5, 4), np.array([-2, 5], np.float32), 0, (1,), 11),
        (ints(1, 2, 3, 0, 0, 2).reshape(2, 3), np.array([0, 1], np.float32), 1, (1, 2), 11),
        (ints(1, 2, 3, 0, 0, 2).reshape(2, 3), np.array([7, 8]), -2, (1, 2), 13),
        (ints(1, 2, 3).astype(np.int32), np.array([0, 1], np.float32), -1, (1,), 13),
        (np.array([1, 2, -3], np.float32), np.array([0, 1], np.float32), -1, (1,), 13),
    ]
]
CASES += [
    Case("CumSum", [shape, number(axis, dtype)], {"exclusive": exclusive, "reverse": reverse}, (1,), 14, note=f"{axis}")
    for shape, axis, dtype in [
        ((5,), 0, np.int64),
        ((3, 4), 0, np.int32),
        ((3, 4), -1, np.int64),
        ((2, 3, 4, 5), 1, np.int64),
        ((2, 3, 4, 5), 2, np.int64),
        ((2, 3, 1500), 1, np.int64),
        ((0, 3), 0, np.int64),
    ]
    for exclusive in (0, 1)
    for reverse in (0, 1)
]
CASES += [Case("CumSum", [TIES.astype(dtype), number(1)], {}, (1,), 11, note=dtype) for dtype in ("int32", "int64")]
CASES += [
    Case(
        "CumProd",
        [(2, 3, 4, 5), number(axis)],
        {"exclusive": exclusive, "reverse": reverse},
        (1,),
        26,
        judge="onnx",
        note=f"{axis}",
    )
    for axis in (0, 1, -1)
    for exclusive, reverse in [(0, 0), (1, 0), (0, 1), (1, 1)]
]
CASES += [
    Case("CumProd", [TIES.astype(dtype), number(1)], {}, (1,), 26, judge="onnx", note=dtype)
    for dtype in ("int32", "int64")
]
CASES += [
    Case("TopK", [(4, 9), ints(3)], {"axis": 0, "largest": 0}, (1,), 24, outputs=2),
    Case("OneHot", [ints(0, 3, -1, 9), number(4), np.array([0, 1], np.float32)], {"axis": 0}, (1, 2), 28),
]


def with_zeros(rng, shape):
    """Small whole numbers, in some rows one 0, in some several, in some none."""
    return rng.choice([-2, -1, 0, 1, 2, 3], shape, p=[0.2, 0.2, 0.15, 0.15, 0.15, 0.15])


CASES += [
    Case("CumProd", [(7, 6), number(axis)], {"exclusive": exclusive, "reverse": reverse}, (1,), 26, judge="onnx",
         fill=with_zeros, note=f"{axis}-zeros")
    for axis in (0, 1)
    for exclusive, reverse in [(0, 0), (1, 0), (0, 1), (1, 1)]
]  # fmt: skip
