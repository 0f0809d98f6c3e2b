"""Batch normalisation's steps against float64 NumPy."""

import numpy as np
import pytest

import cconv.kernels.norm.norm as norm
from harness import ALL_BUILDS, THREADS, integers, nans, run_step

# rows, channels: one and several blocks of rows and of channels, ragged ends.
SHAPES = [(1, 1), (2, 3), (7, 16), (33, 5), (130, 257), (1000, 300), (4097, 3), (5000, 64), (2048, 17)]
EACH = pytest.mark.parametrize("build, shape", [(build, shape) for build in ALL_BUILDS for shape in SHAPES], ids=str)
EPSILON = 1e-3


def partials(shape):
    return nans((norm.row_blocks_of(*shape), 2, shape[1]), float)


def statistics(build, x, threads=1):
    """(mean, variance, inverse)"""
    results = [nans(x.shape[1], build.dtype) for _ in range(3)]
    step = norm.Statistics(build, *x.shape, EPSILON)
    run_step(step, x, partials(x.shape), *results, threads=threads)
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
        run_step(norm.Normalize(build, *shape), x, mean, inverse, scale, bias, None, y, threads=threads)
        assert np.array_equal(y, (x - mean) * inverse * scale + bias)
        run_step(norm.Affine(build, *shape), x, scale, bias, None, y, threads=threads)
        assert np.array_equal(y, x * scale + bias)
        run_step(norm.Affine(build, *shape), x, scale, None, None, y, threads=threads)
        assert np.array_equal(y, x * scale)
        inplace = x.copy()
        operands = (inplace, mean, inverse, scale, bias, None, inplace)
        run_step(norm.Normalize(build, *shape), *operands, threads=threads)
        assert np.array_equal(inplace, (x - mean) * inverse * scale + bias)


# name: (as steps take it, f, f' from z or f(z)); the parameters are exact, and values lie on the kinks.
ACTIVATIONS = {
    "none": (None, lambda z: z, lambda v: np.ones_like(v)),
    "relu": (("relu", 0, 0), lambda z: np.maximum(z, 0), lambda v: np.where(v > 0, 1, 0)),
    "leaky_relu": (("leaky_relu", 0.25, 0), lambda z: np.where(z < 0, z / 4, z), lambda v: np.where(v > 0, 1, 0.25)),
    "clip": (("clip", -3, 6), lambda z: np.clip(z, -3, 6), lambda v: np.where((v > -3) & (v < 6), 1, 0)),
}
ACTIVATED = pytest.mark.parametrize("activation", list(ACTIVATIONS))


@EACH
@ACTIVATED
@pytest.mark.parametrize("added", [False, True])
def test_residual_and_activation_are_exact_on_integers(build, shape, activation, added):
    rng = np.random.default_rng(1)
    described, f, _ = ACTIVATIONS[activation]
    x, residual = (integers(rng, shape, build.dtype) for _ in range(2))
    mean, inverse, scale, bias = (integers(rng, shape[1], build.dtype) for _ in range(4))
    more = residual if added else 0
    for threads in THREADS:
        y = nans(shape, build.dtype)
        operands = (x, mean, inverse, scale, bias, residual if added else None, y)
        run_step(norm.Normalize(build, *shape, described), *operands, threads=threads)
        assert np.array_equal(y, f((x - mean) * inverse * scale + bias + more))
        # The result may take the residual's memory.
        y = residual.copy()
        step = norm.Affine(build, *shape, described)
        run_step(step, x, scale, bias, y if added else None, y, threads=threads)
        assert np.array_equal(y, f(x * scale + bias + more))


@EACH
@ACTIVATED
def test_gradients_through_an_activation_are_exact_on_integers(build, shape, activation):
    """f' from z, computed again of x, and from y, with dz stored over dy."""
    rng = np.random.default_rng(2)
    described, f, derivative = ACTIVATIONS[activation]
    dy, x = (integers(rng, shape, build.dtype) for _ in range(2))
    dy *= 4  # times a slope of 1/4 is whole
    mean, inverse, scale, bias = (integers(rng, shape[1], build.dtype) for _ in range(4))
    z = (x - mean) * inverse * scale + bias
    dz = (dy * derivative(z)).astype(build.dtype)
    dscale, dbias = (dz * (x - mean)).sum(axis=0, dtype=float) * inverse, dz.sum(axis=0, dtype=float)
    for threads in THREADS:
        step = norm.ParameterGradient(build, *shape, described)
        found = nans(shape[1], build.dtype), nans(shape[1], build.dtype)
        operands = (dy, x, mean, inverse, scale, bias, None, None, partials(shape), *found)
        run_step(step, *operands, threads=threads)
        assert np.array_equal(found[0], dscale) and np.array_equal(found[1], dbias)

        found, stored = (nans(shape[1], build.dtype), nans(shape[1], build.dtype)), dy.copy()
        y = f(z).astype(build.dtype)
        operands = (stored, x, mean, inverse, None, None, y, stored, partials(shape), *found)
        run_step(step, *operands, threads=threads)
        assert np.array_equal(found[0], dscale) and np.array_equal(found[1], dbias)
        assert np.array_equal(stored, dz)


@EACH
@ACTIVATED
def test_input_gradient_through_an_activation(build, shape, activation):
    """The same bits as without, given dz: only where dz comes from differs."""
    rng = np.random.default_rng(3)
    described, _, derivative = ACTIVATIONS[activation]
    dy, x = (integers(rng, shape, build.dtype) for _ in range(2))
    mean, inverse, scale, bias, dscale, dbias = (integers(rng, shape[1], build.dtype) for _ in range(6))
    dz = (dy * derivative((x - mean) * inverse * scale + bias)).astype(build.dtype)
    expected = nans(shape, build.dtype)
    operands = (dz, x, mean, inverse, scale, None, dscale, dbias, expected)
    run_step(norm.InputGradient(build, *shape), *operands)
    assert np.isfinite(expected).all()
    for threads in THREADS:
        dx = dy.copy()
        operands = (dx, x, mean, inverse, scale, bias, dscale, dbias, dx)
        run_step(norm.InputGradient(build, *shape, described), *operands, threads=threads)
        assert np.array_equal(dx, expected)


def hard_swish(z):
    return z * np.clip(z + 3, 0, 6) / 6


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# name: (as steps take it, f, f' from z)
SMOOTH = {
    "swish": (
        ("swish", 1.5, 0),
        lambda z: z * sigmoid(1.5 * z),
        lambda z: sigmoid(1.5 * z) * (1 + 1.5 * z * sigmoid(-1.5 * z)),
    ),
    "hard_swish": (
        ("hard_swish", 0, 0),
        hard_swish,
        lambda z: np.where(np.abs(z) < 3, z / 3 + 0.5, z > 0),
    ),
}


def test_every_activation_is_tested():
    build = ALL_BUILDS[-1]
    assert set(norm.activations(build)) == {*ACTIVATIONS, *SMOOTH}
    assert set(norm.from_either(build)) == set(ACTIVATIONS)


@EACH
@pytest.mark.parametrize("activation", list(SMOOTH))
def test_smooth_activations(build, shape, activation):
    """Forward and both gradients, of numbers in -4 .. 4; about ten roundings of what is not much larger."""
    rng = np.random.default_rng(4)
    described, f, derivative = SMOOTH[activation]
    dy, x = (rng.uniform(-1, 1, shape).astype(build.dtype) for _ in range(2))
    mean, bias = (rng.uniform(-1, 1, shape[1]).astype(build.dtype) for _ in range(2))
    inverse, scale = (rng.uniform(0.5, 1.2, shape[1]).astype(build.dtype) for _ in range(2))
    dscale, dbias = (rng.uniform(-1, 1, shape[1]).astype(build.dtype) for _ in range(2))
    d = x.astype(float) - mean
    z = d * inverse * scale + bias
    dz = dy * derivative(z)
    eps = np.finfo(build.dtype).eps
    for threads in THREADS:
        y, dx = nans(shape, build.dtype), nans(shape, build.dtype)
        run_step(norm.Normalize(build, *shape, described), x, mean, inverse, scale, bias, None, y, threads=threads)
        assert np.max(np.abs(y - f(z))) <= 20 * eps
        found = nans(shape[1], build.dtype), nans(shape[1], build.dtype)
        operands = (dy, x, mean, inverse, scale, bias, None, None, partials(shape), *found)
        run_step(norm.ParameterGradient(build, *shape, described), *operands, threads=threads)
        for sums, terms in zip(found, (dz * d * inverse, dz)):
            bound = 20 * eps * np.abs(terms).sum(axis=0) + 20 * eps
            assert np.all(np.abs(sums - terms.sum(axis=0)) <= bound)
        operands = (dy, x, mean, inverse, scale, bias, dscale, dbias, dx)
        run_step(norm.InputGradient(build, *shape, described), *operands, threads=threads)
        expected = scale * inverse * (dz - dbias / shape[0] - d * inverse * dscale / shape[0])
        assert np.max(np.abs(dx - expected)) <= 20 * eps


# batch, rows, channels, groups: several blocks of rows, of channels, and groups that lie across these blocks.
SAMPLES = [(1, 1, 4, 2), (3, 7, 6, 3), (2, 130, 66, 22), (2, 1000, 300, 4), (5, 49, 600, 25)]
SAMPLES += [(3, 2100, 8, 0), (4, 9, 5, 0)]  # no groups


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("sizes", SAMPLES)
def test_samples_by_themselves_and_groups_of_channels(build, sizes):
    """Statistics, normalisation and its gradients for each of several samples, against the formulas."""
    batch, rows, channels, groups = sizes
    rng = np.random.default_rng(5)
    shape, each = (batch, rows, channels), (batch, channels)
    x, dy = (rng.standard_normal(shape).astype(build.dtype) + 2 for _ in range(2))
    scale, bias = (rng.uniform(-1, 1, channels).astype(build.dtype) for _ in range(2))
    parts = (batch, rows, groups or channels, -1)

    def share(values):
        """The mean over each sample's groups, for each element of them."""
        mean = values.reshape(parts).mean(axis=(1, 3), keepdims=True)
        return np.broadcast_to(mean, values.reshape(parts).shape).reshape(shape)

    exact = x.astype(np.longdouble)
    mean = share(exact)
    inverse = 1 / np.sqrt(share((exact - mean) ** 2) + EPSILON)
    u = (exact - mean) * inverse
    g = dy * scale.astype(np.longdouble)
    eps = np.finfo(build.dtype).eps
    blocks = norm.row_blocks_of(rows, channels)
    results = []
    for threads in THREADS:
        room = nans((batch * blocks, 2, channels), float)
        found = nans(each, build.dtype), nans(each, build.dtype)
        step = norm.Statistics(build, rows, channels, EPSILON, batch, groups)
        run_step(step, x, room, found[0], None, found[1], threads=threads)
        assert np.max(np.abs(found[0][:, None] - mean)) <= 32 * eps * 4
        assert np.max(np.abs(found[1][:, None] / inverse - 1)) <= 64 * eps
        y = nans(shape, build.dtype)
        step = norm.Normalize(build, rows, channels, None, batch)
        run_step(step, x, *found, scale, bias, None, y, threads=threads)
        assert np.max(np.abs(y - (u * scale + bias))) <= 400 * eps

        sums, dx = (nans(each, build.dtype), nans(each, build.dtype)), nans(shape, build.dtype)
        step = norm.ParameterGradient(build, rows, channels, None, batch)
        operands = (dy, x, *found, None, None, None, None, nans((batch * blocks, 2, channels), float), *sums)
        run_step(step, *operands, threads=threads)
        assert np.max(np.abs(sums[0] - (dy * u).sum(axis=1))) <= 400 * eps * rows
        assert np.max(np.abs(sums[1] - dy.sum(axis=1, dtype=float))) <= 32 * eps * 4 * rows
        dscale, dbias = sums
        if groups:
            dscale, dbias = ((s * scale).reshape(batch, groups, -1).mean(axis=2) for s in sums)
            dscale, dbias = (np.repeat(s, channels // groups, axis=1).astype(build.dtype) for s in (dscale, dbias))
        step = norm.InputGradient(build, rows, channels, None, batch, bool(groups))
        run_step(step, dy, x, *found, scale, None, dscale, dbias, dx, threads=threads)
        expected = inverse * (g - share(g) - u * share(g * u))
        assert np.max(np.abs(dx - expected)) <= 400 * eps * np.max(inverse) * np.max(np.abs(g) + 1)
        results.append([*found, y, *sums, dx])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(other, results[0]))


def test_channels_make_up_groups():
    with pytest.raises(ValueError, match="5 channels do not make 2 groups"):
        norm.Statistics(ALL_BUILDS[-1], 3, 5, EPSILON, 1, 2)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_nan_passes_through_an_activation(build):
    x = np.ones((40, 20), build.dtype)
    x[33, 7] = np.nan
    one = np.ones(20, build.dtype)
    for described, _, _ in [*ACTIVATIONS.values(), *SMOOTH.values()]:
        y = nans(x.shape, build.dtype)
        run_step(norm.Normalize(build, *x.shape, described), x, one, one, one, one, None, y)
        assert np.array_equal(np.isnan(y), np.isnan(x))


def test_other_activations_are_refused():
    with pytest.raises(ValueError, match=r"Affine: activation is one of none, relu.*'tanh'"):
        norm.Affine(ALL_BUILDS[-1], 3, 4, ("tanh", 0, 0))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("axes", [(1, 1, 5, 27), (3, 4, 2, 9), (2, 1, 33, 1)])
@pytest.mark.parametrize("biased", [False, True])
def test_fold_convolution(build, axes, biased):
    rng = np.random.default_rng(0)
    groups, _, channels, _ = axes
    weight = rng.standard_normal(axes).astype(build.dtype)
    bias, scale, shift, mean = (rng.standard_normal(groups * channels).astype(build.dtype) for _ in range(4))
    variance = rng.uniform(0.1, 2, groups * channels).astype(build.dtype)
    factor = scale / np.sqrt(variance.astype(float) + EPSILON)
    expected = weight * factor.reshape(groups, 1, channels, 1)
    constant = ((bias if biased else 0) - mean.astype(float)) * factor + shift
    # One rounding; in the float64 build, two more, and cancellation in the constant's sum.
    eps = np.finfo(build.dtype).eps
    for threads in THREADS:
        found = nans(axes, build.dtype), nans(groups * channels, build.dtype)
        operands = (weight, bias if biased else None, scale, shift, mean, variance, *found)
        run_step(norm.FoldConvolution(build, *axes, EPSILON), *operands, threads=threads)
        assert np.allclose(found[0], expected, rtol=2 * eps, atol=0)
        assert np.allclose(found[1], constant, rtol=2 * eps, atol=16 * eps)


@EACH
def test_parameter_gradient_is_exact_on_integers(build, shape):
    rng = np.random.default_rng(0)
    dy, x = (integers(rng, shape, build.dtype) for _ in range(2))
    mean, inverse = (integers(rng, shape[1], build.dtype) for _ in range(2))
    for threads in THREADS:
        dscale, dbias = nans(shape[1], build.dtype), nans(shape[1], build.dtype)
        step = norm.ParameterGradient(build, *shape)
        operands = (dy, x, mean, inverse, None, None, None, None, partials(shape), dscale, dbias)
        run_step(step, *operands, threads=threads)
        assert np.array_equal(dbias, dy.sum(axis=0, dtype=float))
        assert np.array_equal(dscale, (dy * (x - mean)).sum(axis=0, dtype=float) * inverse)


@EACH
def test_input_gradient(build, shape):
    rng = np.random.default_rng(0)
    rows = shape[0]
    dy, x = (rng.standard_normal(shape).astype(build.dtype) for _ in range(2))
    mean, inverse, scale, dscale, dbias = (rng.standard_normal(shape[1]).astype(build.dtype) for _ in range(5))
    exact = [array.astype(float) for array in (dy, x, mean, inverse, scale, dscale, dbias)]
    g, v, m, i, s, ds, db = exact
    expected = s * i * (g - db / rows - (v - m) * i * ds / rows)
    results = []
    for threads in THREADS:
        results.append(dy.copy())  # in place, as plans run it
        operands = (results[-1], x, mean, inverse, scale, None, dscale, dbias, results[-1])
        run_step(norm.InputGradient(build, *shape), *operands, threads=threads)
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
    run_step(norm.Fold(build, 21, EPSILON), scale, bias, mean, variance, factor, shift, inverse)
    exact = 1 / np.sqrt(variance.astype(float) + EPSILON)
    assert np.array_equal(inverse, exact.astype(build.dtype))
    # One rounding each; in the float64 build FMA contraction may leave another one.
    eps = np.finfo(build.dtype).eps
    assert np.allclose(factor, scale * exact, rtol=2 * eps, atol=0)
    assert np.allclose(shift, bias - mean * (scale * exact), rtol=2 * eps, atol=4 * eps)

    new_mean, new_variance = mean.copy(), variance.copy()
    step = norm.RunningAverage(build, 21, 0.75)
    run_step(step, batch_mean, batch_variance, new_mean, new_variance, new_mean, new_variance)
    assert np.allclose(new_mean, mean * 0.75 + batch_mean * 0.25, rtol=0, atol=2 * eps)
    assert np.allclose(new_variance, variance * 0.75 + batch_variance * 0.25, rtol=0, atol=4 * eps)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_statistics_that_are_not_finite_stop_the_program(build, bad):
    step = norm.CheckStatistics(build, 21)
    arrays = [np.full(21, np.finfo(build.dtype).max, build.dtype) for _ in range(4)]
    assert run_step(step, *arrays) == 0
    for array in arrays:
        array[20] = bad
        assert run_step(step, *arrays) == 3
        array[20] = 1
    assert run_step(step, *arrays) == 0


def test_no_rows_are_refused_where_they_are_averaged():
    for name in ("Statistics", "ParameterGradient"):
        arguments = (0, 3, EPSILON)[: 3 if name == "Statistics" else 2]
        with pytest.raises(ValueError, match="at least 1 rows"):
            getattr(norm, name)(ALL_BUILDS[-1], *arguments)
