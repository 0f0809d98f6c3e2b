"""Activations, their gradients and flat arithmetic against float64 NumPy."""

import numpy as np
import pytest

from harness import ALL_BUILDS, THREADS, integers, nans, run_step

SIZES = (0, 1, 7, 33, 100, 32768, 65541)


def sigmoid(x):
    return np.where(x < 0, np.exp(-np.abs(x)), 1.0) / (1 + np.exp(-np.abs(x)))


# kind: parameters, f(x), f'(x) and which of x and y the gradient's loop reads.
UNARY = {
    "relu": ((0, 0), lambda x: np.maximum(x, 0), lambda x: x > 0, "xy"),
    "leaky_relu": (
        (0.25, 0),
        lambda x: np.where(x < 0, 0.25 * x, x),
        lambda x: np.where(x > 0, 1, 0.25),
        "xy",
    ),
    "clip": ((-2, 1), lambda x: np.clip(x, -2, 1), lambda x: (x > -2) & (x < 1), "xy"),
    "sigmoid": ((0, 0), sigmoid, lambda x: sigmoid(x) * sigmoid(-x), "y"),
    "tanh": ((0, 0), np.tanh, lambda x: 1 - np.tanh(x) ** 2, "y"),
    "scale": ((-2.5, 0), lambda x: -2.5 * x, None, ""),
}
EXACT = ("relu", "leaky_relu", "clip", "scale")


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", UNARY)
def test_unary(build, kind, size):
    parameters, f, _, _ = UNARY[kind]
    x = integers(np.random.default_rng(0), size, build.dtype)
    expected = f(x.astype(np.float64))
    for threads in THREADS:
        y = nans(size, build.dtype)
        run_step(build.elementwise.Unary(kind, size, *parameters), x, y, threads=threads)
        if kind in EXACT:
            assert np.array_equal(y, expected)
        else:  # see vmath.h
            assert np.all(np.abs(y - expected) <= 3 * np.spacing(np.abs(y)))
        same = x.copy()
        run_step(build.elementwise.Unary(kind, size, *parameters), same, same, threads=threads)
        assert np.array_equal(same, y)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind, of", [(kind, of) for kind, row in UNARY.items() for of in row[3]])
def test_gradient(build, kind, of, size):
    parameters, f, derivative, _ = UNARY[kind]
    rng = np.random.default_rng(0)
    x = integers(rng, size, np.float64)
    dy = integers(rng, size, build.dtype)
    kept = (x if of == "x" else f(x)).astype(build.dtype)
    expected = dy * derivative(x)
    for threads in THREADS:
        dx = nans(size, build.dtype)
        step = build.elementwise.UnaryGradient(kind, size, *parameters)
        run_step(step, dy, kept, dx, threads=threads)
        if kind in EXACT:
            assert np.array_equal(dx, expected)
        else:  # y is rounded, and 1 - y cancels: eps times dy, whose size is at most 4
            assert np.max(np.abs(dx - expected), initial=0) <= 4 * 2 * np.finfo(build.dtype).eps
        same = dy.copy()
        run_step(build.elementwise.UnaryGradient(kind, size, *parameters), same, kept, same, threads=threads)
        assert np.array_equal(same, dx)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", [k for k in UNARY if k != "scale"])
def test_extremes(build, kind):
    """Infinities and the largest numbers go to the function's limits, and NaN stays NaN."""
    parameters, f, _, _ = UNARY[kind]
    limit = float(np.finfo(build.dtype).max)
    x = np.array([np.nan, np.inf, -np.inf, limit, -limit, 0, 1000, -1000, np.nan] * 5, build.dtype)
    y = nans(x.size, build.dtype)
    y[np.isnan(x)] = 0
    run_step(build.elementwise.Unary(kind, x.size, *parameters), x, y)
    assert np.array_equal(y, f(x.astype(np.float64)).astype(build.dtype), equal_nan=True)


@pytest.mark.parametrize("build", [b for b in ALL_BUILDS if b.dtype == np.float32], ids=str)
@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
def test_accuracy_over_the_whole_range(build, kind):
    """Every 997th float32 of both signs, denormals and tails included; ulps as vmath.h states them."""
    bits = np.arange(0, 0x7F800000, 997, dtype=np.uint32)
    x = np.concatenate([bits.view(np.float32), -bits.view(np.float32)])
    expected = UNARY[kind][1](x.astype(np.float64))
    y = nans(x.size, np.float32)
    run_step(build.elementwise.Unary(kind, x.size), x, y, threads=2)
    ulps = np.abs(y - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert ulps.max() <= 3


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind, op", [("add", np.add), ("sub", np.subtract), ("mul", np.multiply)])
def test_binary(build, kind, op, size):
    rng = np.random.default_rng(0)
    x, y = integers(rng, size, build.dtype), integers(rng, size, build.dtype)
    for threads in THREADS:
        z = nans(size, build.dtype)
        run_step(build.elementwise.Binary(kind, size), x, y, z, threads=threads)
        assert np.array_equal(z, op(x, y))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_unknown_loops_are_named(build):
    for step, table in (("Unary", "sigmoid"), ("UnaryGradient", "tanh"), ("Binary", "div")):
        with pytest.raises(ValueError, match=f"no loop 'nothing'.*{table}"):
            getattr(build.elementwise, step)("nothing", 3)
