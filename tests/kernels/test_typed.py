"""Loops on values of several dtypes against NumPy, with broadcasting."""

import numpy as np
import pytest

import cconv.kernels.elementwise.typed as typed
from harness import ALL_BUILDS, THREADS, run_step

WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")

# Shapes in the order of memory.
PAIRS = [
    ((), ()),
    ((5,), (1,)),
    ((3, 5), (5,)),
    ((3, 1), (1, 5)),
    ((2, 9, 9, 17), (17,)),
    ((2, 3, 4, 5, 6), (3, 1, 5, 1)),
    ((70001,), ()),
    ((3, 40000), (3, 1)),
    ((3000, 33), (33,)),
    ((0, 4), (4,)),
]


def strides_in(shape, rank) -> list[int]:
    """Elements between neighbours along the last `rank` axes of the broadcast shape; 0 where repeated."""
    dense = [int(np.prod(shape[i + 1 :])) if n != 1 else 0 for i, n in enumerate(shape)]
    return [0] * (rank - len(shape)) + dense


def run_map(build, kind, dtype, *operands, threads=1):
    """The step's result; every byte of the output is set to 0xA5 before."""
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    z = np.frombuffer(b"\xa5" * (int(np.prod(shape)) * np.dtype(dtype).itemsize), np.uint8).copy()
    step = typed.Map(build, kind, shape, *(strides_in(x.shape, len(shape)) for x in operands))
    run_step(step, *operands, z, threads=threads)
    return z.view(dtype).reshape(shape)


def values(rng, shape, dtype):
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if np.issubdtype(dtype, np.floating):
        return np.asarray(rng.choice([-2.5, -1, 0, 1, 2.5, np.nan, np.inf, -np.inf], shape), dtype)
    return np.asarray(rng.integers(0 if dtype.startswith("u") else -5, 6, shape), dtype)


def truncated(a, b):
    """a / b rounded to zero; 0 where b is."""
    quotient = np.abs(a.astype(object)) // np.where(b == 0, 1, np.abs(b.astype(object)))
    return np.where(b == 0, 0, np.where((a < 0) != (b < 0), -quotient, quotient)).astype(a.dtype)


def powers(a, b):
    exact = [int(m) ** int(n) if n >= 0 else (0 if abs(m) != 1 else int(m) ** int(-n)) for m, n in zip(a.flat, b.flat)]
    return np.array(exact, a.dtype).reshape(a.shape)


def shifted(shift):
    """Python's integers, with a sign that goes on without end; a negative number of places is past all of them."""

    def function(a, b):
        exact = [shift(int(m), int(n) if n >= 0 else 64) % 2**64 for m, n in zip(a.flat, b.flat)]
        return np.array(exact, np.uint64).view(a.dtype).reshape(a.shape)

    return function


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": truncated,
    "mod": np.mod,
    "fmod": np.fmod,
    "pow": powers,
    "min": np.minimum,
    "max": np.maximum,
    "equal": np.equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shift_left": shifted(lambda a, places: a << places),
    "shift_right": shifted(lambda a, places: a >> places),
}
UNARY = {
    "not": np.invert,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isinf_positive": np.isposinf,
    "isinf_negative": np.isneginf,
}


def split(kind):
    """(function, dtypes) of a loop's name."""
    if kind.startswith("cast_"):
        _, source, target = kind.split("_")
        return "cast", (source, target)
    function, dtype = kind.rsplit("_", 1)
    return function, (dtype,)


def test_every_loop_is_tested():
    assert {split(kind)[0] for kind in typed.formulas(ALL_BUILDS[0])} == {*BINARY, *UNARY, "cast", "select"}


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("a, b", PAIRS + [(b, a) for a, b in PAIRS if a != b])
@pytest.mark.parametrize("kind", [k for k in typed.formulas(ALL_BUILDS[0]) if split(k)[0] in BINARY])
def test_binary(build, kind, a, b):
    function, (dtype,) = split(kind)
    dtype = build.dtype.name if dtype == "real" else dtype
    rng = np.random.default_rng(0)
    x, y = values(rng, a, dtype), values(rng, b, dtype)
    with np.errstate(all="ignore"):
        expected = BINARY[function](*np.broadcast_arrays(x, y))
    for threads in THREADS:
        found = run_map(build, kind, expected.dtype, x, y, threads=threads)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", [k for k in typed.formulas(ALL_BUILDS[0]) if split(k)[0] in UNARY])
def test_unary(build, kind):
    function, (dtype,) = split(kind)
    x = values(np.random.default_rng(0), (3, 5, 7), build.dtype.name if dtype == "real" else dtype)
    expected = UNARY[function](x)
    assert np.array_equal(run_map(build, kind, expected.dtype, x), expected)


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("kind", [k for k in typed.formulas(ALL_BUILDS[0]) if split(k)[0] == "cast"])
def test_cast(build, kind):
    source, target = (build.dtype.name if d == "real" else d for d in split(kind)[1])
    if source == "bool":
        x = np.array([True, False] * 50)
    elif np.issubdtype(source, np.floating):
        low = 0 if target.startswith("u") else -120
        x = np.random.default_rng(0).integers(4 * low, 4 * 120, 100).astype(source) / 4
    else:
        info = np.iinfo(source)
        x = np.random.default_rng(0).integers(info.min, info.max, 100, dtype=source, endpoint=True)
        x[:3] = info.min, info.max, 0
    for threads in THREADS:
        assert np.array_equal(run_map(build, kind, target, x, threads=threads), x.astype(target))


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "int64"])
@pytest.mark.parametrize("shapes", [((5, 1), (3, 1, 7), (7,)), ((), (4,), ()), ((1,), (), (70001,)), ((2, 3),) * 3])
def test_select(build, dtype, shapes):
    rng = np.random.default_rng(0)
    which, x, y = values(rng, shapes[0], "bool"), values(rng, shapes[1], dtype), values(rng, shapes[2], dtype)
    expected = np.where(which, x, y)
    for threads in THREADS:
        found = run_map(build, f"select_{np.dtype(dtype).itemsize}", dtype, which, x, y, threads=threads)
        assert np.array_equal(found, expected, equal_nan=dtype == "float32")


@pytest.mark.parametrize("build", ALL_BUILDS, ids=str)
def test_what_c_leaves_undefined(build):
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    x = np.array([low, low, high, 7, -7], np.int64)
    y = np.array([-1, 0, 0, 0, 0], np.int64)
    assert run_map(build, "div_int64", np.int64, x, y).tolist() == [low, 0, 0, 0, 0]
    assert run_map(build, "mod_int64", np.int64, x, y).tolist() == [0] * 5
    assert run_map(build, "fmod_int64", np.int64, x, y).tolist() == [0] * 5
    assert run_map(build, "neg_int64", np.int64, x).tolist() == [low, low, -high, -7, 7]
    assert run_map(build, "add_int64", np.int64, x, x).tolist() == [0, 0, -2, 14, -14]
    big = np.array([2**64 - 1, 5], np.uint64)
    assert run_map(build, "div_uint64", np.uint64, big, np.zeros(2, np.uint64)).tolist() == [0, 0]


def test_what_cannot_be_done_is_refused():
    build = ALL_BUILDS[0]
    with pytest.raises(ValueError, match=r"no loop 'add_int32'.*add_int64"):
        typed.Map(build, "add_int32", (3,), (1,), (1,))
    with pytest.raises(ValueError, match="'less_real' has 2 operands; found strides of 1"):
        typed.Map(build, "less_real", (3,), (1,))
    shape = (2,) * 9
    with pytest.raises(ValueError, match="at most 8 axes"):
        typed.Map(build, "less_real", shape, strides_in(shape, 9), strides_in((2, 1) * 4 + (2,), 9))
