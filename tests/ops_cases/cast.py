import numpy as np

from ops_cases.case import Case

FLOAT, DOUBLE, HALF = 1, 11, 10
INTEGERS = {"uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "uint32": 12, "uint64": 13}
BOOL = 9


def mixed(rng, shape):
    """Numbers of either sign with a fraction, whole ones and zeros among them."""
    return np.where(rng.random(shape) < 0.3, 0, rng.integers(-400, 400, shape) / 4)


def positive(rng, shape):
    return np.asarray(np.abs(mixed(rng, shape)))


def whole(dtype, shape=(3, 5)):
    """The extremes of the dtype, and numbers between."""
    if dtype == "bool":
        return np.random.default_rng(0).random(shape) < 0.5
    info = np.iinfo(dtype)
    numbers = np.random.default_rng(0).integers(max(info.min, -(10**6)), min(info.max, 10**6), shape)
    numbers.flat[:3] = info.min // 2, info.max // 2, 0
    return numbers.astype(dtype)


CASES = [Case("Cast", [shape], {"to": FLOAT}, note="float") for shape in [(), (7,), (2, 3, 4, 5)]]
CASES += [
    Case("Cast", [shape], {"to": number}, fill=positive if name[0] == "u" else mixed, gradient=(), note=name)
    for shape in [(), (7,), (2, 3, 4, 5), (3, 40000)]
    for name, number in {**INTEGERS, "bool": BOOL}.items()
    if name != "int8"  # 40,000 numbers do not fit
]
CASES += [
    Case("Cast", [(3, 4)], {"to": 3}, fill=lambda rng, shape: rng.uniform(-100, 100, shape), gradient=(), note="int8")
]
CASES += [
    Case("Cast", [whole(name)], {"to": number}, note=f"{name}-{number}", opset=opset)
    for name in [*INTEGERS, "bool"]
    for number, opset in [*((n, 13) for n in INTEGERS.values()), (FLOAT, 13), (BOOL, 13), (FLOAT, 9)]
]
CASES += [
    Case("CastLike", [whole("int64"), (2,)], note="to-float", gradient=()),
    Case("CastLike", [(3, 4), whole("int64")], fill=mixed, note="to-int64", gradient=()),
    Case("CastLike", [(2, 3, 4, 5), whole("bool")], fill=mixed, note="to-bool", gradient=()),
    Case("CastLike", [(2, 3, 4), (1,)], gradient=(0,), note="float"),
]
# What later versions add is for dtypes that a plan has not, and says nothing of others. onnxruntime refuses such
# attributes there.
CASES += [
    Case("Cast", [(3, 4)], {"to": to, **more}, opset=opset, fill=mixed, gradient=(0,) if to == FLOAT else (),
         note=str(to), judge="onnx" if more else "onnxruntime")
    for opset, more in [
        (7, {}),
        (19, {"saturate": 0}),
        (21, {}),
        (23, {}),
        (24, {"round_mode": "down"}),
        (25, {}),
        (28, {}),
    ]
    for to in (FLOAT, INTEGERS["int32"])
]  # fmt: skip
CASES += [
    Case("CastLike", [(3, 4), whole(dtype)], opset=opset, fill=mixed, gradient=(), note=f"to-{dtype}")
    for opset in (15, 19, 21, 23, 24, 25)
    for dtype in ("int32", "bool")
]
