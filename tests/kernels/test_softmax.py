"""Softmax and its gradient over the middle axis, against float64 NumPy."""

import numpy as np
import pytest

import cconv.kernels.reduce.softmax as softmax
from harness import ALL_BUILDS, THREADS, nans, run_step

SHAPES = [
    (1, 1, 1),
    (3, 7, 1),
    (5, 1000, 1),
    (300, 33, 1),
    (2, 5, 3),
    (2, 3, 700),
    (3, 130, 17),
    (2, 1, 5),
    (0, 3, 2),
]


def reference(x, logarithm):
    x = x.astype(np.float64)
    shifted = x - x.max(axis=1, keepdims=True, initial=-np.inf)
    result = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result if logarithm else np.exp(result)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax(build, shape, logarithm):
    x = (10 * np.random.default_rng(0).standard_normal(shape)).astype(build.dtype)
    expected = reference(x, logarithm)
    found = []
    for threads in THREADS:
        y = nans(shape, build.dtype)
        run_step(softmax.Softmax(build, *shape, logarithm=logarithm), x, y, threads=threads)
        # x - max rounds once, to eps / 2 * |x - max|, about 60 at most: the relative error of e^x,
        # and the absolute one of its logarithm.
        scale = 64 if logarithm else 64 * expected
        assert np.all(np.abs(y - expected) <= np.finfo(build.dtype).eps * scale)
        found.append(y)
        same = x.copy()
        run_step(softmax.Softmax(build, *shape, logarithm=logarithm), same, same, threads=threads)
        assert np.array_equal(same, y)
    assert all(np.array_equal(found[0], other) for other in found)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("logarithm", [False, True])
def test_gradient(build, shape, logarithm):
    rng = np.random.default_rng(0)
    y = reference(rng.standard_normal(shape), logarithm).astype(build.dtype)
    dy = rng.standard_normal(shape).astype(build.dtype)
    wide, dwide = y.astype(np.float64), dy.astype(np.float64)
    if logarithm:
        expected = dwide - np.exp(wide) * dwide.sum(axis=1, keepdims=True)
    else:
        expected = wide * (dwide - (dwide * wide).sum(axis=1, keepdims=True))
    found = []
    for threads in THREADS:
        dx = nans(shape, build.dtype)
        step = softmax.SoftmaxGradient(build, *shape, logarithm=logarithm)
        run_step(step, dy, y, dx, threads=threads)
        # A sum of up to 1000 terms of size about 1: its rounding errors are of random sign, sqrt(1000) * eps.
        assert np.max(np.abs(dx - expected), initial=0) <= 32 * np.finfo(build.dtype).eps
        found.append(dx)
    assert all(np.array_equal(found[0], other) for other in found)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("inner", [1, 3])
def test_extremes(build, inner):
    """Nothing overflows; -inf is a probability of 0; NaN, +inf and rows of -inf alone give NaN."""
    rows = np.array(
        [[1e4, 0, -1e4], [-np.inf, 0, 0], [np.nan, 0, 0], [0, np.nan, 1], [np.inf, 0, 0], [-np.inf] * 3],
        build.dtype,
    )
    expected = np.array([[1, 0, 0], [0, 0.5, 0.5], *[[np.nan] * 3] * 4])
    x = np.ascontiguousarray(np.repeat(rows[:, :, None], inner, axis=2))
    y = np.zeros_like(x)
    run_step(softmax.Softmax(build, 6, 3, inner), x, y)
    assert np.array_equal(y, np.repeat(expected[:, :, None], inner, axis=2), equal_nan=True)
