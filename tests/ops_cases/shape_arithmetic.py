import numpy as np
from onnx import TensorProto, numpy_helper

from ops_cases.case import Case


def ints(*values):
    return np.array(values, dtype=np.int64)


LONGS, FLAGS = np.arange(6).reshape(2, 3), np.array([[True, False, True], [False, False, True]])

CASES = [
    Case("Shape", [shape], attributes, opset=opset)
    for shape, attributes, opset in [
        ((), {}, 7),
        ((5,), {}, 13),
        ((2, 3, 4, 5), {}, 7),
        ((2, 3, 4, 5), {"start": 1}, 15),
        ((2, 3, 4, 5), {"end": 2}, 19),
        ((2, 3, 4, 5), {"start": -2, "end": -1}, 21),
        ((2, 3, 4, 5), {"start": -9, "end": 9}, 21),
        ((2, 3, 4, 5), {"start": 3, "end": 1}, 21),
        ((0, 3), {}, 21),
    ]
]
CASES += [Case("Size", [shape], opset=opset) for shape, opset in [((), 7), ((2, 3, 4), 13), ((0, 3), 21)]]
CASES += [Case(kind, [value], note=f"{value.dtype}") for kind in ("Shape", "Size") for value in (LONGS, FLAGS)]
CASES += [
    Case("EyeLike", [value], attributes, opset=opset, note=f"{np.asarray(value).dtype}")
    for value, attributes, opset in [
        ((3, 3), {}, 9),
        ((2, 4), {"k": 1}, 9),
        ((4, 2), {"k": -1, "dtype": TensorProto.INT64}, 22),
        (LONGS, {}, 22),
        (LONGS, {"dtype": TensorProto.FLOAT, "k": 5}, 22),
    ]
]
CASES += [
    Case("Range", [np.array(n, dtype) for n in limits], constant_inputs=(0, 1, 2), note=f"{limits}-{dtype.__name__}")
    for dtype, limits in [
        (np.int64, (0, 5, 1)),
        (np.int64, (7, -2, -3)),
        (np.int64, (7, -2, 3)),
        (np.int32, (-4, 5, 4)),
        (np.float32, (0.5, 3, 0.5)),
        (np.float32, (2, 0.1, -0.7)),
    ]
]
CASES += [
    Case("ConstantOfShape", [shape], attributes, constant_inputs=(0,), opset=opset, note=f"{shape}")
    for shape, attributes, opset in [
        (ints(2, 3), {}, 9),
        (ints(), {}, 9),
        (ints(2, 0), {}, 20),
        (ints(4), {"value": numpy_helper.from_array(ints(7))}, 21),
        (ints(1, 2), {"value": numpy_helper.from_array(np.array([True]))}, 21),
    ]
]
CASES += [
    Case("NonZero", [value], constant_inputs=(0,), opset=opset, note=f"{value.dtype}")
    for value, opset in [
        (LONGS, 9),
        (FLAGS, 13),
        (FLAGS.astype(np.float32), 13),
        (np.zeros((2, 2), np.int64), 13),
        (ints(3), 13),
    ]
]
# Versions that only add dtypes, which a plan has not.
CASES += [
    Case(kind, [value], attributes, fixed, opset)
    for opset in (23, 24, 25)
    for kind, value, fixed, attributes in [
        ("Shape", (2, 3, 4, 5), (), {"start": -3, "end": 3}),
        ("Size", (2, 3, 4, 5), (), {}),
        ("ConstantOfShape", ints(2, 3), (0,), {"value": numpy_helper.from_array(ints(7))}),
    ]
]
# The attribute is for dtypes of 16 bits, which a plan computes in more.
CASES += [
    Case("Range", [np.array(n, dtype) for n in (7, -2, -3)], {"stash_type": 1}, (0, 1, 2), 27, note=dtype, judge="onnx")
    for dtype in ("int64", "float32")
]
