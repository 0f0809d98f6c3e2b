"""Activations, their gradients and flat arithmetic against float64 NumPy."""

import math

import numpy as np
import pytest

import cconv.kernels.elementwise.elementwise as elementwise
from harness import ALL_BUILDS, THREADS, integers, nans, run_step

SIZES = (0, 1, 7, 33, 100, 32768, 65541)


def sigmoid(x):
    return np.where(x < 0, np.exp(-np.abs(x)), 1.0) / (1 + np.exp(-np.abs(x)))


def erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)


def normal(x):
    """The density and the distribution of the standard normal."""
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi), 0.5 * np.vectorize(math.erfc, otypes=[float])(-x / np.sqrt(2))


def gelu_argument(x):
    return 2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)


def gelu_tanh_slope(x):
    s = sigmoid(gelu_argument(x))
    return s + x * s * (1 - s) * 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def mish_slope(x):
    t = np.tanh(softplus(x))
    return t + x * (1 - t * t) * sigmoid(x)


def expm1(x):
    return np.expm1(np.minimum(x, 0))


def exp(x):
    return np.exp(np.minimum(x, 0))


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
    "affine": ((-2.5, 3), lambda x: -2.5 * x + 3, None, ""),
    "square": ((0, 0), lambda x: x * x, None, ""),
    "power": ((-0.75, 0), lambda x: np.where(x < 0, np.nan, x**-0.75), None, ""),
    "thresholded_relu": ((2, 0), lambda x: np.where(x <= 2, 0, x), lambda x: x > 2, "x"),
    "hard_sigmoid": (
        (0.25, 0.5),
        lambda x: np.clip(0.25 * x + 0.5, 0, 1),
        lambda x: np.where((x > -2) & (x < 2), 0.25, 0),
        "y",
    ),
    "hard_swish": (
        (0, 0),
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where(np.abs(x) < 3, x / 3 + 0.5, x > 0),
        "x",
    ),
    "swish": (
        (1.5, 0),
        lambda x: x * sigmoid(1.5 * x),
        lambda x: sigmoid(1.5 * x) * (1 + 1.5 * x * sigmoid(-1.5 * x)),
        "x",
    ),
    "mish": ((0, 0), lambda x: x * np.tanh(softplus(x)), mish_slope, "x"),
    "gelu": ((0, 0), lambda x: x * normal(x)[1], lambda x: normal(x)[1] + x * normal(x)[0], "x"),
    "gelu_tanh": ((0, 0), lambda x: x * sigmoid(gelu_argument(x)), gelu_tanh_slope, "x"),
    "elu": (
        (0.5, 2),
        lambda x: np.where(x < 0, 0.5 * expm1(2 * x), x),
        lambda x: np.where(x > 0, 1, exp(2 * x)),
        "x",
    ),
    "selu": (
        (0.5, 2),
        lambda x: np.where(x < 0, 0.5 * expm1(x), 2 * x),
        lambda x: np.where(x > 0, 2, 0.5 * exp(x)),
        "x",
    ),
    "softplus": ((0, 0), softplus, sigmoid, "x"),
    "softsign": ((0, 0), lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2, "x"),
    "erf": ((0, 0), erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x), "x"),
    "exp": ((0, 0), np.exp, np.exp, "y"),
    "log": ((0, 0), np.log, lambda x: 1 / x, "x"),
    "sqrt": ((0, 0), np.sqrt, lambda x: 0.5 / np.sqrt(x), "y"),
    "reciprocal": ((0, 0), lambda x: 1 / x, lambda x: -1 / x**2, "y"),
    "abs": ((0, 0), np.abs, np.sign, "x"),
    "sign": ((0, 0), np.sign, None, ""),
    "floor": ((0, 0), np.floor, None, ""),
    "ceil": ((0, 0), np.ceil, None, ""),
    "round": ((0, 0), np.rint, None, ""),
    "sin": ((0, 0), np.sin, np.cos, "x"),
    "cos": ((0, 0), np.cos, lambda x: -np.sin(x), "x"),
    "tan": ((0, 0), np.tan, lambda x: 1 + np.tan(x) ** 2, "y"),
    "asin": ((0, 0), np.arcsin, lambda x: 1 / np.sqrt(1 - x * x), "x"),
    "acos": ((0, 0), np.arccos, lambda x: -1 / np.sqrt(1 - x * x), "x"),
    "atan": ((0, 0), np.arctan, lambda x: 1 / (1 + x * x), "x"),
    "sinh": ((0, 0), np.sinh, np.cosh, "x"),
    "cosh": ((0, 0), np.cosh, np.sinh, "x"),
    "asinh": ((0, 0), np.arcsinh, lambda x: 1 / np.sqrt(x * x + 1), "x"),
    "acosh": ((0, 0), np.arccosh, lambda x: 1 / np.sqrt(x * x - 1), "x"),
    "atanh": ((0, 0), np.arctanh, lambda x: 1 / (1 - x * x), "x"),
}
EXACT = ("relu", "leaky_relu", "clip", "scale", "affine", "square", "thresholded_relu", "hard_sigmoid", "abs", "sign")
EXACT += ("floor", "ceil", "round")

# Where the function is defined.
POSITIVE = ("log", "sqrt", "power", "reciprocal")
INSIDE = ("asin", "acos", "atanh")


def arguments(rng, kind, size, dtype):
    """Small whole numbers, or fractions of them where the function wants that."""
    x = integers(rng, size, dtype)
    if kind in POSITIVE:
        return np.abs(x) + 1
    if kind in INSIDE:
        return x / 8
    if kind == "acosh":
        return np.abs(x) + 1.25
    return x / 4 if kind in ("floor", "ceil", "round") else x


def tolerance(kind, y):
    """In ulps of y, where there is no large term that cancels; see vmath.h and elementwise.h."""
    if kind in EXACT:
        return 0 * y
    if kind == "gelu":  # 1 + erf cancels below 0: the error is one of erf's, times |x| / 2
        return np.full_like(y, 4 * 2 * np.finfo(y.dtype).eps)
    return {"power": 8, "gelu_tanh": 16, "hard_swish": 2, "reciprocal": 0.51}.get(kind, 4) * np.spacing(np.abs(y))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", UNARY)
def test_unary(build, kind, size):
    parameters, f, _, _ = UNARY[kind]
    x = arguments(np.random.default_rng(0), kind, size, build.dtype)
    expected = f(x.astype(np.float64))
    for threads in THREADS:
        y = nans(size, build.dtype)
        run_step(elementwise.Unary(build, kind, size, *parameters), x, y, threads=threads)
        assert np.all(np.abs(y - expected) <= tolerance(kind, y))
        same = x.copy()
        run_step(elementwise.Unary(build, kind, size, *parameters), same, same, threads=threads)
        assert np.array_equal(same, y)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind, of", [(kind, of) for kind, row in UNARY.items() for of in row[3]])
def test_gradient(build, kind, of, size):
    parameters, f, derivative, _ = UNARY[kind]
    rng = np.random.default_rng(0)
    x = arguments(rng, kind, size, np.float64)
    dy = integers(rng, size, build.dtype)
    kept = (x if of == "x" else f(x)).astype(build.dtype)
    expected = dy * derivative(x)
    for threads in THREADS:
        dx = nans(size, build.dtype)
        step = elementwise.UnaryGradient(build, kind, size, *parameters)
        run_step(step, dy, kept, dx, threads=threads)
        if kind in EXACT:
            assert np.array_equal(dx, expected)
        else:  # terms up to |v| and f' are rounded, and may cancel; dy's size is at most 4
            scale = np.maximum(1, np.maximum(np.abs(kept), np.abs(derivative(x))))
            assert np.all(np.abs(dx - expected) <= 4 * 4 * np.finfo(build.dtype).eps * scale)
        same = dy.copy()
        run_step(elementwise.UnaryGradient(build, kind, size, *parameters), same, kept, same, threads=threads)
        assert np.array_equal(same, dx)


def test_every_loop_is_tested():
    build = ALL_BUILDS[0]
    assert set(elementwise.formulas(build, "UNARY")) == set(UNARY)
    assert set(elementwise.formulas(build, "GRADIENT")) == {kind for kind, row in UNARY.items() if row[3]}
    assert set(elementwise.formulas(build, "BINARY")) == set(BINARY)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", UNARY)
def test_extremes(build, kind):
    """Infinities and the largest numbers go to the function's limits, and NaN stays NaN."""
    parameters, f, _, _ = UNARY[kind]
    limit = float(np.finfo(build.dtype).max)
    x = np.array([np.nan, np.inf, -np.inf, limit, -limit, 0, 1000, -1000, np.nan] * 5, build.dtype)
    y = nans(x.size, build.dtype)
    y[np.isnan(x)] = 0
    run_step(elementwise.Unary(build, kind, x.size, *parameters), x, y)
    with np.errstate(all="ignore"):
        expected = f(x.astype(np.longdouble)).astype(build.dtype)
    if kind in ("sin", "cos", "tan"):  # of numbers whose neighbours are far apart; below, on all of float32
        x, y, expected = x[np.abs(x) < limit], y[np.abs(x) < limit], expected[np.abs(x) < limit]
    if kind.startswith("gelu"):  # -inf times a 0
        assert np.isnan(y[2])
    assert np.allclose(y, expected, rtol=2e-5 if kind == "power" else 4e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", [kind for kind, row in UNARY.items() if row[3]])
def test_gradients_far_from_zero(build, kind):
    """No 0 times infinity where the slope has a limit."""
    parameters, f, derivative, of = UNARY[kind]
    x = np.array([1e3, -1e3, 1e18, -1e18, 3e38, -3e38] * 5)
    with np.errstate(all="ignore"):
        kept = (x if "x" in of else f(x)).astype(build.dtype)
        expected = derivative(x.astype(np.longdouble)).astype(build.dtype)
    dx = nans(x.size, build.dtype)
    run_step(elementwise.UnaryGradient(build, kind, x.size, *parameters), np.ones_like(kept), kept, dx)
    known = np.isfinite(expected) & np.isfinite(kept)
    if kind in ("sin", "cos", "tan"):
        known &= np.abs(x) < 1e4
    assert np.allclose(dx[known], expected[known], rtol=4e-6, atol=1e-6)


# On every 997th float32 of both signs, denormals and tails included; ulps as vmath.h states them.
ULPS = {
    "sigmoid": 3,
    "tanh": 3,
    "exp": 2,
    "log": 1,
    "erf": 2,
    "sin": 2,
    "cos": 2,
    "elu": 2,
    "softplus": 3,
    "softsign": 2,
    "sqrt": 0.51,
    "reciprocal": 0.51,
}


@pytest.mark.parametrize("build", [b for b in ALL_BUILDS if b.dtype == np.float32], ids=str)
@pytest.mark.parametrize("kind", ULPS)
def test_accuracy_over_the_whole_range(build, kind):
    bits = np.arange(0, 0x7F800000, 997, dtype=np.uint32)
    x = np.concatenate([bits.view(np.float32), -bits.view(np.float32)])
    with np.errstate(all="ignore"):
        expected = (expm1_or_x if kind == "elu" else UNARY[kind][1])(x.astype(np.float64))
        rounded = expected.astype(np.float32)
    y = nans(x.size, np.float32)
    run_step(elementwise.Unary(build, kind, x.size, 1, 1), x, y, threads=2)
    finite = np.isfinite(rounded)
    assert np.array_equal(y[~finite], rounded[~finite], equal_nan=True)
    ulps = np.abs(y[finite] - expected[finite]) / np.spacing(np.abs(rounded[finite]))
    assert ulps.max() <= ULPS[kind]


def expm1_or_x(x):
    return np.where(x < 0, expm1(x), x)


def test_halves_are_rounded_to_even():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 8388609.5, 2.0**30 + 128], np.float32)
    y = nans(x.size, np.float32)
    run_step(elementwise.Unary(ALL_BUILDS[0], "round", x.size), x, y)
    assert y.tolist() == [0, 2, 2, 0, -2, float(np.rint(x[5])), 2.0**30 + 128]


# kind: f(x, y)
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "div_or_zero": lambda x, y: np.where(y == 0, 0, x / np.where(y == 0, 1, y)),
    "min": np.minimum,
    "max": np.maximum,
    "greater_share": lambda x, y: (x > y) + 0.5 * (x == y),
    "equal": lambda x, y: x == y,
    "pow": np.power,
    "pow_slope": lambda x, y: np.where(y == 0, 0, y * np.power(x, y - 1)),
    "pow_log": lambda x, y: np.where(x == 0, 0, y * np.log(np.where(x == 0, 1, x))),
    "fmod": np.fmod,
    "mod": np.mod,
    "floor_div": lambda x, y: np.floor(x / y),
    "trunc_div": lambda x, y: np.trunc(x / y),
    "prelu": lambda x, y: np.where(x < 0, x * y, x),
    "prelu_slope": lambda x, y: np.where(x > 0, 1, y),
    "mul_negative": lambda x, y: x * np.minimum(y, 0),
}
ROUNDED = ("pow", "pow_slope", "pow_log")  # by libm, or by a logarithm


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", BINARY)
def test_binary(build, kind, size):
    rng = np.random.default_rng(0)
    x, y = integers(rng, size, build.dtype), integers(rng, size, build.dtype)
    if kind in ROUNDED:
        x = np.abs(x)
    with np.errstate(all="ignore"):
        expected = BINARY[kind](x.astype(np.float64), y.astype(np.float64))
    for threads in THREADS:
        z = nans(size, build.dtype)
        run_step(elementwise.Binary(build, kind, size), x, y, z, threads=threads)
        tolerated = 2 * np.finfo(build.dtype).eps if kind in ROUNDED else 0
        assert np.allclose(z, expected.astype(build.dtype), rtol=tolerated, atol=0, equal_nan=True)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_powers_by_a_scalar(build):
    """Those computed by multiplication, of negative numbers too, and libm's rules for the others."""
    x = np.array([-3, -0.5, 0, 0.5, 2, np.nan, np.inf] * 5, build.dtype)
    for exponent in (0, 1, 2, 3, 0.5, -1, -2):
        z = nans(x.size, build.dtype)
        run_step(elementwise.Broadcast(build, "pow", x.shape, (1,), (0,)), x, np.array(exponent, build.dtype), z)
        with np.errstate(all="ignore"):
            assert np.allclose(z, x**exponent, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_nan_is_no_extreme(build):
    """The larger and the smaller of a number and NaN is NaN, whichever comes first."""
    x, y = np.array([np.nan, 1, np.nan, 2], build.dtype), np.array([1, np.nan, np.nan, 3], build.dtype)
    for kind in ("min", "max"):
        z = np.zeros(4, build.dtype)
        run_step(elementwise.Binary(build, kind, 4), x, y, z)
        assert np.isnan(z).tolist() == [True, True, True, False]


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_unknown_loops_are_named(build):
    for step, table in (("Unary", "sigmoid"), ("UnaryGradient", "tanh"), ("Binary", "div")):
        with pytest.raises(ValueError, match=f"no loop 'nothing'.*{table}"):
            getattr(elementwise, step)(build, "nothing", 3)
