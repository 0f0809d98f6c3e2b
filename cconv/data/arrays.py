"""Arrays: a dataset that lies in memory.

Every order that it makes is a function of its arguments, the one that `Trainer.fit` uses too: samples are
sorted by random numbers of a Philox generator with the key (seed, epoch). NumPy promises that stream for all
versions, which it does not for `Generator.permutation`, so a run shuffles alike on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cconv.errors import DTypeError, ShapeError, ValueRangeError, explain
from cconv.train.batches import shuffled


class Arrays:
    """Samples x with their targets y, both with the samples along axis 0, as arrays or dicts of arrays.

    `x, y = dataset` takes the two apart.

    Args:
        x: the inputs (N, ...), or a dict of them by name for a model of several inputs.
        y: the targets, likewise: class indices (N,) int64 for cross-entropy, or values (N, ...).
        finite: look for NaN and infinity now.

    Raises:
        ShapeError: no samples, an array without axes, or arrays of different lengths.
        DTypeError: an array that does not hold numbers.
        ValueRangeError: NaN or infinity in an array, with `finite`.
    """

    def __init__(self, x: Any, y: Any, finite: bool = False) -> None:
        self.x = _arrays(x, "x")
        self.y = _arrays(y, "y")
        lengths = {}
        for side, arrays in (("x", self.x), ("y", self.y)):
            for place, array in _named(side, arrays):
                _check(place, array, finite)
                lengths[place] = len(array)
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{place} of {length}" for place, length in lengths.items())
            raise ShapeError(explain("dataset", "x and y have as many samples as each other", found))
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return iter((self.x, self.y))

    def __repr__(self) -> str:
        parts = [
            f"{place} {array.dtype} {array.shape}"
            for side, arrays in (("x", self.x), ("y", self.y))
            for place, array in _named(side, arrays)
        ]
        return f"Arrays({', '.join(parts)})"

    def batches(
        self, batch_size: int, shuffle: bool = False, seed: int = 0, epoch: int = 0
    ) -> Iterator[tuple[Any, Any]]:
        """(x, y) of `batch_size` samples after each other, every sample once; the last may have fewer.

        Args:
            shuffle: in an order that depends on (seed, epoch), else in the order of the arrays.

        Raises:
            ValueRangeError: a batch size below 1, a negative seed or epoch.
        """
        _at_least("batch_size", batch_size, 1)
        order = _order(len(self), seed, epoch) if shuffle else None
        return self._batches(batch_size, order)

    def _batches(self, batch_size: int, order: np.ndarray | None) -> Iterator[tuple[Any, Any]]:
        for begin in range(0, len(self), batch_size):
            part = slice(begin, begin + batch_size)
            index = part if order is None else order[part]
            yield _take(self.x, index), _take(self.y, index)

    def order(self, shuffle: bool = False, seed: int = 0, epoch: int = 0) -> np.ndarray:
        """Indices (N,) of the samples in the order in which `batches` gives them.

        By this method a dataset says that a sample is the same every time, so that `Trainer.fit` may keep what the
        frozen part of a network makes of it. The arrays must not change meanwhile.

        Raises:
            ValueRangeError: a negative seed or epoch.
        """
        return _order(len(self), seed, epoch) if shuffle else np.arange(len(self))

    def take(self, indices: np.ndarray) -> Arrays:
        """The samples at `indices`, in that order."""
        return Arrays(_take(self.x, indices), _take(self.y, indices))

    def split(self, fraction: float, seed: int = 0) -> tuple[Arrays, Arrays]:
        """Two datasets of different samples, chosen by the seed; the first has `fraction` of them, rounded.

        Raises:
            ValueRangeError: a fraction that leaves one of the two without samples.
        """
        first = round(fraction * len(self)) if 0 < fraction < 1 else 0
        if not 0 < first < len(self):
            raise ValueRangeError(
                explain(
                    "split",
                    "fraction lies between 0 and 1 and leaves samples on both sides",
                    f"{fraction} of {len(self)} samples",
                )
            )
        order = _order(len(self), seed)
        return self.take(np.sort(order[:first])), self.take(np.sort(order[first:]))

    def subset(self, per_class: int, seed: int = 0) -> Arrays:
        """`per_class` samples of every class in y, chosen by the seed, in the order of the arrays.

        Raises:
            DTypeError, ShapeError: y does not hold one class index per sample.
            ValueRangeError: a class has fewer samples than that.
        """
        _at_least("per_class", per_class, 1)
        y = self.y
        if not isinstance(y, np.ndarray) or y.ndim != 1:
            found = f"shape {y.shape}" if isinstance(y, np.ndarray) else "a dict of arrays"
            raise ShapeError(explain("subset", "y is one array of class indices (N,)", found))
        if not np.issubdtype(y.dtype, np.integer):
            raise DTypeError(explain("subset", "y holds class indices", str(y.dtype)))
        order = _order(len(self), seed)
        chosen = []
        for label in np.unique(y):
            those = order[y[order] == label]
            if len(those) < per_class:
                raise ValueRangeError(
                    explain(
                        "subset",
                        f"every class has at least per_class={per_class} samples",
                        f"{len(those)} of class {label}",
                    )
                )
            chosen.append(those[:per_class])
        return self.take(np.sort(np.concatenate(chosen)))


def _order(length: int, seed: int, epoch: int = 0) -> np.ndarray:
    """A permutation of `length` samples."""
    _at_least("seed", seed, 0)
    _at_least("epoch", epoch, 0)
    return shuffled(length, seed, epoch)


def _arrays(value: Any, side: str) -> Any:
    if not isinstance(value, Mapping):
        return np.asarray(value)
    if not value:
        raise ShapeError(explain(f"dataset, {side}", "a dict holds at least one array", "an empty dict"))
    return {name: np.asarray(array) for name, array in value.items()}


def _named(side: str, arrays: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Each array with the name it has in messages."""
    if isinstance(arrays, np.ndarray):
        yield side, arrays
    else:
        yield from ((f"{side}[{name!r}]", array) for name, array in arrays.items())


def _check(place: str, array: np.ndarray, finite: bool) -> None:
    place = f"dataset, {place}"
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
        raise DTypeError(explain(place, "holds numbers", f"{array.dtype}", "Convert it before."))
    if array.ndim == 0 or len(array) == 0:
        raise ShapeError(explain(place, "has at least one sample along axis 0", f"shape {array.shape}"))
    if finite and np.issubdtype(array.dtype, np.inexact):
        bad = ~np.isfinite(array)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueRangeError(
                explain(place, "every value is finite", f"{bad.sum()} that are not, the first at {at}")
            )


def _take(arrays: Any, index: slice | np.ndarray) -> Any:
    if isinstance(arrays, np.ndarray):
        return arrays[index]
    return {name: array[index] for name, array in arrays.items()}


def _at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueRangeError(explain(name, f"is a whole number of at least {least}", repr(value)))
