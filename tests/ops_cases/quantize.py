import ml_dtypes
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
# Blocks: even and with a shorter last one, along each axis, with and without zero points.
BLOCKED = [
    ((4, 6), 1, 3), ((4, 7), 1, 3), ((7, 4), 0, 3), ((2, 5, 3, 4), 1, 2), ((2, 5, 3, 4), -1, 4), ((3, 70, 33), 1, 16),
    ((5, 300), 1, 32), ((2, 3), 1, 100), ((5,), 0, 2),
]  # fmt: skip


def blocks(shape, axis, block):
    """A scale for each block."""
    axis %= len(shape)
    sizes = [-(-n // block) if i == axis else n for i, n in enumerate(shape)]
    return np.random.default_rng(0).uniform(0.01, 0.05, sizes).astype(np.float32)


def zeros(kind, scales):
    limits = ml_dtypes.iinfo(kind)
    return np.random.default_rng(1).integers(max(limits.min, -9), min(limits.max, 9), scales.shape).astype(kind)


CASES += [
    Case(
        "QuantizeLinear",
        [shape, scales, *([zeros(kind, scales)] if kind else [])],
        {"axis": axis, "block_size": block, **({} if kind else {"output_dtype": 5})},
        opset=opset,
        gradient=(),
        fill=wide,
        note=str(np.dtype(kind)) if kind else "int16",
    )
    for shape, axis, block in BLOCKED
    for scales in [blocks(shape, axis, block)]
    for kind, opset in [(np.int8, 21), (np.uint8, 23), (None, 21)]
]
# Below 8 bits: onnxruntime hands out no such arrays, and takes them as initializers alone; 2 bits it has not.
NARROW = (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2)
CASES += [
    Case(
        "QuantizeLinear",
        [shape, scales, zeros(kind, scales)],
        {"axis": axis, **attributes},
        opset=25,
        gradient=(),
        fill=lambda rng, shape: rng.uniform(-0.4, 0.4, shape),
        note=np.dtype(kind).name,
        judge="onnx",
    )
    for kind in NARROW
    for shape, axis, scales, attributes in [
        ((3, 5), 1, scale(), {}),
        ((3, 5), 1, scale(5), {}),
        ((3, 5), 1, blocks((3, 5), 1, 2), {"block_size": 2}),
        ((2, 3, 4, 5), 1, blocks((2, 3, 4, 5), 1, 2), {"block_size": 2}),
    ]
]


def quanta(shape, kind):
    limits = ml_dtypes.iinfo(kind) if kind in NARROW else np.iinfo(kind)
    return np.random.default_rng(0).integers(max(limits.min, -300000), min(limits.max, 300000) + 1, shape).astype(kind)


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
CASES += [
    Case(
        "DequantizeLinear",
        [quanta(shape, kind), scales, *([zeros(kind, scales)] if with_zero else [])],
        {"axis": axis, "block_size": block},
        fixed,
        21,
        note=f"{np.dtype(kind).name}{fixed}",
    )
    for shape, axis, block in BLOCKED
    for scales in [blocks(shape, axis, block)]
    for kind, with_zero, fixed in [
        (np.int8, True, ()),
        (np.uint8, True, (0, 2)),
        (np.int32, False, ()),
        (ml_dtypes.int4, True, (0, 2)),
        (ml_dtypes.uint4, True, (0, 2)),
    ]
]
CASES += [
    Case(
        "DequantizeLinear",
        [quanta((3, 5), kind), scales, zeros(kind, scales)],
        {},
        fixed,
        opset,
        note=np.dtype(kind).name,
        judge=judge,
    )
    for kind, fixed, opset, judge in [
        (ml_dtypes.int4, (0, 2), 21, "onnxruntime"),
        (ml_dtypes.uint4, (0, 2), 21, "onnxruntime"),
        (ml_dtypes.int2, (), 25, "onnx"),
        (ml_dtypes.uint2, (), 25, "onnx"),
    ]
    for scales in (scale(), scale(5))
]
CASES += [Case("DequantizeLinear", [quanta((3, 5), np.int8), scale()], {"output_dtype": 1}, opset=23)]
