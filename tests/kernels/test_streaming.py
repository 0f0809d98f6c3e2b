"""Results too large for the caches are stored past them (simd.h): to the same bits as small ones, which are not."""

import dataclasses

import numpy as np
import pytest

import cconv.kernels.norm.norm as norm
from cconv.kernels.schedule.algorithms import implementation
from convolutions import geometry, packed_weights
from harness import ALL_BUILDS, nans, run_step

BY_BUILD = pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
LARGE = 16 << 20  # STREAM_BYTES

# module, geometry of a batch: outputs of 16 MiB in float32, 64 bytes to a pixel at the least
GATHERS = {
    "one tap": ("conv_direct", geometry(4, 16, 64, 1, (128, 130), (1, 1))),
    "three taps": ("conv_direct", geometry(4, 4, 64, 1, (128, 130), (3, 3), pad=1)),
    "ragged": ("conv_direct", geometry(4, 4, 72, 1, (128, 130), (3, 3), pad=1)),
    "strided": ("conv_direct", geometry(4, 4, 64, 1, (256, 260), (3, 3), stride=2, pad=1)),
    "depthwise": ("conv_depthwise", geometry(4, 64, 64, 64, (128, 130), (3, 3), pad=1)),
    "Winograd": ("conv_winograd", geometry(4, 16, 64, 1, (128, 130), (3, 3), pad=1)),
}


def shifted(array, elements):
    """A copy whose memory starts so many elements behind a multiple of 64 bytes."""
    room = np.empty(array.size + 64, array.dtype)
    begin = -room.ctypes.data % 64 // room.itemsize + elements
    result = room[begin : begin + array.size].reshape(array.shape)
    result[...] = array
    return result


@pytest.mark.parametrize("off", [0, 1], ids=["aligned", "not aligned"])
@pytest.mark.parametrize("name", GATHERS)
@BY_BUILD
def test_convolutions(build, name, off):
    module, whole = GATHERS[name]
    kernels, dtype = implementation(module), build.dtype
    rng = np.random.default_rng(0)
    x = rng.standard_normal((whole.batch, *whole.input, whole.channels)).astype(dtype)
    w = rng.standard_normal((whole.outputs, whole.channels // whole.groups, *whole.kernel)).astype(dtype)
    bias = rng.standard_normal(whole.outputs).astype(dtype)
    residual = rng.standard_normal((whole.batch, *whole.output, whole.outputs)).astype(dtype)
    packed = packed_weights(build, kernels, whole, "forward", w)

    def run(g, x, residual):
        step = kernels.Gather(build, g, "forward", True, True, (-1.0, 1.0))
        workspace = nans(step.workspace, dtype) if step.workspace else None
        target = shifted(nans(residual.shape, dtype), off)
        assert run_step(step, x, packed, bias, residual, target, workspace, threads=2) == 0
        return target

    found = run(whole, x, residual)
    assert found.nbytes >= LARGE
    one = dataclasses.replace(whole, batch=1)
    for n in range(whole.batch):
        assert np.array_equal(found[n : n + 1], run(one, x[n : n + 1], residual[n : n + 1]))


PASSED_BACK = {
    "one tap": ("conv_direct", geometry(4, 64, 16, 1, (128, 130), (1, 1))),
    "depthwise": ("conv_depthwise", geometry(4, 64, 64, 64, (128, 130), (3, 3), pad=1)),
}


@pytest.mark.parametrize("off", [0, 1], ids=["aligned", "not aligned"])
@pytest.mark.parametrize("name", PASSED_BACK)
@BY_BUILD
def test_gradients_passed_back(build, name, off):
    module, whole = PASSED_BACK[name]
    kernels, dtype = implementation(module), build.dtype
    rng = np.random.default_rng(0)
    dy = rng.standard_normal((whole.batch, *whole.output, whole.outputs)).astype(dtype)
    w = rng.standard_normal((whole.outputs, whole.channels // whole.groups, *whole.kernel)).astype(dtype)
    x, y, residual = (rng.standard_normal((whole.batch, *whole.input, whole.channels)).astype(dtype) for _ in range(3))
    mean = rng.standard_normal(whole.channels).astype(dtype)
    packed = packed_weights(build, kernels, whole, "input_gradient", w)

    def run(g, dy, x, y, residual):
        step = kernels.Gather(build, g, "input_gradient")
        step.add_residual()
        partials = nans((step.add_parameter_sums(("relu", 0, 0)), 2, g.channels), np.float64)
        target, x, y, residual = (shifted(a, off) for a in (nans(x.shape, dtype), x, y, residual))
        operands = [dy, packed, None, residual, target, None, partials, x, mean, None, None, None, y]
        assert run_step(step, *operands, threads=2) == 0
        return target

    found = run(whole, dy, x, y, residual)
    assert found.nbytes >= LARGE
    one = dataclasses.replace(whole, batch=1)
    for n in range(whole.batch):
        part = slice(n, n + 1)
        assert np.array_equal(found[part], run(one, dy[part], x[part], y[part], residual[part]))


@pytest.mark.parametrize("off", [0, 1], ids=["aligned", "not aligned"])
@pytest.mark.parametrize("channels", [64, 72, 1024])
@BY_BUILD
def test_normalisation(build, channels, off):
    rows, dtype = LARGE // 4 // channels + 5, build.dtype
    rng = np.random.default_rng(0)
    x, residual, dy = (rng.standard_normal((rows, channels)).astype(dtype) for _ in range(3))
    mean, inverse, scale, bias = (rng.uniform(0.5, 1, channels).astype(dtype) for _ in range(4))

    def run(begin, end):
        part = slice(begin, end)
        relu, size = ("relu", 0, 0), end - begin
        y, dx = (shifted(nans((size, channels), dtype), off) for _ in range(2))
        step = norm.Normalize(build, size, channels, relu)
        run_step(step, x[part], mean, inverse, scale, bias, residual[part], y, threads=2)
        # Neutral sums: what is added of them depends on the number of rows.
        none = np.zeros(channels, dtype)
        step = norm.InputGradient(build, size, channels, relu)
        run_step(step, dy[part], x[part], mean, inverse, scale, bias, none, none, dx, threads=2)
        return y, dx

    whole = run(0, rows)
    assert whole[0].nbytes >= LARGE
    half = rows // 2
    for found, *parts in zip(whole, run(0, half), run(half, rows)):
        assert np.array_equal(found, np.concatenate(parts))
