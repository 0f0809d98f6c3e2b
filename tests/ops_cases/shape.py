import ml_dtypes
import numpy as np
from onnx import numpy_helper

from ops_cases.case import Case

BYTES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
LONGS = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
FLAGS = np.arange(6).reshape(2, 3) % 2 == 0


def ints(*values):
    return np.array(values, dtype=np.int64)


CASES = [
    Case("Flatten", [shape], attributes, opset=opset)
    for shape, attributes, opset in [
        ((3,), {}, 7),
        ((3, 4), {}, 9),
        ((2, 3, 4, 5), {}, 7),
        ((2, 3, 4, 5), {"axis": 0}, 9),
        ((2, 3, 4, 5), {"axis": 2}, 13),
        ((2, 3, 4, 5), {"axis": 4}, 13),
        ((2, 3, 4, 5), {"axis": -1}, 13),
        ((2, 7, 1, 1), {}, 21),
        ((2, 3, 2, 1, 3), {"axis": 3}, 21),
    ]
]
CASES += [
    Case("Reshape", [shape, ints(*wish)], attributes, constant_inputs=(1,), opset=opset, note=f"to-{wish}")
    for shape, wish, attributes, opset in [
        ((6,), (2, 3), {}, 7),
        ((2, 3, 4), (0, -1), {}, 7),
        ((2, 3, 4), (4, 6), {}, 13),
        ((2, 3, 4), (-1,), {}, 13),
        ((2, 3, 4, 5), (0, 0, 20), {}, 14),
        ((2, 6, 3, 3), (2, 2, 3, 3, 3), {}, 14),
        ((2, 5, 1, 1), (2, 5), {}, 14),
        ((1, 1), (), {}, 14),
        ((0, 3), (3, 0), {"allowzero": 1}, 14),
        ((2, 3, 2, 1, 2), (6, 4), {}, 21),
    ]
]
CASES += [
    Case("Squeeze", [shape], {"axes": axes} if axes else {}, opset=opset)
    for shape, axes, opset in [((1, 3, 1), None, 7), ((1, 3, 1, 2), [0, 2], 7), ((2, 5, 1, 1), [-1, -2], 11)]
]
CASES += [
    Case("Squeeze", [shape, *axes], constant_inputs=(1,), note=str(axes))
    for shape, axes in [
        ((1, 3, 1), ()),
        ((1, 3, 1, 2), (ints(0, -2),)),
        ((2, 5, 1, 1), (ints(2, 3),)),
        ((1,), ()),
    ]
]
CASES += [
    Case("Unsqueeze", [shape], {"axes": axes}, opset=opset)
    for shape, axes, opset in [((3,), [0], 7), ((3, 4), [1, 3], 7), ((2, 3, 4), [-1, 0], 11)]
]
CASES += [
    Case("Unsqueeze", [shape, ints(*axes)], constant_inputs=(1,), note=str(axes))
    for shape, axes in [((), (0,)), ((3,), (1, 0)), ((2, 3), (-1, 2)), ((2, 3, 4), (0, 4))]
]
CASES += [Case("Identity", [shape], opset=opset) for shape in [(), (5,), (2, 3, 4, 5)] for opset in (7, 16)]
CASES += [
    Case("Transpose", [shape], {"perm": perm} if perm else {}, opset=opset)
    for shape, perm, opset in [
        ((5,), None, 7),
        ((3, 5), None, 7),
        ((2, 3, 4), [0, 2, 1], 13),
        ((2, 3, 4, 5), [0, 2, 3, 1], 13),
        ((2, 4, 5, 3), [0, 3, 1, 2], 13),
        ((2, 3, 4, 5), [1, 0, 2, 3], 13),
        ((2, 3, 4, 5), [3, 2, 1, 0], 13),
        ((2, 3, 4, 2, 3), [0, 2, 1, 3, 4], 21),
        ((2, 1, 4, 1, 3), [3, 0, 2, 4, 1], 21),
        ((33, 70, 5), [1, 0, 2], 21),
        ((0, 3), [1, 0], 21),
    ]
]

# Whatever is only moved has any dtype.
CASES += [
    Case(kind, [value, *more], attributes, constant_inputs=(1,), note=f"{value.dtype}")
    for value in (BYTES, LONGS, BYTES.astype(np.int32))
    for kind, more, attributes in [
        ("Flatten", (), {}),
        ("Reshape", (ints(4, 6),), {}),
        ("Unsqueeze", (ints(1),), {}),
        ("Identity", (), {}),
        ("Transpose", (), {"perm": [1, 0, 2]}),
    ]
]
CASES += [Case("Transpose", [FLAGS], note="bool"), Case("Squeeze", [FLAGS[None]], opset=11, note="bool")]

# Shape arithmetic: all inputs known.
CASES += [
    Case(kind, [LONGS, *more], attributes, constant_inputs=(0, 1), note="folded")
    for kind, more, attributes in [
        ("Flatten", (), {}),
        ("Reshape", (ints(-1, 8),), {}),
        ("Squeeze", (), {}),
        ("Unsqueeze", (ints(0),), {}),
        ("Identity", (), {}),
        ("Transpose", (), {}),
    ]
]
CASES += [
    Case("Constant", [], {name: value}, opset=opset, note=name)
    for name, value, opset in [
        ("value", numpy_helper.from_array(LONGS), 9),
        ("value", numpy_helper.from_array(np.float32(2.5)), 13),
        ("value_float", 0.25, 13),
        ("value_floats", [0.5, -1.5], 13),
        ("value_int", -3, 13),
        ("value_ints", [4, 5, 6], 13),
    ]
]
CASES += [
    Case("Constant", [], {name: value}, opset=opset, note=name)
    for opset, name, value in [
        (7, "value", numpy_helper.from_array(LONGS)),
        (11, "value", numpy_helper.from_array(LONGS)),
        (12, "value_float", 0.25),
        (12, "value_floats", [0.5, -1.5]),
        (12, "value_int", -3),
        (12, "value_ints", [4, 5, 6]),
        *((opset, "value_ints", [4, 5, 6]) for opset in (19, 21, 23, 24, 25)),
    ]
]

# Versions that only add dtypes: what is moved has a byte each or more, whatever it stands for.
ADDED = {19: "float8_e4m3fn", 21: "int4", 23: "float4_e2m1fn", 24: "float8_e8m0fnu", 25: "uint2"}
CASES += [
    Case(kind, [moved, *more], attributes, (1,), opset, note=dtype, judge="onnx")
    for opset, dtype in ADDED.items()
    for numbers in [np.arange(24).reshape(2, 3, 4) % 3 + 1]  # float8_e8m0fnu has no 0
    for moved in [numbers.astype(getattr(ml_dtypes, dtype))]
    for kind, more, attributes in [
        ("Flatten", (), {"axis": -2}),
        ("Identity", (), {}),
        ("Reshape", (ints(0, -1),), {}),
        ("Squeeze", (ints(),), {}),
        ("Transpose", (), {"perm": [0, 2, 1]}),
        ("Unsqueeze", (ints(-1, 0),), {}),
    ]
]
CASES += [
    Case(kind, [shape, *more], attributes, (1,), opset, note="dtypes")
    for opset in (13, 14, 21, 23, 24, 25)
    for kind, shape, more, attributes in [
        ("Flatten", (2, 3, 4, 5), (), {"axis": -2}),
        ("Identity", (2, 3, 4, 5), (), {}),
        ("Reshape", (2, 3, 4), (ints(0, -1),), {}),
        ("Squeeze", (2, 1, 3), (ints(-2),), {}),
        ("Transpose", (2, 3, 4, 5), (), {"perm": [0, 2, 3, 1]}),
        ("Unsqueeze", (2, 3, 4), (ints(-1, 0),), {}),
    ]
]
CASES += [Case("Flatten", [(2, 3, 4, 5)], {"axis": axis}, opset=11) for axis in (-1, -3)]
