from ops_cases.case import Case

SHAPES = [(7,), (3, 5), (2, 3, 4, 5), (1, 17, 3), (2, 4, 3, 2, 5)]

CASES = [Case("Relu", [shape], opset=opset) for shape in SHAPES for opset in (7, 14)]
