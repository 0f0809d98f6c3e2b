import numpy as np

from ops_cases.case import Case


def distinct(shape, size, axis):
    """Indices of which no two along `axis` are equal."""
    order = np.argsort(np.random.default_rng(size).random((*shape[:axis], size, *shape[axis + 1 :])), axis=axis)
    return np.take(order, range(shape[axis]), axis=axis).astype(np.int64)


def places(count, shape, named):
    """`count` different runs of an array, named along its first `named` axes."""
    flat = np.random.default_rng(count).permutation(int(np.prod(shape[:named])))[:count]
    return np.stack(np.unravel_index(flat, shape[:named]), axis=-1).astype(np.int64)


REPEATED = np.array([[0, 1, 2, 2], [2, -1, 0, 2], [1, 1, 1, 1]])
ELEMENTS = [
    ((5,), distinct((3,), 5, 0), 0),
    ((5, 7), distinct((3, 7), 5, 0) - 5, 0),
    ((5, 7), distinct((5, 4), 7, 1).astype(np.int32), -1),
    ((2, 6, 4, 5), distinct((2, 3, 4, 2), 6, 1), 1),
    ((2, 3, 4, 5), distinct((1, 2, 3, 5), 5, 3), 3),
    ((70, 300), distinct((70, 150), 300, 1), 1),
]
CASES = [
    Case(
        "ScatterElements",
        [shape, index, index.shape],
        {"axis": axis},
        constant_inputs=fixed,
        opset=opset,
        note=f"{fixed}",
    )
    for shape, index, axis in ELEMENTS
    for fixed, opset in [((), 11), ((1,), 13)]
]
CASES += [Case("Scatter", [shape, index, index.shape], {"axis": axis}, opset=9) for shape, index, axis in ELEMENTS[:3]]
CASES += [
    Case(
        "ScatterElements",
        [(3, 4), REPEATED, (3, 4)],
        {"axis": axis, "reduction": reduction},
        opset=opset,
    )
    for axis in (0, 1)
    for reduction, opset in [("add", 16), ("mul", 16), ("add", 18), ("mul", 18), ("min", 18), ("max", 18)]
]
ND = [
    ((5,), places(3, (5,), 1)),
    ((5, 7), places(4, (5, 7), 2)),
    ((5, 7), places(3, (5, 7), 1) - [5]),
    ((2, 6, 4, 5), places(5, (2, 6, 4, 5), 2)),
    ((2, 6, 4, 5), places(6, (2, 6, 4, 5), 4).reshape(2, 3, 4)),
    ((300, 200), places(250, (300, 200), 1)),
]
CASES += [
    Case("ScatterND", [shape, index, (*index.shape[:-1], *shape[index.shape[-1] :])], {}, fixed, opset, note=f"{fixed}")
    for shape, index in ND
    for fixed, opset in [((), 11), ((1,), 13), ((), 18)]
]
CASES += [
    Case(
        "ScatterND",
        [(4, 3), np.array([[1], [3], [-3], [1]]), (4, 3)],
        {"reduction": reduction},
        opset=opset,
    )
    for reduction, opset in [("add", 16), ("mul", 16), ("add", 18), ("min", 18), ("max", 18)]
]
# Whatever is only moved has any dtype; integers are reduced, too.
CASES += [
    Case("ScatterND", [table, np.array([[0], [2]]), table[:2]], note=f"{table.dtype}")
    for table in (np.arange(12).reshape(3, 4), np.arange(12, dtype=np.int32).reshape(3, 4), np.eye(3, 4) > 0)
]
CASES += [
    Case(
        "ScatterElements",
        [np.arange(12).reshape(3, 4), REPEATED, REPEATED + 1],
        {"reduction": reduction},
        opset=18,
        note="int64",
    )
    for reduction in ("add", "mul", "min", "max")
]


def unpool(shape, unpooled, **attributes):
    index = np.random.default_rng(0).permutation(int(np.prod(unpooled)))[: int(np.prod(shape))].reshape(shape)
    return Case("MaxUnpool", [shape, index], attributes, opset=11)


CASES += [
    unpool((2, 3, 4), (2, 3, 8), kernel_shape=[2], strides=[2]),
    unpool((2, 3, 2, 3), (2, 3, 4, 6), kernel_shape=[2, 2], strides=[2, 2]),
    unpool((1, 2, 3, 2), (1, 2, 5, 4), kernel_shape=[3, 3], strides=[2, 3], pads=[1, 1, 1, 1]),
    unpool((1, 2, 3, 2, 2), (1, 2, 4, 3, 3), kernel_shape=[2, 2, 2]),
]


def unpool_at(opset):
    index = np.array([[[[0, 13], [7, 23]]]])
    return Case("MaxUnpool", [(1, 1, 2, 2), index], {"kernel_shape": [2, 3], "strides": [2, 3]}, opset=opset)


CASES += [unpool_at(opset) for opset in (9, 22)]
