import numpy as np

from ops_cases.case import Case

NAMES = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")


def positive(rng, shape):
    return np.asarray(rng.uniform(0.3, 2, shape))


def apart(rng, shape):
    """Numbers of which no two are near each other, nor near 0."""
    size = int(np.prod(shape))
    return ((rng.permutation(size) + 1) * rng.choice([-1, 1], size) / 16).reshape(shape)


FILLS = {"LogSum": positive, "Max": apart, "Min": apart, "Prod": positive, "L1": apart}

# Shape, axes.
REDUCED = [
    ((7,), [0]),
    ((7,), None),
    ((3, 5), [1]),
    ((3, 5), [-2]),
    ((3, 5), [0, 1]),
    ((3, 1, 5), [1]),
    ((2, 3, 4, 5), None),
    ((2, 3, 4, 5), [2, 3]),
    ((2, 3, 4, 5), [-1, -2]),
    ((2, 3, 4, 5), [1]),
    ((2, 3, 4, 5), [-1]),
    ((2, 3, 4, 5), [0, 2]),
    ((2, 3, 4, 5), [0]),
    ((2, 17, 9), [1]),
    ((2, 17, 9), [0, 2]),
    ((2, 4, 3, 2, 5), [2, 3, 4]),
    ((2, 4, 3, 2, 5), [1, 3]),
]


def ints(values):
    return None if values is None else np.array(values, np.int64)


def given(name, opset):
    """Whether the axes are an input."""
    return opset >= (13 if name == "Sum" else 18)


CASES = [
    Case(
        f"Reduce{name}",
        [shape, *([ints(axes)] if given(name, opset) and axes is not None else [])],
        {"keepdims": keep, **({} if given(name, opset) or axes is None else {"axes": axes})},
        constant_inputs=(1,),
        opset=opset,
        fill=FILLS.get(name),
        tolerance=1e-5,
        reason="sums that cancel",
        note=f"{axes}",
    )
    for name in NAMES
    for shape, axes in REDUCED
    for opset in (7, 13 if name == "Sum" else 18)
    for keep in (0, 1)
]
CASES += [
    Case(f"Reduce{name}", [shape], {}, opset=opset, fill=FILLS.get(name, positive), note="default")
    for name in NAMES
    for shape in [(), (3, 4)]
    for opset in (13, 18)
]
# onnxruntime gives the input itself for noop_with_empty_axes with a single element's work to do (SumSquare, ...), where
# ONNX from opset 18 on says that this is done; where both agree:
CASES += [
    Case(
        f"Reduce{name}",
        [(2, 3, 4, 5), *axes],
        {"noop_with_empty_axes": 1, "keepdims": keep},
        constant_inputs=(1,),
        opset=18,
        fill=FILLS.get(name),
        note=note,
    )
    for name in ("Sum", "Mean", "Max", "Min", "Prod")
    for keep in (0, 1)
    for axes, note in [((), "none"), ((ints([]),), "empty"), ((ints([1, 2]),), "some")]
]
CASES += [
    Case(f"Reduce{name}", [(40, 33, 50)], {"axes": axes}, opset=11, fill=positive, note=f"many-{axes}", tolerance=1e-5,
         reason="onnxruntime adds up to 66,000 numbers one after the other", gradient=())
    for name in ("Sum", "Mean", "L2", "LogSumExp")
    for axes in ([0, 1, 2], [0, 2], [1])
]  # fmt: skip
CASES += [
    Case("ReduceLogSumExp", [np.array([[1000, 1001], [-1000, -1000]], np.float32)],
         {"axes": [1]}, opset=13, gradient=(), note="far")
]  # fmt: skip
CASES += [
    Case(f"Reduce{name}", [np.random.default_rng(0).random((3, 4)) < 0.5, ints([1])], {"keepdims": keep},
         constant_inputs=(1,), opset=20, note="bool")
    for name in ("Max", "Min")
    for keep in (0, 1)
]  # fmt: skip


def few(rng, shape):
    """Numbers of which many are equal."""
    return np.asarray(rng.integers(-2, 3, shape))


CASES += [
    Case(kind, [shape], {"axis": axis, "keepdims": keep, **last}, opset=opset, fill=few)
    for kind in ("ArgMax", "ArgMin")
    for shape, axis in [
        ((7,), 0),
        ((3, 5), 1),
        ((3, 5), -2),
        ((2, 3, 4, 5), 1),
        ((2, 3, 4, 5), -1),
        ((2, 3, 4, 5), 0),
        ((2, 17, 9), 1),
        ((2, 4, 3, 2, 5), 2),
    ]
    for keep in (0, 1)
    for opset, last in [(7, {}), (13, {}), (13, {"select_last_index": 1})]
    if opset >= 11 or axis >= 0
]
CASES += [Case(kind, [(3, 5)], fill=few, note="default") for kind in ("ArgMax", "ArgMin")]
# Axes are counted from the end from opset 11 on, by all operators; the last of equal ones is selected from 12 on.
CASES += [
    Case(f"Reduce{name}", [(2, 3, 4, 5)], {"axes": axes, "keepdims": 0}, opset=opset, fill=FILLS.get(name, positive))
    for name in NAMES
    for axes in ([-1], [-3, 2])
    for opset in ((11, 12) if name in ("Max", "Min") else (11,))
]
CASES += [
    Case(f"Reduce{name}", [np.array([[3, 1, 7], [2, 9, 4]], dtype)], {"axes": [-1]}, (0,), opset=12, note=dtype)
    for name in ("Max", "Min")
    for dtype in ("int8", "uint8")
]
CASES += [
    Case(f"Reduce{name}", [(2, 3, 4, 5), ints([-1, 1])], {"keepdims": 0}, (1,), 28, fill=positive)
    for name in ("LogSum", "LogSumExp")
]
CASES += [
    Case(kind, [(2, 3, 4, 5)], {"axis": -2, **last}, opset=opset, fill=few)
    for kind in ("ArgMax", "ArgMin")
    for opset, last in [(11, {}), (12, {}), (12, {"select_last_index": 1})]
]
