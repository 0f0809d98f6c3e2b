import numpy as np

from ops_cases.case import Case


def ints(*values, dtype=np.int64):
    return np.array(values, dtype=dtype)


def indices(shape, size, dtype=np.int64):
    """Some of each sign, some twice."""
    return np.random.default_rng(sum(shape) + size).integers(-size, size, shape).astype(dtype)


GATHERS = [
    ((5,), ints(0, 4, -1, 2, 2), 0),
    ((5,), np.array(3), 0),
    ((5, 7), np.array(-2), 1),
    ((5, 7), indices((2, 3), 5), 0),
    ((5, 7), indices((2, 3), 7), -1),
    ((2, 3, 4, 5), indices((6,), 3), 1),
    ((2, 3, 4, 5), indices((3,), 4, np.int32), 2),
    ((2, 3, 4, 5), indices((7,), 5), -1),
    ((2, 3, 4, 5), indices((3,), 2), 0),
    ((2, 3, 4, 5), indices((2, 2), 4), 2),
    ((2, 3, 4, 5), np.array(1), 1),
    ((2, 3, 4, 5), np.array(-1), 2),
    ((2, 17, 9), np.array(0), 1),
    ((40, 300), indices((1000,), 40), 0),
    ((40, 3), indices((9000,), 40), 0),
    ((3, 4), ints(), 1),
    ((2, 3, 2, 2, 3), indices((5,), 3), 1),
]
CASES = [
    Case("Gather", [shape, index], {"axis": axis}, constant_inputs=fixed, opset=opset, note=f"{fixed}")
    for shape, index, axis in GATHERS
    for fixed, opset in [((1,), 11), ((), 13)]
]
CASES += [Case("Gather", [shape, index], {}, opset=7) for shape, index, axis in GATHERS[:5] if axis == 0]
CASES += [
    Case("GatherElements", [shape, index], {"axis": axis}, constant_inputs=fixed, opset=opset, note=f"{fixed}")
    for shape, index, axis, fixed, opset in [
        ((5,), indices((9,), 5), 0, (), 11),
        ((5, 7), indices((3, 7), 5), 0, (), 11),
        ((5, 7), indices((3, 7), 5), 0, (1,), 13),
        ((5, 7), indices((5, 2), 7, np.int32), -1, (), 13),
        ((2, 3, 4, 5), indices((2, 6, 3, 5), 3), 1, (), 13),
        ((2, 3, 4, 5), indices((1, 2, 3, 9), 5), 3, (1,), 13),
        ((70, 300), indices((70, 150), 300), 1, (), 13),
        ((3, 4), np.zeros((0, 4), np.int64), 0, (), 13),
    ]
]
CASES += [
    Case("GatherND", [shape, index], attributes, constant_inputs=fixed, opset=opset, note=f"{fixed}")
    for shape, index, attributes, fixed, opset in [
        ((5,), ints(3, -1, 3).reshape(3, 1), {}, (), 11),
        ((5, 7), indices((4, 2), 5), {}, (), 11),
        ((5, 7), indices((2, 3, 1), 5), {}, (1,), 12),
        ((2, 3, 4, 5), indices((6, 3), 2), {}, (), 13),
        ((2, 3, 4, 5), indices((2, 6, 1), 3), {"batch_dims": 1}, (), 13),
        ((2, 3, 4, 5), indices((2, 3, 2), 4), {"batch_dims": 2}, (1,), 13),
        ((2, 3, 4, 5), indices((2, 3, 7, 1), 4), {"batch_dims": 2}, (), 13),
        ((30, 4, 100), indices((30, 50, 1), 4), {"batch_dims": 1}, (), 13),
    ]
]
CASES += [
    Case(
        "Compress",
        [shape, np.array(condition, bool)],
        attributes,
        constant_inputs=(1,),
        opset=opset,
        note=f"{condition}",
    )
    for shape, condition, attributes, opset in [
        ((5,), [1, 0, 1, 1, 0], {}, 9),
        ((3, 4), [0, 1, 1], {"axis": 1}, 9),
        ((3, 4), [0, 1, 0, 0, 0, 1, 1], {}, 11),
        ((2, 3, 4, 5), [1, 0, 1], {"axis": -3}, 11),
        ((2, 3, 4, 5), [0, 0, 0, 1, 1], {"axis": 3}, 11),
        ((2, 3, 4, 5), [0, 1] * 20, {}, 11),
        ((3, 4), [0, 0], {"axis": 0}, 11),
    ]
]
CASES += [
    Case("ReverseSequence", [shape, lengths], attributes, constant_inputs=fixed, opset=10)
    for shape, lengths, attributes, fixed in [
        ((4, 3), ints(4, 1, 0), {}, ()),
        ((3, 4), ints(4, 2, 3), {"time_axis": 1, "batch_axis": 0}, (1,)),
        ((3, 4, 5), ints(3, 2, 0, 1), {"time_axis": 0, "batch_axis": 1}, ()),
        ((3, 4, 5, 6), ints(4, 2, 3), {"time_axis": 1, "batch_axis": 0}, ()),
    ]
]

# Whatever is only moved has any dtype.
TABLES = [np.arange(12).reshape(3, 4), np.arange(12, dtype=np.int32).reshape(3, 4), np.eye(3, 4) > 0]
CASES += [
    Case(kind, [table, *more], attributes, constant_inputs=fixed, note=f"{table.dtype}")
    for table in TABLES
    for kind, more, attributes, fixed in [
        ("Gather", (ints(2, -1),), {"axis": 1}, ()),
        ("Gather", (np.array(2),), {"axis": 0}, (1,)),
        ("GatherElements", (ints(2, 0, 1, -1).reshape(1, 4),), {}, ()),
        ("GatherND", (ints(0, 1, 2, 2).reshape(2, 2),), {}, ()),
        ("Compress", (np.array([False, True]),), {"axis": 1}, (1,)),
    ]
]
CASES += [Case("ReverseSequence", [table, ints(3, 0, 2, 1)], opset=10, note=f"{table.dtype}") for table in TABLES[:1]]
CASES += [Case("Gather", [np.arange(9, dtype=np.uint8), ints(3, 5)]), Case("Gather", [ints(7, 8), ints(1)], {}, (0, 1))]
CASES += [
    Case("Compress", [(3, 4), np.array([False, True, True])], {"axis": 1}, (1,), 28),
    Case("ReverseSequence", [(3, 4, 5), ints(3, 2, 0, 1)], opset=28),
]
