"""ArgMax and ArgMin against NumPy."""

import numpy as np
import pytest

from cconv.kernels.reduce.scan import ArgExtreme
from harness import ALL_BUILDS, THREADS, run_step


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (5, 7, 1), (3, 4, 5), (2, 1, 300), (1, 9, 1000), (3000, 21, 1), (0, 3, 2)]
)
@pytest.mark.parametrize("nan", [False, True])
def test_arg_extreme(build, shape, smallest, last, nan):
    """Few different numbers, so that many are equal; with NaN among them, NaN is the extreme."""
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, shape).astype(build.dtype)
    if nan:
        x[rng.random(shape) < 0.1] = np.nan
    order = x[:, ::-1] if last else x
    expected = np.argmin(order, axis=1) if smallest else np.argmax(order, axis=1)
    expected = shape[1] - 1 - expected if last else expected
    for threads in THREADS:
        y = np.full((shape[0], shape[2]), -7, np.int64)
        run_step(ArgExtreme(build, *shape, smallest, last), x, y, threads=threads)
        assert np.array_equal(y, expected)


def test_an_empty_axis_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        ArgExtreme(ALL_BUILDS[0], 3, 0, 2)
