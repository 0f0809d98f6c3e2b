from ops_cases.case import Case

CASES = [
    Case("LRN", [x], attributes, opset=opset)
    for x in [(2, 5, 4, 5), (1, 17, 3, 3), (2, 1, 2, 2)]
    for attributes, opset in [
        ({"size": 5}, 7),
        ({"size": 1}, 13),
        ({"size": 3, "alpha": 0.7, "beta": 0.5, "bias": 1.5}, 13),
        ({"size": 7, "alpha": 1.0, "beta": 1.25, "bias": 2.0}, 13),
        ({"size": 9, "alpha": 1.0}, 13),
    ]
]
