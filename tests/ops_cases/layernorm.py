from ops_cases.case import Case

ROUNDED = {"tolerance": 5e-6, "reason": "onnxruntime finds the variance as mean(x^2) - mean(x)^2"}

# Shape, axis, shape of scale and bias.
ROWS = [
    ((7,), 0, (7,)),
    ((3, 5), -1, (5,)),
    ((3, 5), 0, (3, 5)),
    ((2, 3, 64), 2, (64,)),
    ((2, 3, 4, 5), -1, (5,)),
    ((2, 3, 4, 5), 1, (3, 4, 5)),
    ((2, 3, 4, 5), -2, (4, 5)),
    ((2, 5, 6, 33), -1, (33,)),
    ((700, 96), -1, (96,)),
    ((3, 2, 5000), -1, (5000,)),
]
# Scale and bias that are not a row.
OTHERS = [
    ((2, 3, 4, 5), -1, (1,)),
    ((2, 3, 4, 5), 1, (5,)),
    ((2, 3, 4, 5), -1, (3, 1, 5)),
    ((2, 3, 4, 5), 2, (4, 1)),
]

CASES = [
    Case("LayerNormalization", [x, p, p], {"axis": axis, **more}, opset=17, **ROUNDED)
    for x, axis, p in ROWS + OTHERS
    for more in ({}, {"epsilon": 0.1})
]
CASES += [
    Case("LayerNormalization", [x, p], {"axis": axis}, opset=17, note="no-bias", **ROUNDED)
    for x, axis, p in ROWS + OTHERS
]
CASES += [
    Case("LayerNormalization", [(2, 3, 4, 5), (4, 5), (4, 5)], {"axis": 2}, opset=17, outputs=outputs,
         note=f"{outputs}-outputs", **ROUNDED)
    for outputs in (2, 3)
]  # fmt: skip
CASES += [Case("LayerNormalization", [(3, 5), (5,), (5,)], opset=17, note="default-axis", **ROUNDED)]
CASES += [
    Case("RMSNormalization", [x, p], {"axis": axis, **more}, opset=23, **ROUNDED)
    for x, axis, p in ROWS + OTHERS
    for more in ({}, {"epsilon": 0.1})
]
