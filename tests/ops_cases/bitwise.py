"""Integers of all widths, with bits of all kinds; shifts up to past the width."""

import numpy as np

from ops_cases.case import Case

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def bits(dtype, shape, seed):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(size), dtype).reshape(shape)


def counts(dtype, shape, seed):
    # onnxruntime shifts as C does, where as many places as bits say nothing; tests/ops/test_bitwise.py goes past them.
    return np.random.default_rng(seed).integers(0, np.dtype(dtype).itemsize * 8, shape).astype(dtype)


CASES = [
    Case(kind, [bits(dtype, (2, 3, 4), 0), bits(dtype, shape, 1)], note=dtype)
    for kind in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    for dtype in INTEGERS
    for shape in [(2, 3, 4), (3, 1)]
]
CASES += [Case("BitwiseNot", [bits(dtype, (3, 5), 0)], note=dtype) for dtype in INTEGERS]
CASES += [
    Case("BitShift", [bits(dtype, (3, 5), 0), counts(dtype, shape, 1)], {"direction": direction}, note=dtype)
    for dtype in ("uint8", "uint32", "uint64")
    for shape in [(3, 5), (5,)]
    for direction in ("LEFT", "RIGHT")
]
# Integers with a sign came with opset 28, and with them what is said of counts past the width.
CASES += [
    Case(
        "BitShift",
        [bits(dtype, (3, 5), 0), np.array([0, 1, 7, 31, 100], dtype)],
        {"direction": direction},
        opset=28,
        judge="onnx",
        note=dtype,
    )
    for dtype in ("int8", "int32", "int64", "uint8", "uint64")
    for direction in ("LEFT", "RIGHT")
]
