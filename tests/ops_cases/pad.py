import numpy as np

from ops_cases.case import Case


def ints(*values):
    return np.array(values, dtype=np.int64)


def value(x):
    return np.array(x, dtype=np.float32)


OLD = [
    ((5,), (2, 1)),
    ((3, 4), (0, 1, 2, 0)),
    ((2, 3, 4, 5), (0, 0, 1, 2, 0, 0, 2, 1)),
    ((2, 3, 4, 5), (1, 1, 0, 0, 1, 0, 0, 2)),
    ((2, 3, 4, 5), (0, 0, -1, 2, 0, 0, 1, -2)),
    ((1, 17, 6), (0, 0, 3, 0, 0, 3)),
    ((2, 2, 3, 2, 4), (0, 0, 1, 1, 2, 0, 0, 2, 0, 1)),
    ((2, 3, 4), (0, 0, 0, 0, 0, 0)),
]
CASES = [
    Case("Pad", [shape], {"pads": list(pads), "mode": "constant", "value": 1.5}, opset=opset)
    for shape, pads in OLD
    for opset in (7, 10)
]
CASES += [
    Case(
        "Pad",
        [shape, ints(*pads), *more],
        {"mode": "constant"},
        constant_inputs=(1, 2),
        opset=opset,
        note=f"{pads}",
    )
    for shape, pads in OLD
    for opset, more in [(11, ()), (13, (value(-2),)), (21, (value(0.5),))]
]
# Within the bounds of every mode: a mirror image is smaller than what it shows.
INNER = [
    ((5,), (2, 4)),
    ((3, 4), (2, 1, 2, 3)),
    ((2, 3, 4, 5), (0, 0, 1, 2, 0, 0, 2, 4)),
    ((2, 3, 4, 5), (1, 1, 0, 0, 1, 2, 0, 2)),
    ((2, 5, 40), (0, 0, 17, 0, 0, 13)),
    ((2, 3, 2, 3, 4), (0, 0, 1, 1, 2, 0, 0, 1, 0, 1)),
]
CASES += [
    Case("Pad", [shape, ints(*pads)], {"mode": mode}, constant_inputs=(1,), opset=opset, note=f"{pads}")
    for shape, pads in INNER
    for mode, opset in [("reflect", 11), ("edge", 13), ("reflect", 20), ("edge", 20), ("wrap", 19)]
]
CASES += [
    Case("Pad", [shape], {"mode": mode, "pads": list(pads)}, opset=9)
    for shape, pads in INNER
    for mode in ("reflect", "edge")
]
CASES += [
    Case(
        "Pad",
        [(2, 3, 6, 5), ints(0, 0, -2, 1, 0, 0, 1, -1)],
        {"mode": mode},
        constant_inputs=(1,),
        note="negative",
    )
    for mode in ("reflect", "edge", "wrap")
]
CASES += [
    Case(
        "Pad",
        [(2, 3, 4, 5), ints(1, 2, 0, 1), None, ints(3, -2)],
        {"mode": mode},
        constant_inputs=(1, 3),
        note="axes",
    )
    for mode in ("constant", "edge")
]
LONGS, BYTES = np.arange(6).reshape(2, 3), np.arange(6, dtype=np.uint8).reshape(2, 3)
CASES += [
    Case("Pad", [data, ints(1, 0, 0, 2), np.array(7, data.dtype)], constant_inputs=(1, 2), note=f"{data.dtype}")
    for data in (LONGS, BYTES, LONGS.astype(np.int32), LONGS > 2)
]
# Axes came with opset 18, and may be int32, though not to onnxruntime.
CASES += [
    Case(
        "Pad",
        [(2, 3, 4, 5), ints(1, 2, 0, 1), value(0.5), np.array([3, -2], dtype)],
        constant_inputs=(1, 2, 3),
        opset=opset,
        note=f"axes-{dtype}",
        judge="onnxruntime" if dtype == "int64" else "onnx",
    )
    for dtype in ("int32", "int64")
    for opset in (18, 23, 24, 25)
]

# A value that is computed while the model runs; other modes have no use for it.
CASES += [
    Case("Pad", [shape, ints(*pads), value(0.5)], {"mode": mode}, (1,), 21, note=f"{pads}-computed",
         gradient=None if mode == "constant" else (0,))
    for shape, pads in INNER + OLD[3:]
    for mode in ("constant", "edge")
    if mode == "constant" or (shape, pads) in INNER
]  # fmt: skip
CASES += [Case("Pad", [LONGS, ints(1, 0, 0, 2), np.array([7])], {}, (1,), note="computed")]
