"""Quantisation, its gradient and the way back, against NumPy."""

import numpy as np
import pytest

import cconv.kernels.quantize.quantize as quantize
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
        run_step(quantize.Quantize(build, kind, *sizes), x, scale, zeros, q, threads=threads)
        assert np.array_equal(q, np.clip(whole, limits.min, limits.max))
        terms = nans(sizes, build.dtype)
        run_step(quantize.QuantizeGradient(build, kind, *sizes), dy, x, scale, zeros, dx, terms, threads=threads)
        assert np.array_equal(dx, np.where(inside, dy / scale, 0))
        assert np.array_equal(terms, np.where(inside, -(dy / scale) * (x / scale), 0))


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
        run_step(quantize.Dequantize(build, kind, *sizes), q, scale, zeros, x, threads=threads)
        assert np.array_equal(x, difference.astype(build.dtype) * scale)
        dq, terms = nans(sizes, build.dtype), nans(sizes, build.dtype)
        gradient = quantize.DequantizeGradient(build, kind, *sizes)
        run_step(gradient, x, q, scale, zeros, dq, terms, threads=threads)
        assert np.array_equal(dq, x * scale)
        assert np.array_equal(terms, x * difference.astype(build.dtype))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("sizes", [(1, 5, 1), (300, 130, 1), (2, 7, 33), (3, 64, 8), (2, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("block", [1, 3, 64, 2**62])
def test_blocks(build, sizes, block):
    """Each block has the scale and the zero point that `repeated` puts at each of its elements."""
    outer, n, inner = sizes
    rng, count = np.random.default_rng(0), -(-n // block)
    scale = rng.choice([0.25, 0.5, 2], (outer, count, inner)).astype(build.dtype)
    zero = rng.integers(-20, 20, scale.shape).astype(np.int8)
    of = np.arange(n) // block
    repeated, offset = scale[:, of], zero[:, of].astype(int)
    x = (rng.integers(-400, 400, sizes) / 2 * repeated).astype(build.dtype)
    whole = np.rint(x / repeated) + offset
    inside = (whole >= -128) & (whole <= 127)
    dy = rng.integers(-8, 8, sizes).astype(build.dtype)
    for threads in THREADS:
        q, back, dx, terms = np.full(sizes, 99, np.int8), *(nans(sizes, build.dtype) for _ in range(3))
        run_step(quantize.Quantize(build, "int8", *sizes, block), x, scale, zero, q, threads=threads)
        assert np.array_equal(q, np.clip(whole, -128, 127))
        run_step(quantize.Dequantize(build, "int8", *sizes, block), q, scale, zero, back, threads=threads)
        assert np.array_equal(back, (q - offset) * repeated)
        step = quantize.QuantizeGradient(build, "int8", *sizes, block)
        run_step(step, dy, x, scale, zero, dx, terms, threads=threads)
        assert np.array_equal(dx, np.where(inside, dy / repeated, 0))
        assert np.array_equal(terms, np.where(inside, -(dy / repeated) * (x / repeated), 0))
        step = quantize.DequantizeGradient(build, "int8", *sizes, block)
        run_step(step, dy, q, scale, zero, dx, None, threads=threads)
        assert np.array_equal(dx, dy * repeated)
        sums = nans(scale.shape, build.dtype)
        run_step(quantize.BlockSums(build, *sizes, block), dy, sums, threads=threads)
        wanted = [[dy[o, of == b].sum(axis=0) for b in range(count)] for o in range(outer)]
        assert np.array_equal(sums, np.reshape(wanted, scale.shape))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind, low, high", [("int4", -8, 7), ("uint4", 0, 15), ("int2", -2, 1), ("uint2", 0, 3)])
@pytest.mark.parametrize("above", [0x00, 0xF0])
def test_less_than_eight_bits(build, kind, low, high, above):
    """An element is the low bits of a byte: those above are written as 0, and not read."""
    x = np.array([np.nan, -1e9, -9, -2.5, -1, 0, 0.5, 1.5, 2, 7, 8, 1e9], build.dtype)
    expected = np.clip(np.rint(np.where(np.isnan(x), low, x)), low, high)
    q, back = np.full(x.size, 99, np.uint8), nans(x.size, build.dtype)
    run_step(quantize.Quantize(build, kind, 1, 1, x.size), x, np.ones(1, build.dtype), None, q)
    assert np.array_equal(q, expected.astype(int) & (high - low))
    zero = np.array([1 | above], np.uint8)
    run_step(quantize.Dequantize(build, kind, 1, 1, x.size), q | above, np.full(1, 2, build.dtype), zero, back)
    assert np.array_equal(back, 2 * (expected - 1))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_what_is_no_finite_number_is_clipped(build):
    x, q = np.array([np.nan, np.inf, -np.inf, 3e38], build.dtype), np.zeros(4, np.int8)
    run_step(quantize.Quantize(build, "int8", 1, 1, 4), x, np.ones(1, build.dtype), None, q)
    assert q.tolist() == [-128, 127, -128, 127]


def test_other_kinds_are_refused():
    build = ALL_BUILDS[0]
    for make, kind in ((quantize.Quantize, "int32"), (quantize.Quantize, "int3"), (quantize.Dequantize, "int64")):
        with pytest.raises(ValueError, match=f"found '{kind}'"):
            make(build, kind, 1, 1, 1)
    with pytest.raises(ValueError, match="found -1"):
        quantize.Quantize(build, "int8", 1, 1, 1, -1)
    with pytest.raises(ValueError, match="found 0"):
        quantize.BlockSums(build, 1, 1, 1, 0)
