"""Loss steps on all builds and thread counts against the formulas in float64."""

import numpy as np
import pytest

import cconv.kernels.loss.loss as kernels
from cconv.kernels.core.control import CONTROL
from harness import ALL_BUILDS, THREADS, integers, nans, run_step

OK, NOT_FINITE, OUT_OF_RANGE = 0, 1, 2

builds = pytest.mark.parametrize("build", ALL_BUILDS, ids=repr)
# 8192 elements make a chunk: one row, one chunk that is not full, several, and rows longer than a chunk.
SHAPES = [(1, 1), (1, 7), (5, 2), (3, 16), (7, 33), (301, 70), (1000, 10), (3, 9001)]


def reference(logits, target, weights=None, smoothing=0.0, ignore_index=-100):
    """Loss and gradient of the mean cross-entropy, row by row as the formula stands."""
    rows, classes = logits.shape
    weights = np.ones(classes) if weights is None else weights.astype(np.float64)
    loss, total, gradient = 0.0, 0.0, np.zeros((rows, classes))
    for i, t in enumerate(target):
        if t == ignore_index:
            continue
        x = logits[i].astype(np.float64)
        log_p = x - x.max() - np.log(np.sum(np.exp(x - x.max())))
        q = np.full(classes, smoothing / classes)
        loss -= (1 - smoothing) * weights[t] * log_p[t] + np.sum(q * weights * log_p)
        soft = q * weights
        gradient[i] = np.exp(log_p) * ((1 - smoothing) * weights[t] + soft.sum()) - soft
        gradient[i, t] -= (1 - smoothing) * weights[t]
        total += weights[t]
    return (loss / total, gradient / total) if total > 0 else (0.0, gradient * 0)


def cross_entropy(build, logits, target, weights=None, threads=1, want_gradient=True, **options):
    """The steps of one loss, one after the other: status, what is added to control.loss, gradient."""
    ignore = {name: options[name] for name in ("ignore_index",) if name in options}
    weigh = kernels.TargetWeights(build, *logits.shape, **ignore)
    step = kernels.SoftmaxCrossEntropy(build, *logits.shape, **options)
    control = np.zeros(1, CONTROL)
    control["loss"] = 0.5  # of another output: losses are added
    gradient = nans(logits.shape, logits.dtype) if want_gradient else None
    part, denominator, sums = nans(weigh.chunks, np.float64), nans(2, np.float64), nans(step.chunks, np.float64)
    status = run_step(weigh, target, weights, part, threads=threads) or run_step(
        kernels.Denominator(weigh.chunks), part, denominator
    )
    if status == OK:
        status = run_step(step, logits, target, weights, denominator, sums, gradient, threads=threads)
        assert run_step(kernels.AddMean(step.chunks, by_reciprocal=True), sums, denominator, control) == OK
    return status, control["loss"][0] - 0.5, gradient


@builds
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(build, shape, weighted, smoothing):
    rng = np.random.default_rng(1)
    logits = (3 * rng.standard_normal(shape)).astype(build.dtype)
    target = rng.integers(0, shape[1], shape[0])
    target[1::3] = -100
    weights = rng.uniform(0.1, 2, shape[1]).astype(build.dtype) if weighted else None
    loss, gradient = reference(logits, target, weights, smoothing)
    # float32: exp and the scale round, a few ulp of p; relative to the largest entry of the gradient.
    tolerance = 1e-6 if build.dtype == np.float32 else 1e-13
    results = []
    for threads in THREADS:
        status, found, dx = cross_entropy(build, logits, target, weights, threads, label_smoothing=smoothing)
        assert status == OK
        assert abs(found - loss) <= tolerance * max(1, abs(loss))
        assert np.max(np.abs(dx - gradient)) <= tolerance * max(np.abs(gradient).max(), 1 / shape[0])
        assert np.all(dx[1::3] == 0)
        alone = cross_entropy(build, logits, target, weights, threads, want_gradient=False, label_smoothing=smoothing)
        assert alone[:2] == (OK, found)
        results.append((found, dx.tobytes()))
    assert results[0] == results[1] == results[2]


@builds
def test_equal_logits_cost_the_logarithm_of_the_classes(build):
    status, loss, gradient = cross_entropy(build, np.full((3, 8), 7, build.dtype), np.array([0, 3, 7]))
    assert status == OK
    assert loss == pytest.approx(np.log(8), rel=1e-15)
    expected = np.full((3, 8), 1 / 8) - np.eye(8)[[0, 3, 7]]
    assert np.max(np.abs(gradient - expected / 3)) < 1e-7


@builds
def test_large_logits_do_not_overflow(build):
    logits = np.array([[1e4, -1e4, 0], [-3e4, -3e4, -3e4]], build.dtype)
    status, loss, gradient = cross_entropy(build, logits, np.array([0, 1]))
    assert status == OK
    assert loss == pytest.approx(np.log(3) / 2, rel=1e-12)
    assert np.isfinite(gradient).all()


@builds
@pytest.mark.parametrize("bad", [-1, 10, 2**40])
def test_a_target_that_is_no_class_stops_before_anything_is_written(build, bad):
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((2000, 10)).astype(build.dtype)
    target = rng.integers(0, 10, 2000)
    target[1234] = bad
    for threads in THREADS:
        status, loss, gradient = cross_entropy(build, logits, target, threads=threads)
        assert (status, loss) == (OUT_OF_RANGE, 0)
        assert np.isnan(gradient).all()
        assert cross_entropy(build, logits, target, threads=threads, ignore_index=bad)[0] == OK


@builds
def test_no_target_that_counts_is_no_loss(build):
    logits = np.ones((5, 4), build.dtype)
    ignored = cross_entropy(build, logits, np.full(5, -100))
    unweighted = cross_entropy(build, logits, np.zeros(5, np.int64), np.array([0, 1, 1, 1], build.dtype))
    for status, loss, gradient in (ignored, unweighted):
        assert (status, loss) == (OK, 0)
        assert np.all(gradient == 0)


@builds
@pytest.mark.parametrize("position", [0, 40, 69])
def test_nan_in_a_logit_reaches_the_loss(build, position):
    logits = np.ones((3, 70), build.dtype)
    logits[1, position] = np.nan
    assert np.isnan(cross_entropy(build, logits, np.zeros(3, np.int64))[1])


@builds
@pytest.mark.parametrize("size", [1, 5, 64, 8192, 8193, 30011])
def test_mean_squared_error(build, size):
    rng = np.random.default_rng(3)
    x, target = integers(rng, size, build.dtype), integers(rng, size, build.dtype)
    denominator = np.array([size, 1 / size])
    for threads in THREADS:
        step = kernels.ElementwiseLoss(build, "squared_error", size)
        control, gradient = np.zeros(1, CONTROL), nans(size, build.dtype)
        sums = nans(step.chunks, np.float64)
        add = kernels.AddMean(step.chunks)
        assert run_step(step, x, target, denominator, sums, gradient, threads=threads) == OK
        assert run_step(add, sums, denominator, control) == OK
        assert control["loss"][0] == np.sum((x - target).astype(np.float64) ** 2) / size
        assert np.array_equal(gradient, build.dtype.type(2.0 / size) * (x - target))
        assert run_step(step, x, target, denominator, sums, None, threads=threads) == OK
        assert run_step(add, sums, denominator, control) == OK
        # A second run adds the same value, and doubling is exact.
        assert control["loss"][0] == 2 * (np.sum((x - target).astype(np.float64) ** 2) / size)


@builds
def test_batches_that_share_a_denominator_add_up(build):
    """Sums and gradients of two halves, over the weight of both, are those of the whole batch."""
    rng = np.random.default_rng(4)
    logits = rng.standard_normal((10, 7)).astype(build.dtype)
    target = rng.integers(0, 7, 10)
    weights = rng.integers(1, 4, 7).astype(build.dtype)  # sums are exact in any order
    _, whole, gradient = cross_entropy(build, logits, target, weights, label_smoothing=0.1)
    denominator, control = nans(2, np.float64), np.zeros(1, CONTROL)
    parts = nans(2, np.float64)
    halves = [slice(0, 3), slice(3, 10)]
    for i, half in enumerate(halves):
        rows = len(target[half])
        assert run_step(kernels.TargetWeights(build, rows, 7), target[half], weights, parts[i : i + 1]) == OK
    assert run_step(kernels.Denominator(2), parts, denominator) == OK
    for half in halves:
        step = kernels.SoftmaxCrossEntropy(build, len(target[half]), 7, label_smoothing=0.1)
        sums, part = nans(1, np.float64), nans((len(target[half]), 7), build.dtype)
        assert run_step(step, logits[half], target[half], weights, denominator, sums, part) == OK
        assert run_step(kernels.AddMean(1, by_reciprocal=True), sums, denominator, control) == OK
        assert np.array_equal(part, gradient[half])
    assert control["loss"][0] == pytest.approx(whole, rel=1e-14)


@pytest.mark.parametrize("loss", [0.0, -3.0, 1e308, np.nan, np.inf, -np.inf])
def test_check_finite(loss):
    control = np.zeros(1, CONTROL)
    control["loss"] = loss
    assert run_step(kernels.CheckFinite(), control) == (OK if np.isfinite(loss) else NOT_FINITE)


@builds
def test_geometry_is_checked(build):
    with pytest.raises(ValueError, match="classes >= 1"):
        kernels.SoftmaxCrossEntropy(build, 3, 0)
    with pytest.raises(ValueError, match="size >= 0"):
        kernels.ElementwiseLoss(build, "squared_error", -1)
    with pytest.raises(ValueError, match="no loss 'cubed_error'; there are squared_error"):
        kernels.ElementwiseLoss(build, "cubed_error", 1)
