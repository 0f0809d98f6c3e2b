"""Normalisation of rows, and its gradients, against the formulas in long double."""

import numpy as np
import pytest

import cconv.kernels.norm.layernorm as layernorm
from harness import ALL_BUILDS, THREADS, nans, run_step

# rows, columns, channels (0: scale and bias belong to columns): one and several blocks, ragged ends, long rows.
SIZES = [(1, 1, 0), (3, 5, 0), (7, 16, 0), (33, 96, 0), (700, 33, 0), (5, 40001, 0), (20000, 7, 0), (3, 3000, 0)]
SIZES += [(6, 5, 3), (66, 49, 33), (4, 40001, 2), (8, 1, 4)]
EPSILON = 1e-3


class Rows:
    """Random data of one size, and what the formulas give for it."""

    def __init__(self, build, sizes, centered, shift=2.0):
        self.rows, self.columns, self.channels = sizes
        rng = np.random.default_rng(0)
        shape = (self.rows, self.columns)
        self.x = (rng.standard_normal(shape) + shift).astype(build.dtype)
        self.dy = rng.standard_normal(shape).astype(build.dtype)
        size = self.channels or self.columns
        self.scale, self.bias = (rng.uniform(0.5, 1.5, size).astype(build.dtype) for _ in range(2))
        x, dy = self.x.astype(np.longdouble), self.dy.astype(np.longdouble)
        self.mean = x.mean(axis=1) if centered else np.zeros(self.rows)
        d = x - self.mean[:, None]
        self.inverse = 1 / np.sqrt((d**2).mean(axis=1) + EPSILON)
        self.u = d * self.inverse[:, None]
        scale, bias = self.scale, self.bias
        if self.channels:
            scale, bias = (p[np.arange(self.rows) % self.channels][:, None] for p in (scale, bias))
        self.y = self.u * scale + bias
        g = dy * scale
        middle = g.mean(axis=1, keepdims=True) if centered else 0
        self.dx = self.inverse[:, None] * (g - middle - self.u * (g * self.u).mean(axis=1, keepdims=True))
        axis = 1 if self.channels else 0
        self.dscale, self.dbias = (dy * self.u).sum(axis=axis), dy.sum(axis=axis)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("centered", [True, False])
def test_row_norm(build, sizes, centered):
    """At most 64 terms are added in the build's precision; beyond, in double."""
    data = Rows(build, sizes, centered)
    eps = np.finfo(build.dtype).eps
    results = []
    for threads in THREADS:
        y, mean, inverse = nans(data.x.shape, build.dtype), nans(data.rows, build.dtype), nans(data.rows, build.dtype)
        step = layernorm.RowNorm(build, data.rows, data.columns, EPSILON, centered, data.channels)
        run_step(step, data.x, data.scale, data.bias, y, mean, inverse, threads=threads)
        assert np.max(np.abs(mean - data.mean)) <= 16 * eps
        assert np.max(np.abs(inverse / data.inverse - 1)) <= 64 * eps
        assert np.max(np.abs(y - data.y) / (1 + np.abs(data.y))) <= 200 * eps
        results.append((y, mean, inverse))
        inplace = data.x.copy()
        run_step(step, inplace, data.scale, data.bias, inplace, None, None, threads=threads)
        assert np.array_equal(inplace, y)
        plain = nans(data.x.shape, build.dtype)
        run_step(step, data.x, None, None, plain, None, None, threads=threads)
        assert np.max(np.abs(plain - data.u) / (1 + np.abs(data.u))) <= 200 * eps
        if not data.channels:
            run_step(step, data.x, data.scale, None, plain, None, None, threads=threads)
            assert np.max(np.abs(plain - (data.y - data.bias)) / (1 + np.abs(data.y))) <= 200 * eps
    assert all(np.array_equal(a, b) for other in results[1:] for a, b in zip(other, results[0]))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("centered", [True, False])
def test_gradients(build, sizes, centered):
    data = Rows(build, sizes, centered)
    eps = np.finfo(build.dtype).eps
    mean, inverse = data.mean.astype(build.dtype), data.inverse.astype(build.dtype)
    size = data.rows if data.channels else data.columns
    results = []
    for threads in THREADS:
        step = layernorm.RowNormGradient(build, data.rows, data.columns, centered, data.channels)
        room = None if data.channels else nans((step.chunks, 2, data.columns), float)
        dx, sums = nans(data.x.shape, build.dtype), [nans(size, build.dtype) for _ in range(2)]
        run_step(step, data.dy, data.x, mean, inverse, data.scale, dx, room, *sums, threads=threads)
        assert np.max(np.abs(dx - data.dx)) <= 200 * eps * np.max(data.inverse) * np.max(np.abs(data.dy) + 1)
        terms = data.columns if data.channels else data.rows
        assert np.max(np.abs(sums[0] - data.dscale)) <= 40 * eps * terms
        assert np.max(np.abs(sums[1] - data.dbias)) <= 40 * eps * terms
        results.append((dx, *sums))
        # Only dx, over dy; only the sums.
        inplace, alone = data.dy.copy(), [nans(size, build.dtype) for _ in range(2)]
        run_step(step, inplace, data.x, mean, inverse, data.scale, inplace, None, None, None, threads=threads)
        assert np.array_equal(inplace, dx)
        run_step(step, data.dy, data.x, mean, inverse, data.scale, None, room, *alone, threads=threads)
        assert all(np.array_equal(a, b) for a, b in zip(alone, sums))
    assert all(np.array_equal(a, b) for other in results[1:] for a, b in zip(other, results[0]))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("columns", [5, 96, 5000])
def test_a_large_mean_takes_no_digits_but_those_it_took_of_x(build, columns):
    """10^4 standard deviations: mean(x^2) - mean(x)^2 would have no correct digit in float32."""
    data = Rows(build, (9, columns, 0), True, shift=1e4)
    inverse = nans(9, build.dtype)
    step = layernorm.RowNorm(build, 9, columns, EPSILON)
    run_step(step, data.x, None, None, nans(data.x.shape, build.dtype), None, inverse)
    assert np.max(np.abs(inverse / data.inverse - 1)) <= 64 * np.finfo(build.dtype).eps


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ValueError, match=r"at least one column.*found 3 rows of 0 columns"):
        layernorm.RowNorm(ALL_BUILDS[0], 3, 0, EPSILON)
    with pytest.raises(ValueError, match="whole channels; found 5 rows of 2 columns, 3 channels"):
        layernorm.RowNormGradient(ALL_BUILDS[0], 5, 2, True, 3)
