"""Quantisation, its gradient and the way back, against NumPy."""

import numpy as np
import pytest

from harness import ALL_BUILDS, THREADS, nans, run_step

KINDS = ("int8", "uint8", "int16", "uint16")
SIZES = [(1, 1, 1), (1, 1, 70000), (40000, 3, 1), (3, 5, 7), (2, 0, 3), (50, 33, 40)]


def data(build, kind, sizes):
    """x, scales, zero points; a quarter of x is clipped, and some lies in the middle between two numbers."""
    rng = np.random.default_rng(0)
    limits = np.iinfo(kind)
    scale = rng.choice([0.25, 0.5, 2], (sizes[1], 1)).astype(build.dtype)
    zero = rng.integers(limits.min // 4, limits.max // 4, (sizes[1], 1)).astype(kind)
    halves = rng.integers(2 * limits.min - 60, 2 * limits.max + 60, sizes) / 2 - zero
    return (halves * scale).astype(build.dtype), scale, zero


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("with_zero", [True, False])
def test_quantize_and_its_gradient(build, kind, sizes, with_zero):
    x, scale, zero = data(build, kind, sizes)
    limits, offset = np.iinfo(kind), zero.astype(int) if with_zero else 0
    whole = np.rint(x / scale) + offset
    inside = (whole >= limits.min) & (whole <= limits.max)
    dy = np.random.default_rng(1).standard_normal(sizes).astype(build.dtype)
    for threads in THREADS:
        q, dx = np.full(sizes, 99, kind), nans(sizes, build.dtype)
        zeros = zero if with_zero else None
        run_step(build.quantize.Quantize(kind, *sizes), x, scale, zeros, q, threads=threads)
        assert np.array_equal(q, np.clip(whole, limits.min, limits.max))
        run_step(build.quantize.QuantizeGradient(kind, *sizes), dy, x, scale, zeros, dx, threads=threads)
        assert np.array_equal(dx, np.where(inside, dy / scale, 0))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", [*KINDS, "int32"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("with_zero", [True, False])
def test_dequantize(build, kind, sizes, with_zero):
    rng = np.random.default_rng(0)
    limits = np.iinfo(kind)
    q = rng.integers(limits.min, limits.max, sizes, endpoint=True).astype(kind)
    scale = rng.uniform(0.1, 2, (sizes[1], 1)).astype(build.dtype)
    zero = rng.integers(limits.min, limits.max, (sizes[1], 1), endpoint=True).astype(kind)
    difference = q.astype(np.int64) - (zero.astype(np.int64) if with_zero else 0)
    for threads in THREADS:
        x = nans(sizes, build.dtype)
        zeros = zero if with_zero else None
        run_step(build.quantize.Dequantize(kind, *sizes), q, scale, zeros, x, threads=threads)
        assert np.array_equal(x, difference.astype(build.dtype) * scale)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_what_is_no_finite_number_is_clipped(build):
    x, q = np.array([np.nan, np.inf, -np.inf, 3e38], build.dtype), np.zeros(4, np.int8)
    run_step(build.quantize.Quantize("int8", 1, 1, 4), x, np.ones(1, build.dtype), None, q)
    assert q.tolist() == [-128, 127, -128, 127]


def test_other_kinds_are_refused():
    module = ALL_BUILDS[0].quantize
    for make, kind in ((module.Quantize, "int32"), (module.Quantize, "int4"), (module.Dequantize, "int64")):
        with pytest.raises(ValueError, match=f"found '{kind}'"):
            make(kind, 1, 1, 1)
