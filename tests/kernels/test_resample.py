"""Resampling by tables against dense matrices in float64."""

import numpy as np
import pytest

from cconv.kernels.move.resample import Resample
from cconv.ops.resize import table_of
from harness import ALL_BUILDS, THREADS, nans, run_step


def random_table(rng, places, source, taps):
    """Each place with `taps` random places of the source; some twice, and a place or two without any."""
    weight = rng.standard_normal((places, taps))
    weight[: places // 5] = 0
    return table_of(rng.integers(0, source, (places, taps)), weight, source)


def single_table(rng, places, source):
    return table_of(rng.integers(0, source, (places, 1)), np.ones((places, 1)), source)


def matrix(table):
    result = np.zeros((table.size, table.source))
    for i in range(table.size):
        for k in range(table.bounds[i], table.bounds[i + 1]):
            result[i, table.index[k]] += table.weight[k]
    return result


CASES = [
    # outer, (rows, places, taps), (columns, places, taps), inner; no taps: the nearest; None: as it is
    (1, (5, 7, 2), None, 1),
    (3, (5, 7, 2), None, 37),
    (1, (4, 9, 4), (6, 5, 2), 1),
    (2, (4, 9, 2), (6, 12, 2), 3),
    (2, (4, 8, 0), (6, 12, 0), 19),
    (2, (4, 8, 0), (6, 12, 2), 64),
    (3, None, (6, 3, 7), 33),
    (1, (40, 300, 2), (30, 50, 3), 17),
    (2, (3, 0, 2), (3, 4, 2), 5),
    (2, None, None, 7),
]


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_resample(build, case):
    outer, *axes, inner = case
    rng = np.random.default_rng(0)
    tables = [
        None
        if axis is None
        else random_table(rng, *axis[1::-1], axis[2])
        if axis[2]
        else single_table(rng, *axis[1::-1])
        for axis in axes
    ]
    sizes = [5 if table is None else table.source for table in tables]
    x = rng.standard_normal((outer, *sizes, inner)).astype(build.dtype)
    expected = x.astype(float)
    scale = np.abs(expected)
    for axis, table in enumerate(tables, 1):
        if table is not None:
            expected = np.moveaxis(np.tensordot(matrix(table), expected, (1, axis)), 0, axis)
            scale = np.moveaxis(np.tensordot(np.abs(matrix(table)), scale, (1, axis)), 0, axis)
    arrays = [None if table is None else table.arrays for table in tables]
    step = Resample(build, outer, sizes[0], arrays[0], sizes[1], arrays[1], inner)
    found = []
    for threads in THREADS:
        found.append(nans(expected.shape, build.dtype))
        run_step(step, x, found[-1], threads=threads)
        # Each of at most 7 taps per axis is rounded a few times.
        assert np.all(np.abs(found[-1] - expected) <= 10 * np.finfo(build.dtype).eps * scale)
        assert np.array_equal(found[-1], found[0])


def test_a_table_turned_round_is_the_matrix_transposed():
    table = random_table(np.random.default_rng(1), 9, 5, 3)
    assert np.array_equal(matrix(table.transposed), matrix(table).T)


def test_taps_that_meet_are_one_and_those_beyond_the_edge_are_the_edge():
    table = table_of(np.array([[-2, 0, 1], [4, 5, 9]]), np.array([[1.0, 2, 0], [1, 1, 1]]), 5)
    assert (table.bounds.tolist(), table.index.tolist(), table.weight.tolist()) == ([0, 1, 2], [0, 4], [3, 3])


def test_tables_that_contradict_themselves_are_refused():
    build = ALL_BUILDS[0]
    with pytest.raises(ValueError, match="places of an axis of 3"):
        Resample(build, 1, 3, ([0, 1], [3], [1.0]), 1, None, 1)
    for bounds in ([0, 2], [1, 1], [], [0, 1, 0, 1]):
        with pytest.raises(ValueError, match="bounds grow"):
            Resample(build, 1, 3, (bounds, [0], [1.0]), 1, None, 1)
