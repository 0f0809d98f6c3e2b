"""Pad and its gradient against tables applied with NumPy."""

import numpy as np
import pytest

from cconv.kernels.move.pad import Pad, PadGradient
from harness import ALL_BUILDS, THREADS, integers, nans, run_step

# Sizes in the order of memory; a table for each axis: places of the source, -1 for the constant.
CASES = {
    "constant": ((3, 5), ([-1, 0, 1, 2], [-1, -1, 0, 1, 2, 3, 4, -1])),
    "cropped": ((4, 40), ([1, 2], list(range(3, 37)))),
    "mirrored": ((3, 20), ([2, 1, 0, 1, 2, 1], [3, 2, 1, *range(20), 18, 17])),
    "repeated": ((2, 3, 4), ([0, 0, 0, 1, 1], [0, 1, 2, 2, 2, 2], [0, 0, 1, 2, 3, 3])),
    "wrapped": ((7,), ([5, 6, *range(7), 0, 1, 2],)),
    "scattered": ((6, 6), ([5, 0, 0, -1, 2], [3, -1, 3, 0, 5])),
    "nothing but the constant": ((2, 3), ([-1, 0], [-1, -1, -1, -1])),
    "empty source": ((0, 3), ([-1, -1], [0, 1, 2])),
    "empty target": ((2, 3), ([], [0, 1, 2])),
    "many rows": ((300, 2, 130), ([-1, *range(300), 299], [1, 0, 1], [*range(130), 0, -1])),
}


def gathered(x, tables, value):
    places = np.ix_(*[np.array(table, dtype=int) for table in tables])
    shown = np.ones([len(table) for table in tables], bool)
    for place in places:
        shown = shown & (place >= 0)
    picked = x[tuple(np.maximum(place, 0) for place in places)] if x.size else value
    return np.where(shown, picked, value)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_pad(build, name, dtype):
    sizes, tables = CASES[name]
    x = np.random.default_rng(0).integers(0, 100, sizes).astype(dtype)
    for threads in THREADS:
        y = np.full([len(table) for table in tables], 255, dtype)
        run_step(Pad(build, sizes, tables, np.asarray(117, dtype).tobytes()), x, y, threads=threads)
        assert np.array_equal(y, gathered(x, tables, 117))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_gradient(build, name):
    sizes, tables = CASES[name]
    rng = np.random.default_rng(0)
    dy = integers(rng, [len(table) for table in tables], build.dtype)
    expected = np.zeros(sizes)
    for place in np.ndindex(*dy.shape):
        shown = tuple(table[i] for table, i in zip(tables, place))
        if min(shown) >= 0:
            expected[shown] += dy[place]
    for threads in THREADS:
        dx = nans(sizes, build.dtype)
        run_step(PadGradient(build, sizes, tables), dy, dx, threads=threads)
        assert np.array_equal(dx, expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_gradient_bits_at_any_number_of_threads(build):
    sizes, tables = CASES["many rows"]
    dy = np.random.default_rng(1).standard_normal([len(table) for table in tables]).astype(build.dtype)
    found = []
    for threads in THREADS:
        found.append(nans(sizes, build.dtype))
        run_step(PadGradient(build, sizes, tables), dy, found[-1], threads=threads)
    assert all(np.array_equal(found[0], other) for other in found)


def test_tables_out_of_range_are_refused():
    build = ALL_BUILDS[0]
    with pytest.raises(ValueError, match="places of an axis of 3"):
        Pad(build, (3,), ([0, 3],), b"\0\0\0\0")
    with pytest.raises(ValueError, match="1 to 8 axes"):
        PadGradient(build, (), ())
    with pytest.raises(ValueError, match="bytes"):
        Pad(build, (3,), ([0, 1],), b"\0\0\0")
