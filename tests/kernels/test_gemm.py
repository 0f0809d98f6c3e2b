"""Products of matrices on every build and number of threads, against NumPy in float64."""

import numpy as np
import pytest

import cconv.kernels.gemm.gemm as gemm
from cconv.kernels import FLOAT32
from harness import ALL_BUILDS, THREADS, integers, nans, run_step

# (batch, rows, columns, inner): ragged around tiles of 14 or 6 rows, blocks of 32 columns, blocks of 256 and 224.
SIZES = [
    (1, 1, 1, 1), (1, 13, 31, 7), (2, 14, 32, 16), (3, 15, 33, 17), (1, 225, 40, 300), (2, 6, 70, 513),
    (1, 7, 16, 1), (1, 500, 3, 5), (4, 1, 100, 20), (1, 3, 5, 0), (0, 3, 4, 5), (1, 0, 4, 5),
]  # fmt: skip


def product(build, a, b, bias, threads, transposed, alpha=1.0):
    """alpha * a @ b + bias, the operands read as they are or from transposed memory."""
    dtype = build.dtype
    batch, rows, inner = a.shape
    columns = b.shape[2]
    flip_a, flip_b = transposed
    a_memory = np.ascontiguousarray(a.swapaxes(1, 2) if flip_a else a, dtype=dtype)
    b_memory = np.ascontiguousarray(b.swapaxes(1, 2) if flip_b else b, dtype=dtype)
    step = gemm.Gemm(
        build, rows, columns, inner,
        (1, rows) if flip_a else (inner, 1),
        (1, inner) if flip_b else (columns, 1),
        [i * rows * inner for i in range(batch)],
        [i * inner * columns for i in range(batch)],
        alpha,
        bias is not None,
    )  # fmt: skip
    c = nans((batch, rows, columns), dtype)
    bias = None if bias is None else bias.astype(dtype)
    assert run_step(step, a_memory, b_memory, bias, c, threads=threads) == 0
    return c


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("build", ALL_BUILDS, ids=lambda build: build.name)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_exact_on_small_integers(build, size, threads):
    batch, rows, columns, inner = size
    rng = np.random.default_rng(0)
    a = integers(rng, (batch, rows, inner), np.float64)
    b = integers(rng, (batch, inner, columns), np.float64)
    bias = integers(rng, columns, np.float64)
    for transposed in [(False, False), (True, False), (False, True), (True, True)]:
        assert np.array_equal(product(build, a, b, None, threads, transposed), a @ b)
    assert np.array_equal(product(build, a, b, bias, threads, (False, False), -2.0), -2 * (a @ b) + bias)


def test_same_bits_at_any_number_of_threads():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 231, 300)), rng.standard_normal((2, 300, 77))
    one = product(FLOAT32, a, b, None, 1, (False, True))
    for threads in (2, 3, 8):
        assert np.array_equal(product(FLOAT32, a, b, None, threads, (False, True)), one)


def test_a_matrix_may_serve_a_whole_batch():
    rng = np.random.default_rng(2)
    a = integers(rng, (3, 5, 7), np.float32)
    b = integers(rng, (7, 9), np.float32)
    c = nans((3, 5, 9), np.float32)
    step = gemm.Gemm(FLOAT32, 5, 9, 7, (7, 1), (9, 1), [0, 35, 70], [0, 0, 0])
    assert run_step(step, a, b, None, c, threads=2) == 0
    assert np.array_equal(c, a @ b)


def test_strides_and_offsets_are_checked():
    with pytest.raises(ValueError, match="one stride of A is 1"):
        gemm.Gemm(FLOAT32, 4, 4, 4, (2, 8), (4, 1))
    with pytest.raises(ValueError, match="1 matrices A but 2 matrices B"):
        gemm.Gemm(FLOAT32, 4, 4, 4, (4, 1), (4, 1), [0], [0, 16])
