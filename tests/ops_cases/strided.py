import numpy as np

from ops_cases.case import Case


def ints(*values, dtype=np.int64):
    return np.array(values, dtype=dtype)


END = np.iinfo(np.int64).max
CASES = [
    Case("Slice", [shape], attributes, opset=opset)
    for shape, attributes, opset in [
        ((7,), {"starts": [2], "ends": [5]}, 7),
        ((5, 6), {"starts": [1, -3], "ends": [-1, 100]}, 9),
        ((2, 3, 4, 5), {"starts": [1, 0], "ends": [3, 4], "axes": [1, 3]}, 9),
        ((2, 3, 4), {"starts": [1], "ends": [1], "axes": [2]}, 9),
    ]
]
# starts, ends, and perhaps axes and steps.
CASES += [
    Case(
        "Slice",
        [shape, *(ints(*values) if values is not None else None for values in bounds)],
        constant_inputs=(1, 2, 3, 4),
        opset=opset,
        note=f"{bounds}",
    )
    for shape, bounds, opset in [
        ((7,), ((2,), (5,)), 10),
        ((7,), ((0,), (END,)), 13),
        ((7,), ((1,), (7,), (0,), (2,)), 11),
        ((7,), ((-1,), (-END,), (0,), (-1,)), 13),
        ((7,), ((100,), (1,), (-1,), (-3,)), 13),
        ((7,), ((2,), (4,), (0,), (-1,)), 13),
        ((7,), ((-100,), (3,)), 13),
        ((5, 6), ((1, 2), (4, -1)), 13),
        ((5, 6), ((1,), (4,), (-1,)), 13),
        ((2, 3, 4, 5), ((1,), (3,), (1,)), 13),
        ((2, 3, 4, 5), ((0, 3), (END, 0), (2, 3), (2, -2)), 13),
        ((2, 3, 4, 5), ((1, 0), (2, 2), (0, -1)), 13),
        ((2, 17, 5, 6), ((9, 1), (17, 5), (1, 2), (1, 2)), 13),
        ((2, 4, 5), ((3,), (-END,), (1,), (-1,)), 13),
        ((2, 3, 2, 4, 3), ((1, 1), (3, 3), (1, 3)), 13),
        ((3, 4), ((2,), (2,), (1,)), 13),
        ((3, 4), ((0,), (3,), None, (2,)), 13),
        ((2, 6, 40, 40), ((0, 0), (END, END), (2, 3), (2, 2)), 20),
    ]
]
CASES += [
    Case("Split", [shape], attributes, outputs=outputs, opset=opset)
    for shape, attributes, outputs, opset in [
        ((6,), {}, 2, 7),
        ((4, 6), {"axis": 1, "split": [1, 2, 3]}, 3, 7),
        ((4, 6), {"axis": -1, "split": [6, 0]}, 2, 11),
        ((2, 6, 4, 5), {"axis": 1}, 3, 11),
        ((2, 6, 4, 5), {"axis": 1}, 2, 13),
        ((2, 34, 4, 5), {"axis": 1, "num_outputs": 2}, 2, 18),
        ((2, 3, 4, 5), {"axis": -1, "num_outputs": 2}, 2, 18),
        ((7, 2), {"num_outputs": 3}, 3, 20),
        ((3, 2), {"num_outputs": 1}, 1, 20),
    ]
]
CASES += [
    Case("Split", [shape, ints(*sizes)], {"axis": axis}, (1,), opset, len(sizes), note=f"{sizes}")
    for shape, sizes, axis, opset in [
        ((6,), (2, 4), 0, 13),
        ((2, 6, 4, 5), (1, 3, 2), 1, 13),
        ((2, 6, 4, 5), (1, 3, 0), 2, 18),
        ((2, 3, 5), (2, 3), -1, 18),
        ((2, 6, 3, 2, 2), (4, 2), 1, 20),
    ]
]
CASES += [
    Case("Expand", [shape, ints(*wish)], constant_inputs=(1,), opset=opset, note=f"{wish}")
    for shape, wish, opset in [
        ((), (2, 3), 8),
        ((3,), (3,), 13),
        ((3, 1), (3, 4), 8),
        ((3, 1), (2, 1, 6), 13),
        ((3, 4), (1, 1), 13),
        ((1, 3, 1, 1), (2, 1, 4, 5), 13),
        ((2, 3, 1, 5), (2, 3, 4, 5), 13),
        ((2, 1, 4, 5), (2, 7, 4, 5), 13),
        ((1, 17, 1), (40, 17, 60), 13),
        ((1, 3), (0, 3), 13),
    ]
]
CASES += [
    Case("Tile", [shape, ints(*repeats)], constant_inputs=(1,), opset=opset, note=f"{repeats}")
    for shape, repeats, opset in [
        ((3,), (4,), 7),
        ((3, 4), (1, 1), 13),
        ((3, 4), (2, 3), 13),
        ((2, 3, 4), (3, 1, 2), 13),
        ((2, 3, 4, 5), (1, 2, 1, 1), 13),
        ((2, 3, 4, 5), (1, 1, 2, 3), 13),
        ((2, 3, 4, 5), (2, 2, 2, 2), 13),
        ((40, 1, 30), (2, 20, 1), 13),
        ((2, 3), (0, 2), 13),
    ]
]

# Whatever is only moved has any dtype.
CASES += [
    Case(kind, [value, *more], attributes, (1, 2, 3, 4), outputs=outputs, note=f"{value.dtype}")
    for value in (np.arange(24).reshape(4, 6), np.arange(24, dtype=np.int32).reshape(4, 6), np.eye(4, 6) > 0)
    for kind, more, attributes, outputs in [
        ("Slice", (ints(3, 1), ints(-9, 5), ints(0, 1), ints(-2, 3)), {}, 1),
        ("Split", (ints(1, 3),), {}, 2),
        ("Expand", (ints(2, 1, 1),), {}, 1),
        ("Tile", (ints(2, 1),), {}, 1),
    ]
]
CASES += [
    Case("Slice", [np.arange(4, dtype=np.uint8), ints(1, dtype=np.int32), ints(3, dtype=np.int32)], {}, (1, 2)),
]
