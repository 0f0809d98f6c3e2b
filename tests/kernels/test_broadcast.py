"""Broadcast against NumPy's own broadcasting, with z in any memory order."""

import numpy as np
import pytest

import cconv.kernels.elementwise.elementwise as elementwise
from harness import ALL_BUILDS, THREADS, integers, nans, run_step

OPS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "fmod": np.fmod}

# Shapes in the order of memory.
PAIRS = [
    ((), ()),
    ((5,), ()),
    ((5,), (1,)),
    ((1,), (7,)),
    ((3, 5), (5,)),
    ((3, 5), (3, 1)),
    ((3, 1), (1, 5)),
    ((2, 9, 9, 17), (17,)),
    ((2, 9, 9, 3), (2, 1, 1, 3)),
    ((4, 3, 700), (3, 1)),
    ((2, 3, 4, 5, 6), (3, 1, 5, 1)),
    ((70001,), ()),
    ((3, 40000), (3, 1)),
    ((3, 40000), (40000,)),
    ((3000, 33), (33,)),
    ((0, 4), (4,)),
    ((2, 1, 3, 1, 2, 1, 3, 1), (1, 2, 1, 3, 1, 2, 1, 3)),
]
PAIRS += [(b, a) for a, b in PAIRS if a != b]


def strides_in(shape, rank) -> list[int]:
    """Elements between neighbours along the last `rank` axes of the broadcast shape; 0 where repeated."""
    dense = [int(np.prod(shape[i + 1 :])) if n != 1 else 0 for i, n in enumerate(shape)]
    return [0] * (rank - len(shape)) + dense


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("a, b", PAIRS)
@pytest.mark.parametrize("kind", OPS)
def test_broadcast(build, kind, a, b):
    rng = np.random.default_rng(0)
    x, y = integers(rng, a, build.dtype), 1 + integers(rng, b, build.dtype, 0, 4)
    expected = OPS[kind](x, y)
    for threads in THREADS:
        z = nans(expected.shape, build.dtype)
        step = elementwise.Broadcast(build, kind, z.shape, strides_in(a, z.ndim), strides_in(b, z.ndim))
        run_step(step, np.asarray(x), np.asarray(y), z, threads=threads)
        assert np.array_equal(z, expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_operands_in_another_order(build):
    """x is stored with its axes reversed: no stride of 1 along z's fastest axis."""
    rng = np.random.default_rng(0)
    x, y = integers(rng, (5, 4, 3), build.dtype), integers(rng, (4, 1), build.dtype)
    z = nans((3, 4, 5), build.dtype)
    run_step(elementwise.Broadcast(build, "sub", (3, 4, 5), (1, 3, 12), (0, 1, 0)), x, y, z)
    assert np.array_equal(z, x.transpose(2, 1, 0) - y)


def test_what_cannot_be_done_is_refused():
    build = ALL_BUILDS[0]
    with pytest.raises(ValueError, match=r"no loop 'log'.*div"):
        elementwise.Broadcast(build, "log", (3,), (1,), (1,))
    shape = (2,) * 9
    with pytest.raises(ValueError, match="at most 8 axes"):
        elementwise.Broadcast(build, "add", shape, strides_in(shape, 9), strides_in((2, 1) * 4 + (2,), 9))
