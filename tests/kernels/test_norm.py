"""Batch normalisation's steps against float64 NumPy."""

import numpy as np
import pytest

from harness import ALL_BUILDS, THREADS, integers, nans, run_step

# rows, channels: one and several blocks of rows and of channels, ragged ends.
SHAPES = [(1, 1), (2, 3), (7, 16), (33, 5), (130, 257), (1000, 300), (4097, 3), (5000, 64), (2048, 17)]
EACH = pytest.mark.parametrize(
    "build, shape", [(build, shape) for build in ALL_BUILDS for shape in SHAPES], ids=str
)
EPSILON = 1e-3


def partials(build, shape):
    return nans((build.norm.row_blocks_of(*shape), 2, shape[1]), float)


def statistics(build, x, threads=1):
    """(mean, variance, inverse)"""
    results = [nans(x.shape[1], build.dtype) for _ in range(3)]
    step = build.norm.Statistics(*x.shape, EPSILON)
    run_step(step, x, partials(build, x.shape), *results, threads=threads)
    return results


def check_statistics(build, x):
    """Sums of at most 32 terms in the build's precision, the rest in double: 32 roundings bound the error.

    The means of the blocks are rounded to double before their differences are taken: that is the term in
    eps64, for the variance times the condition number sqrt(1 + mean^2 / variance). float32 is too coarse to
    notice it.
    """
    # NumPy sums down a column one by one: in float64 it would be the less exact of the two.
    exact = x.astype(np.longdouble)
    mean, variance = exact.mean(axis=0), exact.var(axis=0)
    eps, eps64 = np.finfo(build.dtype).eps, np.finfo(float).eps
    results = [statistics(build, x, threads) for threads in THREADS]
    found_mean, found_variance, inverse = results[0]
    bound = (eps + 4 * eps64) * np.abs(mean) + 32 * eps * np.sqrt(variance)
    assert (np.abs(found_mean - mean) <= bound).all()
    bound = 32 * eps + 4 * eps64 * np.sqrt(1 + mean**2 / np.maximum(variance, 1e-300))
    assert (np.abs(found_variance - variance) <= bound * variance).all()
    assert (np.abs(inverse * np.sqrt(variance + EPSILON) - 1) <= bound).all()
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(other, results[0]))


@EACH
def test_statistics(build, shape):
    check_statistics(build, np.random.default_rng(0).standard_normal(shape).astype(build.dtype))


@EACH
def test_statistics_with_a_large_mean(build, shape):
    """A mean of 10^4 standard deviations: sum(x^2) / n - mean^2 would have no correct digit in float32."""
    check_statistics(build, (1e4 + np.random.default_rng(0).standard_normal(shape)).astype(build.dtype))


@EACH
def test_statistics_where_blocks_differ(build, shape):
    """Zeros, then values around 1000: a shift taken from the first row would be far off."""
    x = 1000 + np.random.default_rng(0).standard_normal(shape)
    x[: shape[0] // 3] = 0
    check_statistics(build, x.astype(build.dtype))


@EACH
def test_constant_channels_have_no_variance(build, shape):
    mean, variance, _ = statistics(build, np.full(shape, 3.25, build.dtype))
    assert (mean == 3.25).all() and (variance == 0).all()


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_nan_shows_in_its_channel_alone(build):
    x = np.ones((300, 20), build.dtype)
    x[150, 7] = np.nan
    for result in statistics(build, x):
        assert np.array_equal(np.isnan(result), np.arange(20) == 7)


@EACH
def test_normalize_and_affine_are_exact_on_integers(build, shape):
    rng = np.random.default_rng(0)
    x = integers(rng, shape, build.dtype)
    mean, inverse, scale, bias = (integers(rng, shape[1], build.dtype) for _ in range(4))
    for threads in THREADS:
        y = nans(shape, build.dtype)
        run_step(build.norm.Normalize(*shape), x, mean, inverse, scale, bias, y, threads=threads)
        assert np.array_equal(y, (x - mean) * inverse * scale + bias)
        run_step(build.norm.Affine(*shape), x, scale, bias, y, threads=threads)
        assert np.array_equal(y, x * scale + bias)
        run_step(build.norm.Affine(*shape), x, scale, None, y, threads=threads)
        assert np.array_equal(y, x * scale)
        inplace = x.copy()
        run_step(build.norm.Normalize(*shape), inplace, mean, inverse, scale, bias, inplace, threads=threads)
        assert np.array_equal(inplace, (x - mean) * inverse * scale + bias)


@EACH
def test_parameter_gradient_is_exact_on_integers(build, shape):
    rng = np.random.default_rng(0)
    dy, x = (integers(rng, shape, build.dtype) for _ in range(2))
    mean, inverse = (integers(rng, shape[1], build.dtype) for _ in range(2))
    for threads in THREADS:
        dscale, dbias = nans(shape[1], build.dtype), nans(shape[1], build.dtype)
        step = build.norm.ParameterGradient(*shape)
        run_step(step, dy, x, mean, inverse, partials(build, shape), dscale, dbias, threads=threads)
        assert np.array_equal(dbias, dy.sum(axis=0, dtype=float))
        assert np.array_equal(dscale, (dy * (x - mean)).sum(axis=0, dtype=float) * inverse)


@EACH
def test_input_gradient(build, shape):
    rng = np.random.default_rng(0)
    rows = shape[0]
    dy, x = (rng.standard_normal(shape).astype(build.dtype) for _ in range(2))
    mean, inverse, scale, dscale, dbias = (
        rng.standard_normal(shape[1]).astype(build.dtype) for _ in range(5)
    )
    exact = [array.astype(float) for array in (dy, x, mean, inverse, scale, dscale, dbias)]
    g, v, m, i, s, ds, db = exact
    expected = s * i * (g - db / rows - (v - m) * i * ds / rows)
    results = []
    for threads in THREADS:
        results.append(dy.copy())  # in place, as plans run it
        operands = (results[-1], x, mean, inverse, scale, dscale, dbias, results[-1])
        run_step(build.norm.InputGradient(*shape), *operands, threads=threads)
    # About ten roundings of terms as large as the largest.
    scale_of = np.max(np.abs(s * i) * (np.abs(g) + np.abs(db) + np.abs((v - m) * i * ds)))
    assert np.max(np.abs(results[0] - expected)) <= 10 * np.finfo(build.dtype).eps * scale_of
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_fold_and_running_average(build):
    rng = np.random.default_rng(0)
    scale, bias, mean, batch_mean = (rng.standard_normal(21).astype(build.dtype) for _ in range(4))
    variance, batch_variance = (rng.uniform(0.1, 2, 21).astype(build.dtype) for _ in range(2))
    factor, shift, inverse = (nans(21, build.dtype) for _ in range(3))
    run_step(build.norm.Fold(21, EPSILON), scale, bias, mean, variance, factor, shift, inverse)
    exact = 1 / np.sqrt(variance.astype(float) + EPSILON)
    assert np.array_equal(inverse, exact.astype(build.dtype))
    # One rounding each; in the float64 build FMA contraction may leave another one.
    eps = np.finfo(build.dtype).eps
    assert np.allclose(factor, scale * exact, rtol=2 * eps, atol=0)
    assert np.allclose(shift, bias - mean * (scale * exact), rtol=2 * eps, atol=4 * eps)

    new_mean, new_variance = mean.copy(), variance.copy()
    step = build.norm.RunningAverage(21, 0.75)
    run_step(step, batch_mean, batch_variance, new_mean, new_variance, new_mean, new_variance)
    assert np.allclose(new_mean, mean * 0.75 + batch_mean * 0.25, rtol=0, atol=2 * eps)
    assert np.allclose(new_variance, variance * 0.75 + batch_variance * 0.25, rtol=0, atol=4 * eps)


def test_no_rows_are_refused_where_they_are_averaged():
    for name in ("Statistics", "ParameterGradient"):
        arguments = (0, 3, EPSILON)[: 3 if name == "Statistics" else 2]
        with pytest.raises(ValueError, match="at least 1 rows"):
            getattr(ALL_BUILDS[-1].norm, name)(*arguments)
