"""Running sums and products, and the k largest elements along an axis, against NumPy."""

import numpy as np
import pytest

from cconv.kernels.reduce.scan import Cumulative, TopK
from harness import ALL_BUILDS, THREADS, integers, run_step

KINDS = ("real", "int32", "int64")
SHAPES = [(1, 1, 1), (1, 50, 1), (3, 7, 5), (2, 40, 1500), (300, 20, 3), (2, 3, 0), (0, 3, 2)]


def dtype_of(build, kind):
    return build.dtype if kind == "real" else np.dtype(kind)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("product", [False, True])
def test_running_results(build, kind, shape, exclusive, reverse, product):
    """Sums of small integers; products of 1 and -1. All are exact."""
    x = integers(np.random.default_rng(0), shape, dtype_of(build, kind))
    x = (x > 0).astype(x.dtype) * 2 - 1 if product else x
    expected = x[:, ::-1] if reverse else x
    if exclusive:
        expected = np.concatenate([np.full_like(expected[:, :1], product), expected[:, :-1]], axis=1)
    expected = np.multiply.accumulate(expected, axis=1) if product else np.cumsum(expected, axis=1)
    expected = expected[:, ::-1] if reverse else expected
    for threads in THREADS:
        y = np.full(shape, 99, x.dtype)
        run_step(Cumulative(build, *shape, exclusive, reverse, kind, product), x, y, threads=threads)
        assert np.array_equal(y, expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("largest", [False, True])
def test_top_k(build, kind, shape, largest):
    """Small whole numbers: many are equal, and the first of them comes first."""
    x = integers(np.random.default_rng(0), shape, dtype_of(build, kind))
    order = np.argsort(-x if largest else x, axis=1, kind="stable")
    for k in {0, 1, shape[1] // 2, shape[1]}:
        expected = order[:, :k]
        for threads in THREADS:
            values, places = np.full((shape[0], k, shape[2]), 99, x.dtype), np.full((shape[0], k, shape[2]), -9)
            run_step(TopK(build, *shape, k, largest, kind), x, values, places, threads=threads)
            assert np.array_equal(places, expected)
            assert np.array_equal(values, np.take_along_axis(x, expected, axis=1))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("largest, expected", [(True, [1, 4, 0, 3, 2]), (False, [2, 3, 0, 1, 4])])
def test_what_is_not_a_number_is_larger_than_all_numbers(build, largest, expected):
    x = np.array([3, np.nan, -np.inf, 1, np.nan], build.dtype)
    values, places = np.zeros(5, build.dtype), np.zeros(5, np.int64)
    run_step(TopK(build, 1, 5, 1, 5, largest), x, values, places)
    assert places.tolist() == expected
    assert np.array_equal(values, x[expected], equal_nan=True)


def test_what_does_not_exist_is_refused():
    build = ALL_BUILDS[0]
    with pytest.raises(ValueError, match="real, int32, int64; found 'int8'"):
        Cumulative(build, 1, 1, 1, kind="int8")
    for k in (-1, 4):
        with pytest.raises(ValueError, match=r"k lies in 0\.\.3"):
            TopK(build, 1, 3, 1, k)
