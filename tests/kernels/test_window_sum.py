"""Sums over a sliding window against NumPy."""

import numpy as np
import pytest

from cconv.kernels.reduce.scan import WindowSum
from harness import ALL_BUILDS, THREADS, integers, nans, run_step


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 1), (2, 5, 9), (300, 33, 1), (4, 3, 3000), (0, 3, 2)])
@pytest.mark.parametrize("before, after", [(0, 0), (2, 2), (1, 2), (0, 4), (40, 40)])
def test_window_sum(build, shape, before, after):
    x = integers(np.random.default_rng(0), shape, build.dtype)
    padded = np.pad(x, ((0, 0), (before, after), (0, 0)))
    expected = sum(padded[:, k : k + shape[1]] for k in range(before + after + 1))
    for threads in THREADS:
        y = nans(shape, build.dtype)
        run_step(WindowSum(build, *shape, before, after), x, y, threads=threads)
        assert np.array_equal(y, expected)


def test_a_negative_extent_is_refused():
    with pytest.raises(ValueError, match="no negative extent; found -1 and 2"):
        WindowSum(ALL_BUILDS[0], 1, 2, 3, -1, 2)
