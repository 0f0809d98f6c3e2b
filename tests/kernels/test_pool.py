"""Pooling against a float64 reference from the definition: tap k of window o lies at o * s + k * d - p."""

import itertools

import numpy as np
import pytest

import cconv.kernels.pool.pool as pool
from harness import ALL_BUILDS, FLOAT64, THREADS, integers, nans, run_step

# images, channels, sizes, windows, kernel, stride, dilation, pads before, pads after
GEOMETRIES = [
    (2, 3, (9,), (9,), (3,), (1,), (1,), (1,), (1,)),
    (1, 1, (5,), (2,), (2,), (3,), (1,), (0,), (0,)),
    (2, 16, (8, 7), (4, 3), (2, 2), (2, 2), (1, 1), (0, 0), (0, 0)),
    (3, 70, (40, 33), (20, 17), (3, 3), (2, 2), (1, 1), (1, 1), (0, 1)),
    (2, 33, (6, 7), (3, 3), (3, 3), (2, 3), (1, 1), (0, 1), (2, 1)),
    (1, 5, (9, 10), (4, 5), (2, 3), (2, 2), (3, 2), (1, 1), (0, 2)),
    (2, 17, (7, 6, 8), (3, 5, 2), (2, 2, 2), (2, 1, 2), (2, 1, 4), (0, 0, 0), (0, 0, 0)),
    (1, 4, (5, 6, 4), (4, 3, 3), (2, 3, 2), (1, 2, 2), (1, 1, 1), (0, 1, 1), (0, 1, 1)),
    (1, 3, (2,), (1,), (2,), (1,), (3,), (1,), (1,)),  # no tap inside
    (1, 3, (7,), (4,), (2,), (3,), (6,), (2,), (9,)),  # stride and dilation share a factor
    (2, 40, (1300,), (1,), (1300,), (1,), (1,), (0,), (0,)),
    (0, 3, (4,), (2,), (2,), (2,), (1,), (0,), (0,)),
]
PAIRS = [(build, geometry) for build in ALL_BUILDS for geometry in GEOMETRIES]
EACH = pytest.mark.parametrize("build, geometry", PAIRS, ids=str)


def windows_of(geometry):
    """Each window's place and the positions of its taps that lie in the image, in row-major order."""
    _, _, sizes, windows, kernel, stride, dilation, begin, _ = geometry
    for window in itertools.product(*map(range, windows)):
        taps = []
        for tap in itertools.product(*map(range, kernel)):
            at = tuple(o * s + k * d - p for o, s, k, d, p in zip(window, stride, tap, dilation, begin))
            if all(0 <= i < n for i, n in zip(at, sizes)):
                taps.append(at)
        yield window, taps


def divisor_of(geometry, window, taps, include_pad) -> int:
    if not include_pad:
        return max(1, len(taps))
    _, _, sizes, _, kernel, stride, dilation, begin, end = geometry
    padded = 1
    for n, o, k, s, d, p, q in zip(sizes, window, kernel, stride, dilation, begin, end):
        padded *= sum(o * s + i * d < n + p + q for i in range(k))
    return max(1, padded)


def arrays(build, geometry, fill):
    """x and an array of the output's shape, filled by fill(rng, shape)."""
    images, channels, sizes, windows, *_ = geometry
    rng = np.random.default_rng(0)
    shapes = (images, *sizes, channels), (images, *windows, channels)
    return [fill(rng, shape).astype(build.dtype) for shape in shapes]


def whole(rng, shape):
    return integers(rng, shape, float)


def normal(rng, shape):
    return rng.standard_normal(shape)


class Fenced:
    """An array between two stretches of NaN: what is read out of bounds shows in the result, what is written
    there shows here."""

    def __init__(self, array):
        self.room = nans(array.size + 128, array.dtype)
        self.array = self.room[64 : 64 + array.size].reshape(array.shape)
        self.array[...] = array

    def intact(self):
        return bool(np.isnan(self.room[:64]).all() and np.isnan(self.room[64 + self.array.size :]).all())


def max_reference(geometry, x):
    """(y, winner) of the first maximum."""
    _, _, sizes, windows, *_ = geometry
    y = np.full((x.shape[0], *windows, x.shape[-1]), np.finfo(x.dtype).min)
    winner = np.full(y.shape, -1)
    for window, taps in windows_of(geometry):
        if taps:
            values = np.stack([x[(slice(None), *at)] for at in taps])
            places = np.array([np.ravel_multi_index(at, sizes) for at in taps])
            y[(slice(None), *window)] = values.max(axis=0)
            winner[(slice(None), *window)] = places[values.argmax(axis=0)]
    return y, winner


@EACH
def test_max_and_its_gradient(build, geometry):
    """Values are few, so most windows hold ties: the first wins. All sums are exact."""
    x, dy = arrays(build, geometry, whole)
    y, winner = max_reference(geometry, x)
    images, channels, sizes, windows, *_ = geometry
    dx = np.zeros((images, int(np.prod(sizes)), channels))
    flat_winner = winner.reshape(images, int(np.prod(windows)), channels)
    flat_dy = dy.reshape(flat_winner.shape)
    for n, o, c in zip(*np.nonzero(flat_winner >= 0)):
        dx[n, flat_winner[n, o, c], c] += flat_dy[n, o, c]
    for threads in THREADS:
        source, result = Fenced(x), Fenced(nans(y.shape, build.dtype))
        found = np.full(y.shape, -7, pool.winner_dtype(build))
        step = pool.MaxPool(build, *geometry[:-1])
        run_step(step, source.array, result.array, found, threads=threads)
        assert np.array_equal(result.array, y) and result.intact()
        assert np.array_equal(found, winner)
        run_step(step, source.array, result.array, None, threads=threads)
        assert np.array_equal(result.array, y)
        above = np.full(y.shape, -7, pool.winner_dtype(build))
        run_step(pool.MaxPool(build, *geometry[:-1], 1.0), source.array, result.array, above, threads=threads)
        inside = winner >= 0
        assert np.array_equal(result.array, np.where(inside, np.maximum(y, 1), y))
        assert np.array_equal(above, np.where(y > 1, winner, -1))

        incoming, back = Fenced(dy), Fenced(nans(x.shape, build.dtype))
        step = pool.MaxPoolGradient(build, *geometry[:-1])
        run_step(step, incoming.array, found, back.array, threads=threads)
        assert np.array_equal(back.array.reshape(dx.shape), dx) and back.intact()


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_nan_and_infinity_in_max(build):
    """A NaN shows in every window that holds it; a window of -inf alone yields -inf and its first tap, or the floor."""
    x = np.full((1, 6, 19), -np.inf, build.dtype)
    x[0, 2] = np.nan
    x[0, 3] = 5
    y, winner = nans((1, 3, 19), build.dtype), np.zeros((1, 3, 19), pool.winner_dtype(build))
    run_step(pool.MaxPool(build, 1, 19, (6,), (3,), (2,), (2,), (1,), (0,)), x, y, winner)
    assert (y[0, 0] == -np.inf).all() and (winner[0, 0] == 0).all()
    assert np.isnan(y[0, 1]).all() and (winner[0, 1] == 2).all()
    assert (y[0, 2] == -np.inf).all() and (winner[0, 2] == 4).all()
    run_step(pool.MaxPool(build, 1, 19, (6,), (3,), (2,), (2,), (1,), (0,), 0.0), x, y, winner)
    assert (y[0, [0, 2]] == 0).all() and (winner[0, [0, 2]] == -1).all()
    assert np.isnan(y[0, 1]).all() and (winner[0, 1] == 2).all()


@pytest.mark.parametrize("include_pad", [False, True])
@EACH
def test_average_and_its_gradient(build, geometry, include_pad):
    """Sums of whole numbers are exact; what is left are the divisions: a few roundings per window."""
    x, dy = arrays(build, geometry, whole)
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for window, taps in windows_of(geometry):
        divisor = divisor_of(geometry, window, taps, include_pad)
        for at in taps:
            y[(slice(None), *window)] += x[(slice(None), *at)] / divisor
            dx[(slice(None), *at)] += dy[(slice(None), *window)] / divisor
    tolerance = 8 * np.finfo(build.dtype).eps * 4  # values reach 4
    for threads in THREADS:
        source, result = Fenced(x), Fenced(nans(y.shape, build.dtype))
        step = pool.AveragePool(build, *geometry, include_pad)
        run_step(step, source.array, result.array, threads=threads)
        assert np.max(np.abs(result.array - y), initial=0) <= tolerance and result.intact()
        incoming, back = Fenced(dy), Fenced(nans(x.shape, build.dtype))
        step = pool.AveragePoolGradient(build, *geometry, include_pad)
        run_step(step, incoming.array, back.array, threads=threads)
        assert np.max(np.abs(back.array - dx), initial=0) <= tolerance and back.intact()


@EACH
def test_equal_bits_at_any_number_of_threads(build, geometry):
    x, dy = arrays(build, geometry, normal)
    for name, source, shape in (("AveragePool", x, dy.shape), ("AveragePoolGradient", dy, x.shape)):
        results = []
        for threads in THREADS:
            results.append(nans(shape, build.dtype))
            run_step(getattr(pool, name)(build, *geometry, True), source, results[-1], threads=threads)
        assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("column_major", [False, True])
def test_winner_index(column_major):
    sizes, windows = (3, 4, 5), (1, 2, 3)
    rng = np.random.default_rng(0)
    winner = rng.integers(0, 60, (2, *windows, 7)).astype(pool.winner_dtype(FLOAT64))
    index = np.full(winner.shape, -7, np.int64)
    run_step(pool.WinnerIndex(FLOAT64, 2, 7, sizes, windows, column_major), winner, index, threads=2)
    images, channels = np.arange(2).reshape(2, 1, 1, 1, 1), np.arange(7)
    place = winner.astype(int)
    if column_major:
        place = np.ravel_multi_index(np.unravel_index(place, sizes), sizes, order="F")
    assert np.array_equal(index, (images * 7 + channels) * 60 + place)


IMAGES = [(1, 1, 1), (2, 49, 3), (3, 64, 300), (1, 5000, 17), (2, 100, 513), (0, 4, 5)]


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("shape", IMAGES)
def test_global_average_and_its_gradient(build, shape):
    """Whole numbers sum exactly; the mean is rounded once, the gradient's factor once more."""
    images, pixels, channels = shape
    x = integers(np.random.default_rng(0), shape, build.dtype)
    dy = integers(np.random.default_rng(1), (images, channels), build.dtype)
    mean = (x.astype(float).sum(axis=1) / pixels).astype(build.dtype)
    for threads in THREADS:
        y, dx = nans(dy.shape, build.dtype), nans(shape, build.dtype)
        run_step(pool.GlobalAverage(build, *shape), x, y, threads=threads)
        assert np.array_equal(y, mean)
        run_step(pool.GlobalAverageGradient(build, *shape), dy, dx, threads=threads)
        assert np.allclose(dx, dy[:, None] / pixels, rtol=2 * np.finfo(build.dtype).eps, atol=0)


def test_tables_name_each_pair_of_window_and_position():
    """Both tables against all pairs, for every small geometry of one axis."""
    taps_inside, windows_over = pool.taps_inside, pool.windows_over
    for geometry in itertools.product((1, 2, 5), (1, 2, 4), (1, 2, 3), (1, 2, 4, 6), (1, 2, 3, 4), (0, 1, 3)):
        size, windows, kernel, stride, dilation, begin = geometry
        pairs = {
            (o, o * stride + k * dilation - begin)
            for o in range(windows)
            for k in range(kernel)
            if 0 <= o * stride + k * dilation - begin < size
        }
        first, count, step = taps_inside(*geometry)
        assert {(o, first[o] + j * step) for o in range(windows) for j in range(count[o])} == pairs
        assert count.sum() == len(pairs)
        first, count, step = windows_over(*geometry)
        assert {(first[i] + j * step, i) for i in range(size) for j in range(count[i])} == pairs
        assert count.sum() == len(pairs)


@pytest.mark.parametrize(
    "sizes, kernel, message",
    [
        ((4, 4), (2,), "one entry per axis"),
        ((2, 2, 2, 2), (1, 1, 1, 1), "at most 3"),
        ((1 << 16, 1 << 15), (1, 1), r"2\^31"),
    ],
)
def test_bad_geometry_is_refused(sizes, kernel, message):
    ones, zeros = (1,) * len(sizes), (0,) * len(sizes)
    with pytest.raises(ValueError, match=message):
        pool.MaxPool(FLOAT64, 1, 1, sizes, ones, kernel, ones, ones, zeros)
