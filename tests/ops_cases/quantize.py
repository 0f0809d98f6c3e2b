import numpy as np

from ops_cases.case import Case


def of(dtype, *values):
    return np.array(values if len(values) != 1 else values[0], dtype)


def scale(n=None):
    return np.array(0.03 if n is None else np.linspace(0.01, 0.05, n), np.float32)


def wide(rng, shape):
    """Some are clipped: 0.01 * 128 is 1.28."""
    return rng.uniform(-4, 4, shape)


KINDS = ("int8", "uint8", "int16", "uint16")
CASES = [
    Case(
        "QuantizeLinear",
        [(3, 4), scale(), of(kind, 3)],
        {},
        fixed,
        opset,
        gradient=(),
        fill=wide,
        note=f"{kind}{fixed}",
    )
    for kind in KINDS
    for fixed, opset in [((1, 2), 10), ((), 13), ((1, 2), 21)]
    if opset >= 21 or kind in ("int8", "uint8")
]
CASES += [
    Case(
        "QuantizeLinear",
        [shape, scale(shape[axis]), (np.arange(shape[axis]) - shape[axis] // 2).astype(kind)],
        {"axis": axis},
        opset=opset,
        gradient=(),
        fill=wide,
        note=kind,
    )
    for kind in ("int8", "uint8")
    for shape, axis, opset in [((2, 5, 3, 4), 1, 13), ((6, 4), 0, 13), ((2, 3, 7), -1, 19), ((70, 33, 20, 1), 1, 19)]
]
CASES += [
    Case("QuantizeLinear", [(2, 3), scale()], opset=13, gradient=(), fill=wide),
    Case("QuantizeLinear", [np.array([0.5, 1.5, 2.5, -0.5, 1e9, -1e9], np.float32), of(np.float32, 1)], gradient=()),
    Case("QuantizeLinear", [(2, 3), scale()], {"output_dtype": 3}, opset=21, gradient=(), fill=wide),
]


def quanta(shape, kind):
    limits = np.iinfo(kind)
    return np.random.default_rng(0).integers(max(limits.min, -300000), min(limits.max, 300000), shape).astype(kind)


CASES += [
    Case("DequantizeLinear", [quanta((3, 4), kind), scale(), of(kind, 3)], {}, fixed, opset, note=f"{kind}{fixed}")
    for kind in KINDS
    for fixed, opset in [((1, 2), 10), ((), 13), ((1, 2), 21)]
    if opset >= 21 or kind in ("int8", "uint8")
]
CASES += [
    Case(
        "DequantizeLinear",
        [quanta(shape, kind), scale(shape[axis]), *zero],
        {"axis": axis},
        fixed,
        13,
        note=f"{kind}{fixed}{len(zero)}",
    )
    for kind in ("int8", "uint8", "int32")
    for shape, axis in [((2, 5, 3, 4), 1), ((6, 4), 0), ((70, 33, 20, 1), 1)]
    for zero in ([], [np.arange(shape[axis]).astype(kind)])
    for fixed in ((), (0, 1, 2))
    if kind != "int32" or not zero
]
