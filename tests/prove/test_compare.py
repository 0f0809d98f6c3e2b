"""One output against another: what counts as equal, how far apart the rest is."""

import math

import numpy as np
import pytest

from cconv.prove.compare import compare


def compared(ours, theirs, tolerance=1e-3, dtype=np.float32):
    return compare("P", "y", np.asarray(ours, dtype), np.asarray(theirs, dtype), tolerance)


def test_errors_are_absolute_and_relative_to_the_largest_value():
    found = compared([[1.0, 8.5], [2.0, -3.0]], [[1.0, 8.0], [2.25, -3.0]])
    assert found.max_error == 0.5
    assert found.relative_error == 0.5 / 8.5
    assert not found.ok
    assert found.class_agreement == 1.0
    assert compared([[1.0, 8.5]], [[1.0, 8.0]], tolerance=0.06).ok


def test_classes_are_counted_per_sample():
    found = compared([[1, 2], [2, 1], [3, 1], [1, 3]], [[2, 1], [2, 1], [3, 1], [1, 3]])
    assert found.class_agreement == 0.75


def test_classes_are_counted_per_pixel():
    ours = np.zeros((1, 2, 2, 2))
    theirs = ours.copy()
    theirs[0, 1, 0, 0] = 1
    assert compared(ours, theirs).class_agreement == 0.75


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_no_classes_without_an_axis_for_them(shape):
    assert compared(np.zeros(shape), np.zeros(shape)).class_agreement is None


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_only_one_has(side, bad):
    arrays = [np.ones((2, 3)), np.ones((2, 3))]
    arrays[side][1, 2] = bad
    found = compared(*arrays, tolerance=1e9)
    assert not found.ok
    assert found.max_error == math.inf
    assert ("NaN in only one" in found.note) is math.isnan(bad)


def test_the_same_nan_and_infinity_in_both_are_equal():
    values = [[math.nan, math.inf, -math.inf, 1.0]]
    found = compared(values, values, tolerance=0)
    assert found.ok
    assert found.max_error == 0


def test_opposite_infinities_differ():
    assert not compared([math.inf], [-math.inf], tolerance=1e9).ok


def test_all_zero_against_something():
    found = compared([0.0, 0.0], [0.0, 1e-30], tolerance=0.5)
    assert found.relative_error == pytest.approx(1)
    assert not found.ok


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_other_values_must_be_equal(dtype):
    assert compared([1, 0], [1, 0], dtype=dtype).ok
    found = compared([1, 0], [1, 1], tolerance=1e9, dtype=dtype)
    assert not found.ok
    assert found.max_error >= 1


def test_strings_must_be_equal():
    cats = np.array(["cat", "dog"], dtype=object)
    assert compare("P", "y", cats, cats, 0).ok
    found = compare("P", "y", cats, np.array(["cat", "cow"], dtype=object), 0)
    assert not found.ok
    assert found.note == "1 values differ"


def test_shape_and_dtype_must_be_equal():
    found = compare("P", "y", np.zeros((2, 3)), np.zeros((2, 4)), 1.0)
    assert not found.ok
    assert found.note == "cconv gives shape (2, 3)"
    found = compare("P", "y", np.zeros(2, np.float64), np.zeros(2, np.float32), 1.0)
    assert not found.ok
    assert found.note == "cconv gives float64, not float32"
