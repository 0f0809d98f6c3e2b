"""Sums, products and extremes against float64 NumPy, over any axes in any memory order."""

import itertools

import numpy as np
import pytest

import cconv.kernels.reduce.reduce as reduce
from harness import ALL_BUILDS, THREADS, integers, nans, run_step

# shape in memory order, axes summed over.
CASES = [
    ((5,), (0,)),
    ((5,), ()),
    ((1,), (0,)),
    ((7, 3), (0,)),
    ((7, 3), (1,)),
    ((1000, 1), (0,)),
    ((4096, 64), (0,)),
    ((3001, 67), (0,)),
    ((2, 1500, 24), (0, 1)),
    ((2, 1500, 24), (1,)),
    ((13, 2100), (0,)),
    ((13, 2100), (1,)),
    ((100000,), (0,)),
    ((6, 5, 49), (0, 2)),
    ((3, 4, 5, 6), (0, 2)),
    ((3, 4, 5, 6), (1, 3)),
    ((3, 4, 5, 6), (0, 1, 2, 3)),
    ((2, 3, 2, 3, 2, 3), (0, 2, 4)),
    ((70, 3, 700), (0, 2)),
    ((0, 5), (0,)),
    ((4, 0), (0,)),
]


def strides_of(shape, order) -> list[int]:
    """Elements between neighbours along each axis where `order` lists the axes from slow to fast."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return strides


def run_reduce(build, x, axes, threads, target_order=None, kind="sum"):
    kept = [n if i not in axes else 1 for i, n in enumerate(x.shape)]
    order = target_order or range(x.ndim)
    target = [0 if i in axes else s for i, s in enumerate(strides_of(kept, order))]
    step = reduce.Reduce(build, kind, x.shape, strides_of(x.shape, range(x.ndim)), target)
    y = nans([kept[i] for i in order], build.dtype)
    partials = nans(step.partials, build.dtype) if step.partials else None
    run_step(step, x, y, partials, threads=threads)
    return y.transpose(np.argsort(order))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("shape, axes", CASES)
def test_integers_are_summed_exactly(build, shape, axes):
    x = integers(np.random.default_rng(0), shape, build.dtype)
    expected = x.astype(np.float64).sum(axis=axes, keepdims=True)
    for threads in THREADS:
        assert np.array_equal(run_reduce(build, x, axes, threads), expected)


EXTREMES = {"max": (np.maximum, -np.inf), "min": (np.minimum, np.inf)}


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("shape, axes", CASES)
@pytest.mark.parametrize("kind", EXTREMES)
def test_extremes(build, kind, shape, axes):
    x = np.random.default_rng(0).standard_normal(shape).astype(build.dtype)
    operation, neutral = EXTREMES[kind]
    expected = operation.reduce(x, axis=axes, keepdims=True, initial=neutral)
    for threads in THREADS:
        assert np.array_equal(run_reduce(build, x, axes, threads, kind=kind), expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("place", [0, 33333, 99999])
def test_nan_is_no_extreme(build, kind, place):
    x = np.random.default_rng(0).standard_normal((100000, 2)).astype(build.dtype)
    x[place, 1] = np.nan
    for axes in ((0,), (0, 1)):
        found = run_reduce(build, x, axes, 2, kind=kind)
        assert np.isnan(found.reshape(-1)[-1]) and (axes == (0, 1) or not np.isnan(found[0, 0]))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("shape, axes", CASES)
def test_products(build, shape, axes):
    """Few powers of two among ones of either sign: every product of some of them is exact."""
    rng = np.random.default_rng(0)
    x = rng.choice([-1, 1], shape).astype(build.dtype)
    some = rng.choice(x.size, min(x.size, 60), replace=False)
    x.reshape(-1)[some] *= 2.0 ** rng.integers(-1, 2, some.size)
    expected = x.astype(np.float64).prod(axis=axes, keepdims=True)
    for threads in THREADS:
        assert np.array_equal(run_reduce(build, x, axes, threads, kind="prod"), expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_target_has_an_order_of_its_own(build, order):
    x = integers(np.random.default_rng(0), (3, 4, 5), build.dtype)
    for axes in ((), (0,), (1,), (2,), (0, 2)):
        expected = x.astype(np.float64).sum(axis=axes, keepdims=True) if axes else x
        for threads in THREADS:
            assert np.array_equal(run_reduce(build, x, axes, threads, order), expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("shape, axes", CASES)
def test_same_bits_at_any_number_of_threads(build, shape, axes):
    x = np.random.default_rng(1).standard_normal(shape).astype(build.dtype)
    one = run_reduce(build, x, axes, 1)
    for threads in THREADS[1:]:
        assert np.array_equal(run_reduce(build, x, axes, threads), one)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("shape, axes", [((200000, 3), (0,)), ((1000000,), (0,)), ((20000, 66), (0,))])
def test_rounding_errors_do_not_grow_with_the_size(build, shape, axes):
    """Numbers of one sign: a plain float32 loop over 10^6 of them would be off by about 1e-4 relative. Here
    some 130 roundings of half an eps happen after one another, in practice of random sign."""
    x = np.random.default_rng(2).uniform(0.5, 1, shape).astype(build.dtype)
    expected = x.astype(np.longdouble).sum(axis=axes, keepdims=True)
    error = np.max(np.abs(run_reduce(build, x, axes, 2) - expected) / expected)
    assert error < 8 * np.finfo(build.dtype).eps


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ValueError, match=r"no reduction 'mean'.*sum, prod, max, min"):
        reduce.Reduce(ALL_BUILDS[0], "mean", (3, 4), (4, 1), (0, 1))
    with pytest.raises(ValueError, match="dense"):
        reduce.Reduce(ALL_BUILDS[0], "sum", (3, 4), (5, 1), (0, 1))
