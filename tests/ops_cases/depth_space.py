import numpy as np

from ops_cases.case import Case

CASES = [
    Case("DepthToSpace", [(2, 12, 3, 4)], {"blocksize": 2}, opset=13),
    Case("DepthToSpace", [(2, 12, 3, 4)], {"blocksize": 2, "mode": "CRD"}, opset=13),
    Case("DepthToSpace", [(1, 18, 2, 1)], {"blocksize": 3}, opset=7),
    Case("SpaceToDepth", [(2, 3, 4, 6)], {"blocksize": 2}, opset=13),
    Case(
        "DepthToSpace", [np.arange(48, dtype=np.uint8).reshape(1, 12, 2, 2)], {"blocksize": 2}, opset=13, note="uint8"
    ),
    Case("SpaceToDepth", [(1, 1, 6, 3)], {"blocksize": 3}, opset=7),
]
# The mode came to DepthToSpace with opset 11, to SpaceToDepth with 28; onnxruntime has it not.
CASES += [Case("DepthToSpace", [(2, 12, 3, 4)], {"blocksize": 2, "mode": mode}, opset=11) for mode in ("DCR", "CRD")]
CASES += [
    Case(kind, [shape], {"blocksize": 2, **mode}, opset=28, judge="onnx")
    for kind, shape in [("DepthToSpace", (2, 12, 3, 4)), ("SpaceToDepth", (2, 3, 4, 6))]
    for mode in ({}, {"mode": "DCR"}, {"mode": "CRD"})
]
