"""Places from indices, reading from and writing to them, one-hot vectors, against NumPy."""

import numpy as np
import pytest

from cconv.kernels.move.index import Offsets, OneHot, Put, Reversed, Take
from harness import ALL_BUILDS, THREADS, integers, nans, run_step

OUT_OF_RANGE = 2
FLOAT_KINDS = ("none", "add", "mul", "min", "max")


def places_of(indices, *geometry, threads=1):
    step = Offsets(*geometry, indices.dtype.itemsize)
    places = np.full(geometry[0], -7, np.int64)
    return run_step(step, indices, places, threads=threads), places


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (5,), (3, 1, 4), (300, 200), (0, 3), (2, 3, 2, 2, 3, 2, 3, 2)])
def test_offsets(dtype, shape):
    rng = np.random.default_rng(0)
    sizes, steps, strides = (7, 3), (100, 10), tuple(rng.integers(0, 50, len(shape)).tolist())
    indices = np.stack([rng.integers(-n, n, shape) for n in sizes], axis=-1).astype(dtype)
    expected = sum((indices[..., k].astype(int) % n) * step for k, (n, step) in enumerate(zip(sizes, steps)))
    for axis, (n, stride) in enumerate(zip(shape, strides)):
        expected = expected + np.expand_dims(np.arange(n) * stride, [i for i in range(len(shape)) if i != axis])
    for threads in THREADS:
        status, places = places_of(indices, shape, strides, sizes, steps, threads=threads)
        assert status == 0
        assert np.array_equal(places, expected)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("bad", [3, -4, np.iinfo(np.int32).max, np.iinfo(np.int32).min])
@pytest.mark.parametrize("threads", THREADS)
def test_an_index_outside_its_axis_stops_the_run(dtype, bad, threads):
    indices = np.zeros((40000, 1), dtype)
    assert places_of(indices, (40000,), (0,), (3,), (1,), threads=threads)[0] == 0
    indices[39999] = bad
    assert places_of(indices, (40000,), (0,), (3,), (1,), threads=threads)[0] == OUT_OF_RANGE


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_reversed(dtype):
    lengths, source = np.array([4, 0, 2], dtype), np.arange(12).reshape(4, 3)
    expected = source.copy()
    for batch, n in enumerate(lengths):
        expected[:n, batch] = source[:n, batch][::-1]
    for threads in THREADS:
        places = np.full((4, 3), -7, np.int64)
        step = Reversed((4, 3), (3, 1), (3, 4, 3), (1, 3, 1), lengths.dtype.itemsize)
        assert run_step(step, lengths, places, threads=threads) == 0
        assert np.array_equal(places, expected)
    for bad in (5, -1):
        lengths[1] = bad
        assert run_step(step, lengths, places) == OUT_OF_RANGE


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int64])
@pytest.mark.parametrize("outer, groups, length", [(1, 5, 1), (3, 4, 17), (2, 40000, 1), (70, 9, 130), (2, 0, 3)])
def test_take(dtype, outer, groups, length):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (outer, 11 * length)).astype(dtype)
    index = rng.integers(0, 11, groups)
    expected = x.reshape(outer, 11, length)[:, index]
    for threads in THREADS:
        y = np.full((outer, groups, length), 123, dtype)
        step = Take(outer, x.shape[1], groups, length, x.itemsize)
        run_step(step, x, index * length, y, threads=threads)
        assert np.array_equal(y, expected)


def put(build, reduction, x, index, y, shared, kind, threads):
    """y[o, index[o, g]] op= x[o, g]"""
    outer, groups, length = x.shape
    places = np.ascontiguousarray(index[0] if shared else index) * length
    step = Put(build, reduction, outer, y.shape[1] * length, groups, length, shared, kind)
    run_step(step, x, places, y, threads=threads)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("reduction", FLOAT_KINDS)
@pytest.mark.parametrize("kind", ["real", "int32", "int64"])
@pytest.mark.parametrize("outer, groups, length", [(1, 9, 1), (3, 8, 17), (2, 3, 40000), (500, 70, 3), (1, 0, 4)])
@pytest.mark.parametrize("shared", [True, False])
def test_put(build, reduction, kind, outer, groups, length, shared):
    rng = np.random.default_rng(0)
    dtype = build.dtype if kind == "real" else np.dtype(kind)
    x = integers(rng, (outer, groups, length), dtype, -1, 2)
    start = integers(rng, (outer, 5, length), dtype)
    index = np.repeat(rng.integers(0, 5, (1, groups)), outer, axis=0) if shared else rng.integers(0, 5, (outer, groups))
    expected = start.copy()
    update = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum, "none": lambda a, b: b}[
        reduction
    ]
    for g in range(groups):
        rows = np.arange(outer)
        expected[rows, index[:, g]] = update(expected[rows, index[:, g]], x[:, g])
    for threads in THREADS:
        y = start.copy()
        put(build, reduction, x, index, y, shared, kind, threads)
        assert np.array_equal(y, expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_sums_have_equal_bits_at_any_number_of_threads(build):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3000, 130)).astype(build.dtype)
    index, found = rng.integers(0, 20, (2, 3000)), []
    for threads in THREADS:
        found.append(np.zeros((2, 20, 130), build.dtype))
        put(build, "add", x, index, found[-1], False, "real", threads)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_put_moves_elements_of_any_size(itemsize):
    dtype = np.dtype(f"u{itemsize}")
    x = np.arange(6, dtype=dtype).reshape(1, 3, 2)
    y = np.full((1, 4, 2), 99, dtype)
    put(ALL_BUILDS[0], "none", x, np.array([[3, 0, 3]]), y, False, str(itemsize), 1)
    assert np.array_equal(y[0], [[2, 3], [99, 99], [99, 99], [4, 5]])


@pytest.mark.parametrize("reduction", ["min", "max"])
def test_what_is_not_a_number_shows(reduction):
    x, y = np.array([[[np.nan], [1]]], np.float32), np.zeros((1, 2, 1), np.float32)
    put(ALL_BUILDS[0], reduction, x, np.array([[0, 0]]), y, False, "real", 1)
    assert np.isnan(y[0, 0])
    assert y[0, 1] == 0


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", ["real", "int32", "int64"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int64])
@pytest.mark.parametrize("outer, depth, inner", [(1, 4, 1), (300, 5, 70), (3, 1, 2), (2, 0, 3)])
def test_one_hot(build, kind, dtype, outer, depth, inner):
    rng = np.random.default_rng(0)
    indices = rng.integers(-depth - 2, depth + 3, (outer, inner)).astype(build.dtype if kind == "real" else kind)
    values = np.array([3, 5], dtype)
    hot = (indices[:, None] % depth if depth else indices[:, None]) == np.arange(depth)[None, :, None]
    hot &= ((indices >= -depth) & (indices < depth))[:, None]
    for threads in THREADS:
        y = np.zeros((outer, depth, inner), dtype)
        run_step(OneHot(build, outer, depth, inner, kind, y.itemsize), indices, values, y, threads=threads)
        assert np.array_equal(y, np.where(hot, values[1], values[0]))


def test_an_index_that_no_whole_number_holds_is_off():
    y = nans((1, 3, 3), np.float32)
    indices = np.array([[np.nan, np.inf, -1e30]], np.float32)
    run_step(OneHot(ALL_BUILDS[0], 1, 3, 3, "real", 4), indices, np.array([0, 1], np.float32), y)
    assert not y.any()


def test_what_cannot_be_indexed_is_refused():
    build = ALL_BUILDS[0]
    with pytest.raises(ValueError, match="4 or 8 bytes"):
        Offsets((2,), (0,), (3,), (1,), 2)
    with pytest.raises(ValueError, match="1 to 8 indices"):
        Offsets((2,), (0,), (), ())
    with pytest.raises(ValueError, match="at most 8 axes"):
        Offsets((2,) * 9, range(9), (3,), (1,))
    with pytest.raises(ValueError, match="1, 2, 4 or 8 bytes"):
        Take(1, 1, 1, 1, 3)
    with pytest.raises(ValueError, match="no reduction"):
        Put(build, "sum", 1, 1, 1, 1, True)
    with pytest.raises(ValueError, match="for elements of"):
        Put(build, "add", 1, 1, 1, 1, True, "4")
    with pytest.raises(ValueError, match="OneHot"):
        OneHot(build, 1, 1, 1, "int8")
