"""Datasets over arrays: every sample once, orders fixed by their seeds, errors that name the array."""

import numpy as np
import pytest

from cconv.data import Arrays
from cconv.errors import DTypeError, ShapeError, ValueRangeError


def dataset(n=10):
    return Arrays(np.arange(n * 2, dtype=np.float32).reshape(n, 2), np.arange(n) % 3)


def test_holds_what_it_was_given():
    data = dataset()
    x, y = data
    assert len(data) == 10
    assert x is data.x
    assert y is data.y
    assert repr(data) == "Arrays(x float32 (10, 2), y int64 (10,))"


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 10, 100])
def test_batches_hold_every_sample_once(batch_size, shuffle):
    data = dataset()
    batches = list(data.batches(batch_size, shuffle=shuffle, seed=1))
    assert [len(y) for _, y in batches[:-1]] == [batch_size] * (len(batches) - 1)
    x = np.concatenate([x for x, _ in batches])
    y = np.concatenate([y for _, y in batches])
    order = x[:, 0].astype(int) // 2
    assert sorted(order) == list(range(10))
    assert np.array_equal(y, order % 3)
    assert np.array_equal(order, range(10)) is not shuffle


def order_of(data, **keys):
    return [int(v) for x, _ in data.batches(4, shuffle=True, **keys) for v in x[:, 0]]


def test_order_is_a_function_of_seed_and_epoch():
    data = dataset(50)
    orders = [order_of(data, seed=s, epoch=e) for s in (0, 1) for e in (0, 1)]
    assert orders == [order_of(data, seed=s, epoch=e) for s in (0, 1) for e in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_order_is_the_same_on_every_machine():
    """Written down once: a resumed run elsewhere must meet the samples in the same order."""
    assert order_of(dataset(8), seed=3, epoch=2) == [4, 8, 2, 6, 12, 10, 0, 14]


def test_several_inputs_stay_together():
    data = Arrays({"a": np.arange(6.0), "b": np.arange(6.0) * 10}, {"y": np.arange(6)})
    for x, y in data.batches(4, shuffle=True):
        assert np.array_equal(x["a"] * 10, x["b"])
        assert np.array_equal(x["a"], y["y"])


def test_split_parts_the_samples():
    first, second = dataset().split(0.3, seed=5)
    assert len(first) == 3
    assert len(second) == 7
    assert sorted([*first.x[:, 0], *second.x[:, 0]]) == list(range(0, 20, 2))
    assert not np.array_equal(first.x, dataset().split(0.3, seed=6)[0].x)


def test_subset_takes_as_many_of_each_class():
    data = Arrays(np.arange(30.0), np.repeat([0, 4, 7], 10))
    few = data.subset(per_class=3, seed=2)
    assert np.array_equal(few.y, np.repeat([0, 4, 7], 3))
    assert len(set(few.x)) == 9
    assert np.array_equal(data.subset(per_class=3, seed=2).x, few.x)
    assert not np.array_equal(data.subset(per_class=3, seed=3).x, few.x)


@pytest.mark.parametrize(
    ("x", "y", "error", "says"),
    [
        (np.zeros((3, 2)), np.zeros(4), ShapeError, "3 in x, 4 in y"),
        ({"a": np.zeros(3), "b": np.zeros(2)}, np.zeros(3), ShapeError, "3 in x 'a', 2 in x 'b'"),
        (np.zeros((0, 2)), np.zeros(0), ShapeError, r"at least one example.*\(0, 2\)"),
        (np.float32(1), np.zeros(1), ShapeError, r"at least one example.*\(\)"),
        ({}, np.zeros(1), ShapeError, "an empty dict"),
        (np.zeros(2), np.array(["cat", "dog"]), DTypeError, "dataset, y: holds numbers; found <U3"),
        (np.array([None, None]), np.zeros(2), DTypeError, "dataset, x: holds numbers; found object"),
    ],
)
def test_bad_arrays_are_refused(x, y, error, says):
    with pytest.raises(error, match=says):
        Arrays(x, y)


def test_values_that_are_not_finite_are_named_on_request():
    x = np.zeros((4, 3), np.float32)
    x[2, 1] = np.nan
    x[3, 0] = np.inf
    Arrays(x, np.zeros(4))
    with pytest.raises(ValueRangeError, match=r"x: every value is finite; found 2 .*first at \(2, 1\)"):
        Arrays(x, np.zeros(4), finite=True)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda d: d.batches(0), ValueRangeError, "batch_size"),
        (lambda d: d.batches(2.0), ValueRangeError, "batch_size"),
        (lambda d: d.batches(2, shuffle=True, seed=-1), ValueRangeError, "seed"),
        (lambda d: d.split(1.5), ValueRangeError, "between 0 and 1"),
        (lambda d: d.split(0.01), ValueRangeError, "examples on both sides"),
        (lambda d: d.subset(4), ValueRangeError, "found 3 of class 1"),
        (lambda d: Arrays(d.x, d.x).subset(1), ShapeError, r"found shape \(10, 2\)"),
        (lambda d: Arrays(d.x, d.y * 0.5).subset(1), DTypeError, "float64"),
    ],
)
def test_bad_arguments_are_refused(call, error, says):
    with pytest.raises(error, match=says):
        call(dataset())
