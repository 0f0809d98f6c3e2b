"""Update steps on all builds and thread counts against the formulas in float64."""

import math

import numpy as np
import pytest

import cconv.kernels.update.update as update
from cconv.kernels.core.control import CONTROL
from harness import ALL_BUILDS, THREADS, integers, run_step

OK, NOT_FINITE = 0, 1
SIZES = [0, 1, 7, 100, 32768, 32771, 100_003]
builds = pytest.mark.parametrize("build", ALL_BUILDS, ids=repr)
sizes = pytest.mark.parametrize("size", SIZES)


def control_of(scale=1.0, step=0):
    control = np.zeros(1, CONTROL)
    control["gradient_scale"], control["step"] = scale, step
    return control


def tolerance(build) -> float:
    """Of a few roundings of numbers around 1."""
    return 1e-6 if build.dtype == np.float32 else 1e-14


@builds
@sizes
@pytest.mark.parametrize("momentum, decay, nesterov", [(0, 0, 0), (0, 0.1, 0), (0.9, 0.1, 0), (0.9, 0.1, 1)])
def test_sgd(build, size, momentum, decay, nesterov):
    rng = np.random.default_rng(1)
    start, g, state = (rng.standard_normal(size).astype(build.dtype) for _ in range(3))
    total = 0.5 * g.astype(np.float64) + decay * start
    velocity = momentum * state.astype(np.float64) + total
    moved = total + momentum * velocity if nesterov else velocity if momentum else total
    rule = "sgd_nesterov" if nesterov else "sgd_momentum" if momentum else "sgd"
    step = update.Update(build, rule, size, (decay, momentum))
    results = []
    for threads in THREADS:
        weight, v = start.copy(), state.copy()
        operands = g, control_of(scale=0.5), np.array([0.1]), weight, *([v] if momentum else [])
        assert run_step(step, *operands, threads=threads) == OK
        assert np.max(np.abs(weight - (start - 0.1 * moved)), initial=0) <= tolerance(build)
        if momentum:
            assert np.max(np.abs(v - velocity), initial=0) <= tolerance(build)
        results.append((weight.tobytes(), v.tobytes()))
    assert results[0] == results[1] == results[2]


@builds
def test_sgd_is_exact_on_small_integers(build):
    """Learning rate 1/2 and momentum 1/2 on whole numbers: no rounding anywhere."""
    rng = np.random.default_rng(2)
    start, g, v = (integers(rng, 50_001, build.dtype) for _ in range(3))
    weight, state = start.copy(), v.copy()
    step = update.Update(build, "sgd_momentum", 50_001, (0, 0.5))
    assert run_step(step, g, control_of(), np.array([0.5]), weight, state, threads=3) == OK
    assert np.array_equal(state, v / 2 + g)
    assert np.array_equal(weight, start - (v / 2 + g) / 2)


@builds
@sizes
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("t", [1, 50])
def test_adam(build, size, decoupled, t):
    rng = np.random.default_rng(3)
    start, g, m0 = (rng.standard_normal(size).astype(build.dtype) for _ in range(3))
    v0 = rng.uniform(0.5, 2, size).astype(build.dtype)
    rate, beta1, beta2, eps, decay = 0.01, 0.9, 0.999, 1e-8, 0.1
    w, total = start.astype(np.float64), 0.5 * g.astype(np.float64)
    if decoupled:
        w = w - rate * decay * w
    else:
        total = total + decay * w
    m_new = beta1 * m0 + (1 - beta1) * total
    v_new = beta2 * v0 + (1 - beta2) * total**2
    w = w - rate / (1 - beta1**t) * m_new / (np.sqrt(v_new / (1 - beta2**t)) + eps)
    step = update.Update(build, "adamw" if decoupled else "adam", size, (beta1, beta2, eps, decay))
    results = []
    for threads in THREADS:
        weight, m, v = start.copy(), m0.copy(), v0.copy()
        assert run_step(step, g, control_of(0.5, t - 1), np.array([rate]), weight, m, v, threads=threads) == OK
        for found, expected in ((weight, w), (m, m_new), (v, v_new)):
            assert np.max(np.abs(found - expected), initial=0) <= tolerance(build) * 2
        results.append((weight.tobytes(), m.tobytes(), v.tobytes()))
    assert results[0] == results[1] == results[2]


@builds
def test_norm_and_clipping(build):
    """Sums of squares of whole numbers are exact in double, so the factor is exact too."""
    rng = np.random.default_rng(4)
    arrays = [integers(rng, size, build.dtype) for size in SIZES]
    steps, offset = [], 0
    for array in arrays:
        steps.append(update.SquareSum(build, array.size, offset))
        offset += steps[-1].chunks
    norm = math.sqrt(sum(float(np.sum(array.astype(np.float64) ** 2)) for array in arrays))
    for threads in THREADS:
        partial = np.full(offset, np.nan)
        for step, array in zip(steps, arrays):
            assert run_step(step, array, partial, threads=threads) == OK
        for max_norm, factor in ((norm / 3, norm / 3 / (norm + 1e-6)), (2 * norm, 1.0)):
            control = control_of(scale=0)
            assert run_step(update.ClipByNorm(offset, max_norm), partial, control) == OK
            assert control["gradient_scale"][0] == factor


@builds
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("position", [0, 32768, 32775])
def test_a_gradient_that_is_not_finite_is_found(build, bad, position):
    x = np.zeros(32776, build.dtype)
    x[position] = bad
    step = update.SquareSum(build, x.size)
    partial, control = np.full(step.chunks, np.nan), control_of()
    assert run_step(step, x, partial) == OK
    assert run_step(update.ClipByNorm(step.chunks, 1.0), partial, control) == NOT_FINITE
    assert control["gradient_scale"][0] == 1


def test_squares_of_large_gradients_do_not_overflow():
    build = ALL_BUILDS[0]
    x, partial = np.full(100, 1e30, np.float32), np.zeros(1)
    assert run_step(update.SquareSum(build, 100), x, partial) == OK
    assert partial[0] == pytest.approx(1e62, rel=1e-6)


@builds
def test_advance_counts_in_both_places(build):
    control, count = control_of(step=41), np.zeros(1, np.int64)
    assert run_step(update.Advance(), control, count) == OK
    assert (control["step"][0], count[0]) == (42, 42)


@builds
def test_options_are_checked(build):
    with pytest.raises(ValueError, match="no rule 'lion'; there are sgd, "):
        update.Update(build, "lion", 3)
    with pytest.raises(ValueError, match="size >= 0"):
        update.Update(build, "adam", -1, (0.9, 0.999, 1e-8, 0))
    with pytest.raises(ValueError, match="at most 8 options"):
        update.Update(build, "sgd", 3, range(9))
    assert update.rules(build)["adam"] == 2
