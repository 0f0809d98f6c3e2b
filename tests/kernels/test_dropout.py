"""Philox against its published vectors, and the Dropout step."""

import numpy as np
import pytest

import cconv.kernels.elementwise.dropout as dropout
from cconv.kernels.core.control import CONTROL
from harness import ALL_BUILDS, THREADS, nans, run_step

# Random123's kat_vectors, philox4x32-10: counter, key, expected.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def control(seed=1, step=0):
    record = np.zeros(1, CONTROL)
    record["seed"], record["step"] = seed, step
    return record


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("counter, key, expected", KNOWN)
@pytest.mark.parametrize("lane", [0, 5, 15])
def test_philox_known_answers(build, counter, key, expected, lane):
    """In any of the 16 counters that are computed side by side."""
    block = (counter[0] + (counter[1] << 32) - lane) % 2**64
    words = dropout.philox_words(build, block, counter[2], counter[3], key[0] + (key[1] << 32))
    assert tuple(words[:, lane]) == expected


def drop(build, x, ratio, node=3, threads=1, mask=True, **keys):
    y = nans(x.shape, build.dtype)
    kept = np.full(x.shape, 7, np.uint8) if mask else None
    run_step(dropout.Dropout(build, x.size, ratio, node), x, control(**keys), y, kept, threads=threads)
    return y, kept


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("size", [0, 1, 63, 64, 100, 16384, 50001])
@pytest.mark.parametrize("ratio", [0, 0.25, 0.9])
def test_kept_elements_are_scaled_and_the_others_zero(build, size, ratio):
    x = np.random.default_rng(0).uniform(1, 2, size).astype(build.dtype)
    y, mask = drop(build, x, ratio)
    assert np.all((mask == 0) | (mask == 1))
    assert np.array_equal(y, np.where(mask, x * build.dtype.type(1 / (1 - ratio)), 0))
    # The number dropped is binomial: five standard deviations, missed once in two million.
    assert abs(np.sum(mask == 0) - ratio * size) <= 5 * np.sqrt(size * ratio * (1 - ratio))
    for threads in THREADS:
        again, _ = drop(build, x, ratio, threads=threads, mask=False)
        assert np.array_equal(again, y)


def test_every_build_drops_the_same_elements():
    masks = [drop(build, np.ones(5000, build.dtype), 0.5)[1] for build in ALL_BUILDS]
    assert all(np.array_equal(masks[0], other) for other in masks)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_the_choice_depends_on_seed_step_and_node(build):
    x = np.ones(10000, build.dtype)
    _, mask = drop(build, x, 0.5, node=3, seed=1, step=0)
    for change in ({"seed": 2}, {"seed": 1 + (1 << 32)}, {"step": 1}, {"node": 4}):
        _, other = drop(build, x, 0.5, **{"node": 3, "seed": 1, "step": 0, **change})
        # Independent masks agree on half of the elements; five standard deviations are 250.
        assert abs(np.sum(mask == other) - 5000) <= 250


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_dropped_infinities_and_nan_are_zero(build):
    x = np.where(np.arange(1000) % 2, np.inf, np.nan).astype(build.dtype)
    y, mask = drop(build, x, 0.5)
    assert np.all(y[mask == 0] == 0)
    assert np.array_equal(y[mask == 1], x[mask == 1], equal_nan=True)


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, float("nan")])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(ValueError, match="0 <= ratio < 1"):
        dropout.Dropout(ALL_BUILDS[0], 5, ratio, 0)
