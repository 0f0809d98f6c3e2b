"""The convolution kernels on every build and number of threads, against the float64 reference."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cconv.kernels.norm.norm as norm
from cconv.kernels import FLOAT32
from cconv.kernels.core.memory import Region
from cconv.kernels.core.step import Program
from cconv.kernels.schedule.algorithms import ROLES, candidates, implementation
from convolutions import channels_last, geometry, packed_weights, reference_passes
from harness import ALL_BUILDS, THREADS, integers, nans, run_step

GEOMETRIES = {
    "3x3": geometry(2, 3, 5, 1, (7, 7), (3, 3), pad=1),
    "first layer, ragged": geometry(2, 3, 70, 1, (17, 23), (7, 7), 2, pad=3),
    "1-d": geometry(1, 16, 16, 1, (9,), (3,), pad=1),
    "1-d long": geometry(1, 2, 3, 1, (1000,), (5,), 3, 4, 6),
    "3x3 stride 2": geometry(3, 20, 33, 1, (13, 11), (3, 3), 2, pad=1),
    "two channel blocks": geometry(2, 300, 64, 1, (5, 6), (3, 3), pad=1),
    "1x1": geometry(2, 64, 100, 1, (9, 10), (1, 1)),
    "1x1 stride 2": geometry(2, 64, 100, 1, (9, 10), (1, 1), 2),
    "1x1 stride 2, wide": geometry(1, 20, 33, 1, (3, 260), (1, 1), 2),
    "1x1 conflicting channels": geometry(1, 1100, 40, 1, (3, 3), (1, 1)),
    "1x1 conflicting channels, stride 2": geometry(3, 600, 20, 1, (5, 4), (1, 1), 2),
    "1x1 many outputs": geometry(2, 40, 530, 1, (5, 5), (1, 1)),
    "3-d one tap": geometry(3, 20, 40, 2, (4, 5, 7), (1, 1, 1), (2, 3, 2)),
    "groups": geometry(2, 12, 18, 3, (8, 9), (3, 3), (1, 2), (2, 1), (2, 1)),
    "3-d groups": geometry(1, 4, 6, 2, (5, 6, 7), (3, 2, 3), (2, 1, 2), (1, 2, 1), (1, 1, 0)),
    "3-d few channels": geometry(2, 3, 4, 1, (6, 5, 7), (3, 3, 3), pad=1),
    "1x1 map": geometry(2, 6, 7, 1, (1, 1), (3, 3), pad=1),
    "stride over kernel": geometry(2, 6, 7, 1, (7, 8), (2, 2), 3),
    "uneven pads": geometry(2, 5, 9, 1, (5, 5), (4, 4), 1, 1, (0, 1), (2, 3)),
    "wide": geometry(1, 2, 3, 1, (2, 900), (3, 3), pad=1),
    "small maps, many images": geometry(16, 40, 40, 1, (2, 2), (3, 3), pad=1),
    "one output": geometry(5, 17, 1, 1, (3, 3), (3, 3), pad=1),
    "depthwise": geometry(2, 19, 19, 19, (8, 9), (3, 3), pad=1),
    "depthwise stride 2": geometry(2, 33, 33, 33, (9, 8), (5, 5), 2, pad=2),
    "depthwise dilated": geometry(1, 16, 16, 16, (12, 13), (3, 3), (2, 3), (2, 3), (2, 1)),
    "depthwise 3-d": geometry(1, 5, 5, 5, (4, 5, 6), (2, 3, 2), (2, 1, 2), pad=1),
    "depthwise 1-d": geometry(2, 7, 7, 7, (20,), (7,), 3, 1, 3),
    "few channels, tall": geometry(2, 6, 16, 1, (40, 14), (5, 5)),
    "few channels, stride 2": geometry(2, 3, 20, 1, (37, 12), (4, 4), 2, (2, 1), pad=1),
    "many taps of few channels": geometry(1, 5, 9, 1, (9, 30), (3, 9), pad=(1, 4)),
    "few outputs": geometry(2, 3, 6, 1, (9, 28), (5, 5), pad=2),
    "few outputs, stride 2": geometry(3, 5, 2, 1, (11, 40), (3, 4), (1, 2), pad=(1, 1)),
    "one output, 3-d": geometry(1, 20, 1, 1, (3, 4, 12), (2, 3, 3), pad=1),
    "empty batch": geometry(0, 3, 4, 1, (5, 5), (3, 3)),
}


def our_passes(build, g, x, w, b, dy, threads):
    """By pass and direct algorithm that can compute it, the result; outputs are pre-filled with NaN and given back
    channels first."""
    dtype = build.dtype
    x, w, b, dy = (np.ascontiguousarray(a, dtype=dtype) for a in (channels_last(x), w, b, channels_last(dy)))
    results = {}
    for role, source, bias, shape in [("forward", x, b, dy.shape), ("input_gradient", dy, None, x.shape)]:
        for name in candidates(g, role, "direct", build):
            kernels = implementation(name)
            packed = packed_weights(build, kernels, g, role, w, threads)
            target = nans(shape, dtype)
            gather = kernels.Gather(build, g, role, bias is not None)
            assert run_step(gather, source, packed, bias, None, target, None, threads=threads) == 0
            results[role, name] = np.moveaxis(target, -1, 1)
    for name in candidates(g, "weight_gradient", "direct", build):
        step = implementation(name).WeightGradient(build, g)
        dw = nans(w.shape, dtype)
        assert run_step(step, x, dy, nans(step.partial_size, dtype), dw, threads=threads) == 0
        results["weight_gradient", name] = dw
    return results


def pairs(ours, references):
    """Each of our_passes' results, and the reference's."""
    expected = dict(zip(ROLES, references, strict=True))
    assert {role for role, _ in ours} == set(ROLES)
    return [(result, expected[role]) for (role, _), result in ours.items()]


def arrays_of(g, make):
    return (
        make((g.batch, g.channels, *g.input)),
        make((g.outputs, g.channels // g.groups, *g.kernel)),
        make((g.outputs,)),
        make((g.batch, g.outputs, *g.output)),
    )


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_exact_on_small_integers(build, name, threads):
    g = GEOMETRIES[name]
    rng = np.random.default_rng(0)
    data = arrays_of(g, lambda shape: integers(rng, shape, np.float64))
    for ours, expected in pairs(our_passes(build, g, *data, threads), reference_passes(g, *data)):
        assert np.array_equal(ours, expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
@pytest.mark.parametrize("role", ["forward", "input_gradient"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_epilogue(build, name, role):
    """Bias, residual and clamp, in this order; the target may lie on the residual."""
    g = GEOMETRIES[name]
    rng = np.random.default_rng(4)
    x, w, _, dy = arrays_of(g, lambda shape: integers(rng, shape, np.float64))
    y, dx, _ = reference_passes(g, x, w, np.zeros(g.outputs), dy)
    source, expected = (x, y) if role == "forward" else (dy, dx)
    bias = integers(rng, expected.shape[1], np.float64)
    residual = integers(rng, expected.shape, np.float64)
    expected = expected + bias.reshape(-1, 1, 1, 1) + residual
    dtype = build.dtype
    w, bias = w.astype(dtype), bias.astype(dtype)
    source, residual = (channels_last(a).astype(dtype) for a in (source, residual))
    for algorithm in candidates(g, role, "direct", build):
        kernels = implementation(algorithm)
        packed = packed_weights(build, kernels, g, role, w)
        for clamp in (None, (0.0, np.inf), (-3.0, 5.0)):
            target = residual.copy()
            step = kernels.Gather(build, g, role, True, True, clamp)
            assert run_step(step, source, packed, bias, target, target, None, threads=2) == 0
            limited = expected if clamp is None else np.clip(expected, *clamp)
            assert np.array_equal(np.moveaxis(target, -1, 1), limited), algorithm


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_statistics_epilogue(build, name, threads):
    """The epilogue finds each channel's mean and variance of the finished result, even with a mean of 1000. The result
    has the same bits as without the epilogue."""
    g = GEOMETRIES[name]
    x, w, b, dy = arrays_of(g, np.random.default_rng(6).standard_normal)
    for role, source, bias, shape in [("forward", x, 1000 + b, dy.shape), ("input_gradient", dy, None, x.shape)]:
        rows, channels = math.prod(shape) // shape[1], shape[1]
        for algorithm in candidates(g, role, "direct", build):
            kernels, dtype = implementation(algorithm), build.dtype
            plain, gather = (kernels.Gather(build, g, role, bias is not None) for _ in range(2))
            lengths = gather.add_statistics() if hasattr(gather, "add_statistics") else None
            if lengths is None:  # several gathers, or none
                assert role == "input_gradient" or algorithm == "conv_abreast" or not g.batch
                continue
            assert gather.add_statistics() is None
            packed = packed_weights(build, kernels, g, role, w.astype(dtype))
            expected, target = (nans(channels_last(np.empty(shape)).shape, dtype) for _ in range(2))
            partials = nans((len(lengths), 2, channels), np.float64)
            operands = [channels_last(source).astype(dtype), packed, None if bias is None else bias.astype(dtype), None]
            run_step(plain, *operands, expected, None, threads=threads)
            run_step(gather, *operands, target, None, partials, threads=threads)
            assert np.array_equal(target, expected)
            mean, variance, inverse = (nans(channels, dtype) for _ in range(3))
            statistics = norm.Statistics(build, rows, channels, 0.0, block_rows=lengths)
            run_step(statistics, None, partials, mean, variance, inverse, threads=threads)
            exact = target.reshape(rows, channels).astype(np.float64)
            tolerance = 1e-5 if dtype == np.float32 else 1e-13
            np.testing.assert_allclose(mean, exact.mean(0), tolerance / 10, tolerance / 10 * exact.std())
            np.testing.assert_allclose(variance, exact.var(0), tolerance, 1e-12)


# Whose input gradient has whole vectors of channels, on every build.
PASSED_BACK = {
    "1x1": geometry(2, 64, 100, 1, (9, 10), (1, 1)),
    "1x1, channels in pieces": geometry(3, 48, 32, 1, (5, 60), (1, 1)),
    "1x1, channels in blocks": geometry(1, 32, 1100, 1, (3, 6), (1, 1)),
    "1x1 stride 2": geometry(2, 32, 20, 1, (9, 10), (1, 1), 2),
    "3x3, two rows a tile": geometry(3, 32, 5, 1, (7, 7), (3, 3), pad=1),
    "3x3 stride 2": geometry(3, 16, 33, 1, (13, 11), (3, 3), 2, pad=1),
    "stride over kernel": geometry(2, 16, 7, 1, (7, 8), (2, 2), 3),
    "groups": geometry(2, 32, 6, 2, (8, 9), (3, 3), (1, 2), (2, 1), (2, 1)),
    "depthwise": geometry(2, 48, 48, 48, (8, 9), (3, 3), pad=1),
    "depthwise stride 2": geometry(2, 32, 32, 32, (9, 8), (5, 5), 2, pad=2),
    "depthwise dilated": geometry(1, 16, 16, 16, (12, 13), (3, 3), (2, 3), (2, 3), (2, 1)),
}


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
@pytest.mark.parametrize("name", PASSED_BACK)
def test_passed_back_on_the_way(build, name, threads):
    """dz has the bits, and the sums the value, that norm.ParameterGradient makes of the finished dy."""
    g, dtype = PASSED_BACK[name], build.dtype
    rng = np.random.default_rng(6)
    x, w, _, dy = arrays_of(g, rng.standard_normal)
    x, w, dy = channels_last(x).astype(dtype), w.astype(dtype), channels_last(dy).astype(dtype)
    rows, channels = math.prod(x.shape) // g.channels, g.channels
    mean, inverse, scale, bias = (rng.uniform(0.5, 1, channels).astype(dtype) for _ in range(4))
    y, residual = (rng.standard_normal(x.shape).astype(dtype) for _ in range(2))
    for algorithm in candidates(g, "input_gradient", "direct", build):
        kernels = implementation(algorithm)
        if algorithm == "conv_scatter" or (algorithm == "conv_direct" and g.groups == channels):
            continue  # these cannot
        packed = packed_weights(build, kernels, g, "input_gradient", w)
        for activation, told_from, adds in [
            *((None, None, adds) for adds in (False, True)),
            *((("relu", 0, 0), told, adds) for told in "yz" for adds in (False, True)),
            *((("clip", -0.4, 0.9), told, True) for told in "yz"),
        ]:
            terms = {"z": [inverse, scale, bias, None], "y": [None, None, None, y], None: [None] * 4}[told_from]
            gather = kernels.Gather(build, g, "input_gradient")
            if adds:
                assert gather.add_residual() == 3
            blocks = gather.add_parameter_sums(activation)
            assert blocks > 0 and gather.add_parameter_sums(activation) is None and gather.add_residual() is None
            dz, partials = nans(x.shape, dtype), nans((blocks, 2, channels), np.float64)
            operands = [dy, packed, None, residual if adds else None, dz, None, partials, x, mean, *terms]
            assert run_step(gather, *operands, threads=threads) == 0
            dscale, dbias = (nans(channels, dtype) for _ in range(2))
            step = norm.ParameterGradient(build, rows, channels, blocks=blocks)
            assert not step.reads_dy
            run_step(step, *[None] * 3, inverse, *[None] * 4, partials, dscale, dbias, threads=threads)

            finished, expected = (nans(x.shape, dtype) for _ in range(2))
            plain = kernels.Gather(build, g, "input_gradient", residual=adds)
            run_step(plain, dy, packed, None, residual if adds else None, finished, None)
            sums = [nans(channels, dtype) for _ in range(2)]
            partials = nans((norm.row_blocks_of(rows, channels), 2, channels), np.float64)
            step = norm.ParameterGradient(build, rows, channels, activation)
            assert step.reads_dy
            again = [scale, bias, None] if told_from == "z" else [None, None, y if told_from else None]
            run_step(step, finished, x, mean, inverse, *again, expected, partials, *sums)
            assert np.array_equal(dz, expected)
            tolerance = (1e-5 if dtype == np.float32 else 1e-13) * np.abs(expected).sum((0, 1, 2, 3)).max()
            np.testing.assert_allclose([dscale, dbias], sums, 0, tolerance)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
def test_passed_back_only_where_it_can_be(build):
    plain, clamped = PASSED_BACK["1x1"], {"clamp": (0.0, 1.0)}
    for g, options, activation in [
        (plain, {}, ("leaky_relu", 0.1, 0)),  # its derivative takes other values than 0 and 1
        (plain, clamped, None),
        (geometry(2, 3, 8, 1, (6, 6), (3, 3)), {}, None),  # not a whole vector of channels on any build but float64's
    ]:
        if g is plain or build.dtype == np.float32:
            gather = implementation("conv_direct").Gather(build, g, "input_gradient", **options)
            assert gather.add_parameter_sums(activation) is None
    step = implementation("conv_direct").Gather(build, plain)
    step.add_statistics()
    assert step.add_parameter_sums(None) is None and step.add_residual() is None
    assert implementation("conv_direct").Gather(build, plain, **clamped).add_residual() is None
    assert implementation("conv_direct").Gather(build, plain, residual=True).add_residual() is None


@pytest.mark.parametrize("name", GEOMETRIES)
def test_same_bits_at_any_number_of_threads(name):
    g = GEOMETRIES[name]
    data = arrays_of(g, np.random.default_rng(1).standard_normal)
    one = our_passes(FLOAT32, g, *data, threads=1)
    for threads in (2, 3, 8):
        for passed, result in our_passes(FLOAT32, g, *data, threads=threads).items():
            assert np.array_equal(one[passed], result), passed


@pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
def test_pixels_abreast_have_the_bits_of_a_gather(build):
    g = geometry(2, 20, 1, 1, (9, 30), (3, 5), (2, 1), pad=2)
    data = arrays_of(g, np.random.default_rng(5).standard_normal)
    ours = our_passes(build, g, *data, threads=2)
    assert np.array_equal(ours["forward", "conv_abreast"], ours["forward", "conv_direct"])


def test_as_many_pixels_abreast_as_save_most():
    """A vector full of them, if they divide the row; none where that saves nothing."""
    for width, (c, k, kernel, stride), pixels in [
        (28, (1, 6, 5, 1), {"avx512": 2, "avx2": 1}),
        (29, (1, 6, 5, 1), {"avx512": 1, "avx2": 1}),
        (64, (32, 1, 5, 1), {"avx512": 16, "avx2": 8}),
        (64, (64, 3, 3, 1), {"avx512": 4, "avx2": 2}),
        (60, (32, 5, 3, 1), {"avx512": 3, "avx2": 1}),
        (64, (3, 8, 7, 2), {"avx512": 2, "avx2": 1}),
        (64, (64, 3, 1, 1), {"avx512": 1, "avx2": 1}),
        (64, (64, 17, 3, 1), {"avx512": 1, "avx2": 1}),
    ]:
        g = geometry(2, c, k, 1, (8, width * stride), (kernel, kernel), stride, pad=kernel // 2)
        for build in ALL_BUILDS:
            found = implementation("conv_abreast").pixels_abreast(build, g)
            assert found == pixels.get(build.name, found), (build, g)
            assert implementation("conv_abreast").supports(build, g) == (found > 1)


def test_a_program_has_the_threads_that_a_step_within_a_step_can_use():
    """What conv_abreast itself does is nothing to wake a thread for, the longer convolution within it is."""
    for build in ALL_BUILDS:
        for size, threads in [(64, 3), (4, 1)]:
            g = geometry(2, 16, 1, 1, (size, 16), (5, 5), pad=2)
            step = implementation("conv_abreast").Gather(build, g)
            step.bind([0] * step.operands, 0, 3)
            assert Program([step]).threads == 3  # not weighed
            step.weigh(0)
            assert Program([step]).threads == threads, (build.name, size)


def test_a_program_whose_data_stay_in_one_cache_has_threads_for_its_arithmetic_alone():
    channels = {"avx512": 64, "avx2": 32, "generic": 16, "float64": 8}  # 10 us of arithmetic for each
    for build in ALL_BUILDS:
        g = geometry(2, channels[build.name], 64, 1, (9, 9), (1, 1))
        step = implementation("conv_direct").Gather(build, g)
        step.bind([0] * step.operands, 0, 3)
        few, many, small, large = 10_000, 2_000_000, 1 << 20, 1 << 30
        cases = [(few, small, 3), (many, small, 1), (few, large, 3), (many, large, 3), (large, 0, 3)]
        for operand_bytes, plan_bytes, threads in cases:
            step.weigh(operand_bytes, plan_bytes)
            assert Program([step]).threads == threads, (build.name, operand_bytes, plan_bytes)


@pytest.mark.parametrize("name", ["3x3", "two channel blocks", "1x1 conflicting channels", "depthwise"])
def test_rounding_error(name):
    """Float32 sums of n terms in some fixed order: the rms error stays near eps * sqrt(n) / 2."""
    g = GEOMETRIES[name]
    data = arrays_of(g, np.random.default_rng(2).standard_normal)
    data = tuple(array.astype(np.float32).astype(np.float64) for array in data)
    for ours, expected in pairs(our_passes(FLOAT32, g, *data, threads=2), reference_passes(g, *data)):
        rms = np.sqrt(np.mean((ours - expected) ** 2) / np.mean(expected**2))
        assert rms < 2e-6


axes = st.integers(1, 3)


@st.composite
def geometries(draw):
    rank = draw(axes)

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    c, k = (groups * draw(st.integers(1, n)) for n in (20, 40))
    if draw(st.booleans()) and draw(st.booleans()):
        groups = k = c
    kernel, dilation, stride = each(1, 4), each(1, 3), each(1, 4)
    pad = each(0, 4)
    pad_end = each(0, 4)
    most = {1: 40, 2: 12, 3: 6}[rank]
    sizes = tuple(
        max(n, d * (m - 1) + 1 - p - q, 1) for n, d, m, p, q in zip(each(1, most), dilation, kernel, pad, pad_end)
    )
    return geometry(draw(st.integers(1, 3)), c, k, groups, sizes, kernel, stride, dilation, pad, pad_end)


@given(geometries(), st.sampled_from(ALL_BUILDS), st.sampled_from(THREADS), st.integers(0, 2**32 - 1))
def test_any_geometry(g, build, threads, seed):
    rng = np.random.default_rng(seed)
    data = arrays_of(g, lambda shape: integers(rng, shape, np.float64, -2, 3))
    for ours, expected in pairs(our_passes(build, g, *data, threads), reference_passes(g, *data)):
        assert np.array_equal(ours, expected)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_nothing_is_written_around_the_output(name):
    """Guard elements before and after each output keep their value."""
    g = GEOMETRIES[name]
    x, w, _, dy = (
        np.ascontiguousarray(a, dtype=np.float32) for a in arrays_of(g, np.random.default_rng(3).standard_normal)
    )
    x, dy = channels_last(x), channels_last(dy)
    guard = 64

    def guarded(size):
        return np.full(size + 2 * guard, 12345.0, np.float32)

    def inside(array):
        return array.ctypes.data + guard * 4

    passes = [
        (role, source, size, name)
        for role, source, size in [("forward", x, dy.size), ("input_gradient", dy, x.size)]
        for name in candidates(g, role, "direct")
    ]
    for role, source, size, name in passes:
        kernels = implementation(name)
        packed = guarded(kernels.packed_size(FLOAT32, g, role))
        target = guarded(size)
        pack, gather = kernels.Pack(FLOAT32, g, role), kernels.Gather(FLOAT32, g, role)
        scratch = Region(2 * max(pack.scratch_bytes, gather.scratch_bytes))
        run_bound(pack, [w.ctypes.data, inside(packed)], scratch)
        run_bound(gather, [source.ctypes.data, inside(packed), 0, 0, inside(target), 0], scratch)
        for array in (packed, target):
            assert np.all(array[:guard] == 12345.0)
            assert np.all(array[-guard:] == 12345.0)
    for name in candidates(g, "weight_gradient", "direct"):
        step = implementation(name).WeightGradient(FLOAT32, g)
        partial, dw = guarded(step.partial_size), guarded(w.size)
        run_bound(step, [x.ctypes.data, dy.ctypes.data, inside(partial), inside(dw)], Region(2 * step.scratch_bytes))
        for array in (partial, dw):
            assert np.all(array[:guard] == 12345.0)
            assert np.all(array[-guard:] == 12345.0)


def run_bound(step, addresses, scratch):
    from cconv.kernels.core.step import Program

    step.bind(addresses, scratch.address, 2)
    assert Program([step]).run() == (1, 0)


def test_geometry_is_checked():
    with pytest.raises(ValueError, match="groups 2 must divide"):
        geometry(1, 3, 4, 2, (5, 5), (3, 3))
    with pytest.raises(ValueError, match="out of range"):
        geometry(1, 3, 3, 1, (5, 5), (3, 3), stride=0 or -1)
    with pytest.raises(ValueError, match="not a depthwise"):
        implementation("conv_depthwise").Gather(FLOAT32, GEOMETRIES["3x3"])
    with pytest.raises(ValueError, match="conv_scatter: not for the forward"):
        implementation("conv_scatter").Gather(FLOAT32, GEOMETRIES["3x3"], "forward")
    with pytest.raises(ValueError, match="conv_abreast: not for the input_gradient"):
        implementation("conv_abreast").Pack(FLOAT32, GEOMETRIES["few outputs"], "input_gradient")
    with pytest.raises(ValueError, match="conv_abreast: not for the weight_gradient"):
        implementation("conv_abreast").WeightGradient(FLOAT32, GEOMETRIES["3x3 stride 2"])
    with pytest.raises(ValueError, match="conv_scatter: not for the input_gradient"):
        implementation("conv_scatter").Pack(FLOAT32, GEOMETRIES["3-d groups"], "input_gradient")
