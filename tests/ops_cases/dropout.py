"""Inference; training stands in tests/ops/test_dropout.py, as onnxruntime draws other numbers."""

import numpy as np

from ops_cases.case import Case

RATIO, OFF = np.array(0.25, np.float32), np.array(False)

CASES = [
    Case("Dropout", [shape], attributes, opset=opset, gradient=())
    for shape in [(7,), (3, 5), (2, 3, 4, 5)]
    for attributes, opset in [({}, 7), ({"ratio": 0.3}, 10)]
]
CASES += [
    Case("Dropout", [(2, 3, 4, 5), *more], constant_inputs=(1, 2), opset=opset, gradient=(), note=note)
    for opset in (12, 13, 22)
    for more, note in [((), "default"), ((RATIO,), "ratio"), ((RATIO, OFF), "training-off")]
]
# Not in opset 10, where onnxruntime's mask is all false though every element is kept.
CASES += [
    Case(
        "Dropout",
        [(2, 3, 4), RATIO, OFF],
        constant_inputs=(1, 2),
        opset=opset,
        outputs=2,
        gradient=(),
        note="mask",
    )
    for opset in (12, 13)
]
# With nothing to drop the training plan is exact, and its gradient can be checked like any other.
CASES += [Case("Dropout", [(3, 5), np.array(0, np.float32)], constant_inputs=(1,), note="zero")]
