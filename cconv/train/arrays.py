"""The caller's arrays: named, checked against the model, converted where nothing is lost by it.

The rule for dtypes: a value must keep its meaning. float64 and float16 become float32 (a number too large for
it is refused); whole numbers become float32 where it holds each of them exactly; floats never become whole
numbers by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cconv.errors import DTypeError, ModelError, ShapeError, ValueRangeError, explain
from cconv.graph.model import Model
from cconv.train.options import closest


@dataclass(frozen=True)
class Declaration:
    """An input as the model declares it: an axis is a number, a symbol's name, or None (any size).

    `shape` is None where the model does not even fix the rank.
    """

    shape: tuple[int | str | None, ...] | None
    dtype: np.dtype


def declared_inputs(model: Model) -> dict[str, Declaration]:
    """The inputs that the caller gives, in order.

    Raises:
        ModelError: an input without a dtype.
    """
    result = {}
    names = set(model.input_names)
    for value in model.ir.graph.inputs:
        if value.name not in names or value.name is None:
            continue
        if value.dtype is None:
            raise ModelError(explain(f"input {value.name!r}", "has a dtype", "none"))
        shape = None
        if value.shape is not None:
            shape = tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)
        result[value.name] = Declaration(shape, np.dtype(value.dtype.numpy()))
    return result


def named(values: Any, names: Sequence[str], side: str) -> dict[str, np.ndarray]:
    """One array, or a dict of arrays by name, as a dict with exactly `names`.

    Raises:
        ShapeError: names missing, unknown, or one array where several are needed.
    """
    wanted = ", ".join(repr(name) for name in names)
    if not isinstance(values, Mapping):
        if len(names) != 1:
            raise ShapeError(
                explain(side, f"is a dict of arrays by name: {wanted}", f"one {type(values).__name__}")
            )
        return {names[0]: np.asarray(values)}
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
        raise DTypeError(
            explain(place, f"holds {dtype}", f"dtype {array.dtype}", f"Convert with .astype(np.{dtype}).")
        )
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


def check_input(name: str, array: np.ndarray, declared: Declaration, sizes: dict[str, int]) -> np.ndarray:
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
    if declared.shape is not None:
        text = "(" + ", ".join("any" if dim is None else str(dim) for dim in declared.shape) + ")"
        rule = f"the model declares shape {text}"
        if len(declared.shape) != array.ndim:
            fix = "Add the batch axis: x[None]." if len(declared.shape) == array.ndim + 1 else ""
            raise ShapeError(explain(place, rule, f"{array.ndim} axes, shape {array.shape}", fix))
        for axis, (dim, size) in enumerate(zip(declared.shape, array.shape)):
            if isinstance(dim, int) and dim != size:
                fix = "The batch size is fixed in this model; use batches of that size." if axis == 0 else ""
                raise ShapeError(explain(place, rule, f"{size} on axis {axis}, shape {array.shape}", fix))
            if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
                found = f"{size} on axis {axis}, and {sizes[dim]} elsewhere"
                raise ShapeError(explain(place, f"{rule}, {dim!r} being one size", found))
    return as_dtype(array, declared.dtype, place)


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
                f"{array[position]} at [{where}], and {int(bad.sum()) - 1} more like it",
                "Clean the data.",
            )
        )


def check_lengths(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray]) -> int:
    """The number of examples along axis 0, which all arrays share.

    Raises:
        ShapeError: they do not, or there are none.
    """
    lengths = {
        f"{side} {name!r}": array.shape[0]
        for side, arrays in (("x", x), ("y", y))
        for name, array in arrays.items()
        if array.ndim
    }
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} in {place}" for place, length in lengths.items())
        raise ShapeError(explain("batch", "x and y hold as many examples as each other", found))
    count = next(iter(lengths.values()), 0)
    if count == 0:
        raise ShapeError(explain("batch", "holds at least one example", "none"))
    return count
