"""Copy between any two orders of axes, slices included; Fill."""

import itertools

import numpy as np
import pytest

from cconv.kernels.move.copy import Copy, Fill
from harness import ALL_BUILDS, THREADS, run_step

DTYPES = (np.uint8, np.int16, np.float32, np.int64)


def numbered(shape, dtype):
    return (np.arange(np.prod(shape, dtype=int)) % 251).astype(dtype).reshape(shape)


def elements(array):
    return [stride // array.itemsize for stride in array.strides]


def run_copy(build, source, target_order, threads):
    """Copy `source` (any strides) to a dense array whose memory has its axes in `target_order`."""
    memory = np.full([source.shape[axis] for axis in target_order], 255, source.dtype)
    target = memory.transpose(np.argsort(target_order))
    base = source if source.base is None else source.base
    while base.base is not None:
        base = base.base
    offset = (source.ctypes.data - base.ctypes.data) // source.itemsize if source.size else 0
    step = Copy(build, source.shape, elements(source), elements(target), itemsize=source.itemsize, source_offset=offset)
    run_step(step, base, memory, threads=threads)
    return target


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_any_order_of_axes(build, dtype, order):
    source = numbered((2, 3, 17, 19), dtype)
    for threads in THREADS:
        assert np.array_equal(run_copy(build, source, order, threads), source)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize(
    "shape, order",
    [
        ((), ()),
        ((70000,), (0,)),
        ((1, 1), (1, 0)),
        ((0, 3), (1, 0)),
        ((300, 500), (1, 0)),
        ((2, 70, 40, 40), (0, 2, 3, 1)),
        ((3, 33000), (1, 0)),
        ((33000, 3), (1, 0)),
        *(((3, 50, n), (0, 2, 1)) for n in (2, 3, 4, 5)),
        *(((3, n, 50), (0, 2, 1)) for n in (2, 3, 4, 5)),
        ((1, 5, 1, 7), (3, 0, 1, 2)),
        ((2, 3, 2, 3, 2, 3, 2, 3), (7, 6, 5, 4, 3, 2, 1, 0)),
    ],
)
def test_sizes_that_cut_into_chunks(build, shape, order):
    source = numbered(shape, np.float32)
    for threads in THREADS:
        assert np.array_equal(run_copy(build, source, order, threads), source)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_slices(build):
    whole = numbered((5, 20, 70), np.float32)
    for part in (whole[1:4], whole[:, 3:17], whole[2:, :, 5:66], whole[::2, 1::3, ::5]):
        for order in ((0, 1, 2), (2, 0, 1)):
            assert np.array_equal(run_copy(build, part, order, 2), part)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_a_part_is_written_and_nothing_around_it(build):
    source = numbered((4, 6), np.float32)
    target = np.full((4, 20), -1, np.float32)
    run_step(Copy(build, (4, 6), (6, 1), (20, 1), target_offset=7), source, target)
    assert np.array_equal(target[:, 7:13], source)
    assert np.all(target[:, :7] == -1)
    assert np.all(target[:, 13:] == -1)


def test_what_cannot_be_copied_is_refused():
    build = ALL_BUILDS[0]
    with pytest.raises(ValueError, match="1, 2, 4 or 8 bytes"):
        Copy(build, (3,), (1,), (1,), itemsize=16)
    with pytest.raises(ValueError, match="at most 8 axes"):
        Copy(build, (2,) * 9, [2**i for i in range(9)], [2 ** (8 - i) for i in range(9)])


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 33, 70000])
def test_fill(build, dtype, size):
    for threads in THREADS:
        y = np.zeros(size, dtype)
        run_step(Fill(build, size, np.asarray(7, dtype).tobytes()), y, threads=threads)
        assert np.all(y == 7)
