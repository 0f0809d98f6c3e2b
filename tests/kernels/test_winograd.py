"""Winograd's algorithm on every build: against the float64 reference, within its error bound, equal bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cconv.kernels import FLOAT32
from cconv.kernels.schedule.algorithms import implementation
from convolutions import channels_last, geometry, packed_weights, reference_passes
from harness import ALL_BUILDS, THREADS, nans, run_step

# Every walk; outputs that do not fill their tiles; outputs of one vector in the last block.
GEOMETRIES = {
    "by tiles": geometry(9, 32, 48, 1, (15, 14), (3, 3), pad=1),
    "by tiles, several groups of outputs": geometry(3, 32, 160, 1, (28, 28), (3, 3), pad=1),
    "by planes": geometry(9, 160, 176, 1, (17, 15), (3, 3), pad=1),
    "by planes, several blocks": geometry(3, 80, 96, 1, (52, 50), (3, 3), pad=1),
    "by planes, few tiles": geometry(3, 160, 96, 1, (7, 7), (3, 3), pad=1),
    "by planes, many channels": geometry(1, 512, 64, 1, (24, 24), (3, 3), pad=1),
    "by outputs": geometry(2, 416, 432, 1, (7, 6), (3, 3), pad=1),
    "by outputs, many tiles": geometry(29, 288, 304, 1, (8, 8), (3, 3), pad=1),
    "one tile an image": geometry(9, 64, 80, 1, (4, 4), (3, 3), pad=1),
    "uneven pads": geometry(2, 32, 32, 1, (9, 11), (3, 3), pad=(0, 2), pad_end=(1, 0)),
    "no pads": geometry(2, 48, 32, 1, (8, 9), (3, 3)),
    "few channels": geometry(3, 16, 16, 1, (14, 14), (3, 3), pad=1),
    "wide pads": geometry(1, 32, 32, 1, (6, 6), (3, 3), pad=3),
}
ROLES = ("forward", "input_gradient")


def passes(build, kind, g, x, w, dy, threads=1, bias=None, residual=None, clamp=None):
    """Forward, input gradient and weight gradient by one algorithm, channels first."""
    kernels, dtype = implementation(kind), build.dtype
    results = []
    for role, source, target in ((ROLES[0], x, dy), (ROLES[1], dy, x)):
        step = kernels.Gather(build, g, role, bias is not None, residual is not None, clamp)
        packed = packed_weights(build, kernels, g, role, w.astype(dtype), threads)
        out = nans(channels_last(target).shape, dtype)
        workspace = nans(step.workspace, dtype)
        operands = [channels_last(source).astype(dtype), packed, bias, residual, out, workspace]
        assert run_step(step, *operands, threads=threads) == 0
        results.append(np.moveaxis(out, -1, 1))
    weight = "conv_weight" if kind == "conv_direct" else "conv_winograd_weight"
    step = implementation(weight).WeightGradient(build, g)
    dw = nans(w.shape, dtype)
    x, dy = channels_last(x).astype(dtype), channels_last(dy).astype(dtype)
    assert run_step(step, x, dy, nans(step.partial_size, dtype), dw, threads=threads) == 0
    return [*results, dw]


def data(g, mean=0.0, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (g.batch, g.channels, *g.input), (g.outputs, g.channels, *g.kernel), (g.batch, g.outputs, *g.output)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32).astype(np.float64) for shape in shapes)
    return x + mean, w, dy + mean


def rms(a):
    return np.sqrt(np.mean(np.square(a, dtype=np.float64)))


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_equals_the_reference(build, name, threads):
    """Rms error 1e-5 of the result's rms: a wrong tap or border would be off by 0.1."""
    g = GEOMETRIES[name]
    x, w, dy = data(g)
    expected = reference_passes(g, x, w, np.zeros(g.outputs), dy)
    for ours, exact in zip(passes(build, "conv_winograd", g, x, w, dy, threads), expected):
        assert rms(ours - exact) < (1e-5 if build.dtype == np.float32 else 1e-13) * rms(exact)


@st.composite
def geometries(draw):
    """Few tiles and many, of few channels and many: every walk and where one ends and the next begins."""
    channels, outputs = (16 * draw(st.integers(1, 36)) for _ in range(2))
    sizes = draw(st.integers(3, 18)), draw(st.integers(3, 18))
    batch = min(draw(st.integers(1, 48)), max(1, 200_000_000 // (channels * outputs * sizes[0] * sizes[1])))
    return geometry(batch, channels, outputs, 1, sizes, (3, 3), pad=1)


@given(geometries(), st.sampled_from(ALL_BUILDS), st.sampled_from(THREADS))
def test_any_geometry_equals_the_direct_algorithm(g, build, threads):
    x, w, dy = data(g)
    fast = passes(build, "conv_winograd", g, x, w, dy, threads)
    for ours, direct in zip(fast, passes(build, "conv_direct", g, x, w, dy, threads)):
        assert rms(ours - direct) < (1e-5 if build.dtype == np.float32 else 1e-13) * rms(direct)


@pytest.mark.parametrize("mean", [0.0, 10.0])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_error_stays_within_a_multiple_of_the_direct_one(name, mean):
    """The promise of precision="fast": 5 times, weight gradients 10 times, also where a large mean makes the
    transforms cancel. (A direct weight gradient sums blocks from zero and errs less than a plain sum.)"""
    g = GEOMETRIES[name]
    x, w, dy = data(g, mean)
    expected = reference_passes(g, x, w, np.zeros(g.outputs), dy)
    fast = passes(FLOAT32, "conv_winograd", g, x, w, dy)
    direct = passes(FLOAT32, "conv_direct", g, x, w, dy)
    for a, b, exact, most in zip(fast, direct, expected, (5, 5, 10)):
        assert rms(a - exact) <= most * max(rms(b - exact), 1e-7 * rms(exact))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_same_bits_at_any_number_of_threads(name):
    g = GEOMETRIES[name]
    one = passes(FLOAT32, "conv_winograd", g, *data(g))
    for threads in (2, 3, 8):
        for a, b in zip(one, passes(FLOAT32, "conv_winograd", g, *data(g), threads)):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_epilogue(build, name):
    """Bias, residual on the target's memory, clamp: as on the plain result."""
    g = GEOMETRIES[name]
    x, w, dy = data(g)
    plain = passes(build, "conv_winograd", g, x, w, dy)[0]
    kernels, dtype = implementation("conv_winograd"), build.dtype
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(g.outputs).astype(dtype)
    residual = rng.standard_normal(channels_last(plain).shape).astype(dtype)
    expected = np.clip(channels_last(plain) + bias + residual, -0.5, 0.5)
    packed = packed_weights(build, kernels, g, "forward", w.astype(dtype))
    step = kernels.Gather(build, g, "forward", True, True, (-0.5, 0.5))
    operands = [channels_last(x).astype(dtype), packed, bias, residual, residual, nans(step.workspace, dtype)]
    assert run_step(step, *operands, threads=2) == 0
    assert np.abs(residual - expected).max() < 1e-6 * rms(plain) * 10


def test_other_geometries_are_refused():
    for other in (
        geometry(1, 32, 32, 1, (9, 9), (3, 3), stride=2, pad=1),
        geometry(1, 32, 32, 1, (9, 9), (3, 3), dilation=2, pad=2),
        geometry(1, 32, 32, 1, (9, 9), (5, 5), pad=2),
        geometry(1, 33, 32, 1, (9, 9), (3, 3), pad=1),
        geometry(1, 64, 64, 2, (9, 9), (3, 3), pad=1),
    ):
        for make in (implementation("conv_winograd").Gather, implementation("conv_winograd_weight").WeightGradient):
            with pytest.raises(ValueError, match="not for this geometry"):
                make(FLOAT32, other)
