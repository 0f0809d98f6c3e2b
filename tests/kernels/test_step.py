"""Memory, steps and programs."""

import itertools

import numpy as np
import pytest

import cconv.kernels.elementwise.elementwise as elementwise
from cconv.kernels import FLOAT32
from cconv.kernels.core.memory import HUGE_PAGE, Region, aligned, zeros
from cconv.kernels.core.step import Program
from cconv.kernels.move.copy import Copy
from harness import run_step


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 1000, HUGE_PAGE, HUGE_PAGE + 1])
def test_region_is_aligned_and_zero(nbytes):
    region = Region(nbytes)
    assert region.address % (HUGE_PAGE if nbytes >= HUGE_PAGE else 64) == 0
    assert region.nbytes >= nbytes
    view = np.asarray(region)
    assert not view.any()
    view[:] = 7
    assert np.asarray(region)[-1] == 7


def test_arrays_keep_their_region_alive():
    array = zeros((1000, 1000), np.float32)
    array[...] = 3
    assert array.base is not None
    assert aligned(array[::2]).flags.c_contiguous
    assert zeros((), np.float64).shape == ()
    assert zeros((0, 3), np.float32).shape == (0, 3)
    assert (array == 3).all()


def test_too_much_memory_is_an_error():
    with pytest.raises(MemoryError, match="cannot take"):
        Region(1 << 62)


def test_a_step_wants_all_its_operands():
    step = elementwise.Unary(FLOAT32, "relu", 4)
    with pytest.raises(ValueError, match="Unary takes 2 operands, got 1"):
        step.bind([0], 0, 1)


def test_program_runs_a_range_and_refuses_strangers():
    x = np.array([-1.0, 2.0], np.float32)
    y, z = np.full(2, np.nan, np.float32), np.full(2, np.nan, np.float32)
    first, second = elementwise.Unary(FLOAT32, "relu", 2), elementwise.Unary(FLOAT32, "relu", 2)
    first.bind([x.ctypes.data, y.ctypes.data], 0, 1)
    second.bind([y.ctypes.data, z.ctypes.data], 0, 1)
    program = Program([first, second])
    assert program.run(0, 1) == (1, 0)
    assert y.tolist() == [0, 2] and np.isnan(z).all()
    assert program.run(1) == (2, 0)
    assert z.tolist() == [0, 2]
    assert len(program.profile(2)) == 2
    with pytest.raises(IndexError):
        program.run(0, 3)
    with pytest.raises(TypeError, match="step 1 is a str"):
        Program([first, "second"])


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_every_loop_of_a_long_program_runs_whole(threads):
    """Each step adds 1 to what the one before wrote; helpers that have gone to sleep meanwhile come back or not."""
    size, count = 100_000, 200  # four chunks each
    rows = np.full((count + 1, size), np.nan, np.float32)
    ones = np.ones(size, np.float32)
    rows[0] = 0
    steps = []
    for row, following in itertools.pairwise(rows):
        step = elementwise.Binary(FLOAT32, "add", size)
        step.bind([row.ctypes.data, ones.ctypes.data, following.ctypes.data], 0, threads)
        steps.append(step)
    assert Program(steps).run() == (count, 0)
    assert (rows == np.arange(count + 1)[:, None]).all()


def test_kinds_are_checked():
    with pytest.raises(ValueError, match="nonsense"):
        elementwise.Unary(FLOAT32, "nonsense", 1)
    with pytest.raises(ValueError, match="1, 2, 4 or 8 bytes"):
        Copy(FLOAT32, (2,), (1,), (1,), itemsize=3)


@pytest.mark.parametrize("size", [0, 1, 31, 32768, 32769])
def test_sizes_around_a_chunk(size):
    x = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    y = np.full(size, np.nan, np.float32)
    assert run_step(elementwise.Unary(FLOAT32, "relu", size), x, y, threads=2) == 0
    assert np.array_equal(y, np.maximum(x, 0))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_subnormal_numbers_are_flushed_where_asked_for(threads):
    """On all threads of the program, as operands and as results; and nowhere after it."""
    n = 1 << 20
    x, factor = np.full(n, 1e-38, np.float32), np.full(n, 4, np.float32)  # a subnormal operand
    x[::2], factor[::2] = 1.2e-38, 0.5  # a subnormal result
    y = np.empty(n, np.float32)
    step = elementwise.Broadcast(FLOAT32, "mul", (n,), (1,), (1,))
    step.bind([x.ctypes.data, factor.ctypes.data, y.ctypes.data], 0, threads)
    for flush in (False, True, False):
        assert Program([step], flush=flush).run() == (1, 0)
        assert np.array_equal(y, np.zeros(n) if flush else x * factor)
        assert (x[:2] * factor[:2] > 0).all()
