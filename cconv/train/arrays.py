"""The caller's arrays: named, checked against the model, converted where nothing is lost by it.

The rule for dtypes: a value must keep its meaning. float64 and float16 become float32 (a number too large for
it is refused); whole numbers become float32 where it holds each of them exactly; floats never become whole
numbers by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cconv.arguments import FIXED_BATCH, closest, refuse_bytes, whole
from cconv.errors import DTypeError, ShapeError, ValueRangeError, and_more, explain
from cconv.graph.graph import InputSpec


def named(values: Any, names: Sequence[str], side: str) -> dict[str, np.ndarray]:
    """One array, or a dict of arrays by name, as a dict with exactly `names`.

    Raises:
        ShapeError: names missing, unknown, or one array where several are needed.
    """
    if not isinstance(values, Mapping) and len(names) == 1:
        return {names[0]: np.asarray(values)}
    wanted = ", ".join(repr(name) for name in names)
    if not isinstance(values, Mapping):
        raise ShapeError(explain(side, f"is a dict of arrays by name: {wanted}", f"one {type(values).__name__}"))
    if missing := [name for name in names if name not in values]:
        raise ShapeError(explain(side, f"is a dict of arrays by name: {wanted}", f"no {missing[0]!r}"))
    if unknown := [str(name) for name in values if name not in names]:
        raise ShapeError(
            explain(side, f"holds {wanted} and nothing else", repr(unknown[0]), closest(unknown[0], names))
        )
    return {name: np.asarray(values[name]) for name in names}


def as_dtype(array: np.ndarray, dtype: np.dtype, place: str) -> np.ndarray:
    """`array` in `dtype`, itself if it has it already.

    Raises:
        DTypeError: a kind of values that does not convert.
        ValueRangeError: values that `dtype` does not hold.
    """
    if array.dtype == dtype:
        return array
    kind = array.dtype.kind
    allowed = {"f": "fiub", "i": "iub", "u": "iub", "b": "b"}.get(dtype.kind, "")
    if kind not in allowed:
        raise DTypeError(explain(place, f"holds {dtype}", f"dtype {array.dtype}", f"Convert with .astype(np.{dtype})."))
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    if kind == "f":
        lost = np.isinf(result) & ~np.isinf(array)
    elif dtype.kind == "f":
        # Exact up to 2^(mantissa bits + 1), which bounds also the rounding of the comparison itself.
        bound = 2 ** (np.finfo(dtype).nmant + 1)
        lost = (array > bound) | (array < -bound) if kind != "b" else np.zeros(array.shape, bool)
    else:
        lost = (result != array) | ((result < 0) != (array < 0))
    if lost.any():
        raise ValueRangeError(
            explain(
                place,
                f"{array.dtype} is converted to {dtype} where it holds every value",
                f"{array[lost][0]}",
                "Scale or convert the values.",
            )
        )
    return result


def check_input(name: str, array: np.ndarray, declared: InputSpec, sizes: dict[str, int]) -> np.ndarray:
    """`array` fit for the input `name`.

    Args:
        sizes: sizes of the symbolic axes met so far; extended.

    Raises:
        ShapeError: another rank, or another size than a fixed axis has, or an axis of size 0.
        DTypeError, ValueRangeError: see as_dtype.
    """
    place = f"input {name!r}"
    if array.dtype.kind not in "fiub":
        raise DTypeError(explain(place, f"holds {declared.dtype}", f"dtype {array.dtype}"))
    if 0 in array.shape:
        raise ShapeError(explain(place, "holds at least one example", f"shape {array.shape}"))
    if declared.dims is not None:
        _check_shape(place, array.shape, declared.dims, sizes)
    refuse_bytes(place, array, declared.dtype)
    return as_dtype(array, declared.dtype, place)


def _check_shape(place: str, shape: tuple[int, ...], dims: Sequence[int | str | None], sizes: dict[str, int]) -> None:
    def wrong(found: str, fix: str = "", also: str = "") -> ShapeError:
        text = ", ".join("any" if dim is None else str(dim) for dim in dims)
        return ShapeError(explain(place, f"the model declares shape ({text}){also}", found, fix))

    if len(dims) != len(shape):
        fix = "Add the batch axis: x[None]." if len(dims) == len(shape) + 1 else ""
        raise wrong(f"{len(shape)} axes, shape {shape}", fix)
    for axis, (dim, size) in enumerate(zip(dims, shape)):
        if isinstance(dim, int) and dim != size:
            fix = FIXED_BATCH if axis == 0 else ""
            raise wrong(f"{size} on axis {axis}, shape {shape}", fix)
        if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
            raise wrong(f"{size} on axis {axis}, and {sizes[dim]} elsewhere", also=f", {dim!r} being one size")


def check_finite(name: str, array: np.ndarray) -> None:
    """
    Raises:
        ValueRangeError: NaN or infinity in the array, with its position.
    """
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array)
    if bad.any():
        position = np.unravel_index(int(np.argmax(bad)), array.shape)
        where = ", ".join(str(int(i)) for i in position)
        raise ValueRangeError(
            explain(
                f"input {name!r}",
                "holds finite numbers (check_inputs=True)",
                f"{array[position]} at [{where}]{and_more(int(bad.sum()) - 1)}",
                "Clean the data.",
            )
        )


def check_lengths(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray]) -> int:
    """The number of examples along axis 0, which all arrays share.

    Raises:
        ShapeError: they do not, or there are none.
    """
    lengths = [
        (array.shape[0], side, name)
        for side, arrays in (("x", x), ("y", y))
        for name, array in arrays.items()
        if array.ndim
    ]
    count = lengths[0][0] if lengths else 0
    if any(length != count for length, _, _ in lengths):
        found = ", ".join(f"{length} in {side} {name!r}" for length, side, name in lengths)
        raise ShapeError(explain("batch", "x and y hold as many examples as each other", found))
    if count == 0:
        raise ShapeError(explain("batch", "holds at least one example", "none"))
    return count


def batch_shapes(
    batch: int | Mapping[str, Sequence[int]], specs: Mapping[str, InputSpec]
) -> dict[str, tuple[int, ...]]:
    """Shapes of all inputs for a number of examples; or the given ones, checked.

    Raises:
        ShapeError: a number is not enough to know all shapes, or a shape is not what the model declares.
    """
    if isinstance(batch, Mapping):
        # Arrays without memory of their own, for the checks that arrays get.
        blank = np.zeros((), np.bool_)
        blanks = {}
        for name, shape in batch.items():
            try:
                blanks[name] = np.broadcast_to(blank, tuple(shape))
            except ValueError as error:  # below 0, or more than can be counted
                rule = f"sizes are not below 0, and their product is at most {np.iinfo(np.intp).max}"
                raise ShapeError(explain(f"shape of {name!r}", rule, f"{tuple(shape)}")) from error
        sizes: dict[str, int] = {}
        for name, array in named(blanks, list(specs), "shapes").items():
            check_input(name, array, specs[name]._replace(dtype=array.dtype), sizes)
        return {name: blanks[name].shape for name in specs}
    whole("batch", "the number of examples", batch, least=1)
    result = {}
    for name, spec in specs.items():
        dims = spec.dims
        if dims is None or not all(isinstance(n, int) for n in dims[1:]):
            raise ShapeError(
                explain(
                    f"input {name!r}",
                    "a number of examples tells the shape where the model fixes all other axes",
                    f"{dims}",
                    f"Give shapes: {{{name!r}: (N, ...)}}.",
                )
            )
        shape = tuple(int(n) for n in (batch, *dims[1:])) if dims else ()  # type: ignore[arg-type]
        check_input(name, np.broadcast_to(np.zeros((), spec.dtype), shape), spec, {})
        result[name] = shape
    return result
