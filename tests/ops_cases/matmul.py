import numpy as np

from ops_cases.case import Case


def gemm(m, n, k, c=None, **attributes):
    a = (k, m) if attributes.get("transA") else (m, k)
    b = (n, k) if attributes.get("transB") else (k, n)
    inputs = [a, b] + ([c] if c is not None else [])
    return Case("Gemm", inputs, attributes, opset=13, tolerance=3e-6, reason="sums of up to 700 terms")


CASES = [
    gemm(5, 7, 3),
    gemm(16, 33, 20, (33,), transB=1),
    gemm(1, 10, 64, (10,), transB=1),
    gemm(15, 16, 17, (15, 16), transA=1),
    gemm(15, 18, 17, (15, 1), transA=1, transB=1, alpha=0.5, beta=2.0),
    gemm(230, 40, 300, (1, 40)),
    gemm(3, 1, 700, (1,), transB=1, beta=0.25),
    gemm(4, 5, 6, (1, 1), alpha=-1.5),
    Case("Gemm", [(4, 5), (5, 6), ()], opset=13),
    *(
        Case("MatMul", shapes, opset=13, tolerance=3e-6, reason="sums of up to 300 terms")
        for shapes in [
            [(3, 4), (4, 5)],
            [(2, 3, 4), (4, 5)],
            [(2, 3, 4), (2, 4, 5)],
            [(3, 4), (2, 4, 5)],
            [(2, 1, 3, 4), (1, 5, 4, 6)],
            [(4,), (4, 5)],
            [(3, 4), (4,)],
            [(4,), (4,)],
            [(2, 3, 4), (4,)],
            [(4,), (2, 4, 3)],
            [(2, 50, 300), (300, 70)],
            [(1, 3, 33, 17), (1, 3, 17, 40)],
        ]
    ),
]
# C may be left out from opset 11 on; integers, which came with 9, are multiplied where they are known.
LEFT, RIGHT = np.arange(-6, 6).reshape(3, 4), np.arange(20).reshape(4, 5)
CASES += [Case("Gemm", [(4, 5), (5, 6), (6,)], {"beta": 0.5}, opset=opset) for opset in (7, 9, 11)]
CASES += [Case("Gemm", [(4, 5), (5, 6)], opset=11)]
CASES += [Case("Gemm", [LEFT, RIGHT, RIGHT[:3]], opset=9, constant_inputs=(0, 1, 2), note="integers", judge="onnx")]
CASES += [Case("MatMul", [(2, 3, 4), (4, 5)], opset=opset) for opset in (7, 9)]
CASES += [Case("MatMul", [LEFT, RIGHT], opset=9, constant_inputs=(0, 1), note="integers")]
