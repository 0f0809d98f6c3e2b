import numpy as np

from ops_cases.case import Case


def condition(*shape):
    return np.asarray(np.random.default_rng(5).random(shape) < 0.5)


TRIPLES = [
    ((), (), ()),
    ((7,), (7,), (7,)),
    ((3, 5), (5,), ()),
    ((3, 1), (1, 5), (5,)),
    ((2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (2, 3, 4, 5), ()),
    ((2, 1, 4, 5), (2, 3, 4, 5), (3, 1, 1)),
    ((), (2, 3, 4, 5), (1, 3, 1, 1)),
    ((4, 1), (2, 3, 1, 5), (2, 1, 4, 5)),
    ((1, 17, 1), (2, 17, 9), (17, 9)),
    ((2, 3, 2, 3, 4), (3, 1, 1, 4), (1,)),
    ((0, 3), (3,), ()),
]

CASES = [
    Case("Where", [condition(*c), x, y], opset=opset, note=str(i))
    for i, (c, x, y) in enumerate(TRIPLES)
    for opset in (9, 16)
]
CASES += [Case("Where", [condition(2, 3, 4, 5), (3, 1, 1), (2, 3, 4, 5)], constant_inputs=(0, 1), note="constant")]
CASES += [
    Case(
        "Where",
        [condition(3, 4), np.arange(12).reshape(3, 4).astype(dtype), -np.arange(4).astype(dtype)],
        note=dtype,
    )
    for dtype in ("uint8", "int32", "int64")
]
