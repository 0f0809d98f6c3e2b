from ops_cases.case import Case

ROUNDED = {"tolerance": 1e-5, "reason": "onnxruntime sums squares whose mean is not taken out"}

# Shape, groups.
MAPS = [
    ((2, 6), 3),
    ((2, 6, 5), 2),
    ((2, 6, 4, 5), 1),
    ((2, 6, 4, 5), 3),
    ((2, 6, 4, 5), 6),
    ((1, 32, 9, 7), 4),
    ((2, 66, 30, 31), 22),
    ((2, 4, 3, 2, 5), 2),
    ((2, 600, 3, 3), 25),
]

CASES = [
    Case("GroupNormalization", [x, (x[1],), (x[1],)], {"num_groups": groups, **more}, opset=21, **ROUNDED)
    for x, groups in MAPS
    for more in ({}, {"epsilon": 0.1})
    if len(x) > 2  # of which onnxruntime has none
]
CASES += [
    Case("GroupNormalization", [x, (groups,), (groups,)], {"num_groups": groups}, opset=18, **ROUNDED)
    for x, groups in MAPS
    if len(x) > 2
]
CASES += [
    Case("InstanceNormalization", [x, (x[1],), (x[1],)], more, opset=opset, **ROUNDED)
    for x in [(2, 3, 7), (2, 3, 4, 5), (1, 33, 9, 7), (2, 4, 3, 2, 5), (3, 2, 90, 100)]
    for more, opset in [({}, 7), ({"epsilon": 0.1}, 7), ({}, 22)]
]
