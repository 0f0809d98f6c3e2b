"""Datasets: content, order, change and transport, each a small protocol; and Arrays, a dataset in memory.

    Dataset      content    example i by its index; whether it is the same each time; shapes and dtypes without a batch
    Sampler      order      the indices of an epoch, a function of (seed, epoch)
    Transform    change     augmentation, a function of (seed, epoch, index)
    Loader       transport  batches, made of the three; what `fit` and `evaluate` go through

`fit` takes a Loader, a Dataset, or a pair (x, y). Whatever comes out depends on the arguments alone, never on what was
drawn before, so a resumed run sees the batches that it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from cconv.arguments import whole
from cconv.errors import DTypeError, ShapeError, TrainingError, ValueRangeError, explain


class Field(NamedTuple):
    """What a dataset gives for one array.

    Attributes:
        shape: of one example; None for an axis whose size differs between examples.
        dtype: NumPy's.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype


Fields = Field | Mapping[str, Field]


@runtime_checkable
class Dataset(Protocol):
    """Content."""

    @property
    def deterministic(self) -> bool:
        """Whether example i is the same whenever it is taken, so that what is computed of it may be kept."""
        ...

    @property
    def fields(self) -> tuple[Fields, Fields]:
        """What x and y are, without an example being read: a Field each, or Fields by input or output name."""
        ...

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def take(self, indices: np.ndarray) -> Any:
        """The examples of these indices, to be unpacked as x, y: arrays, or dicts of arrays, with examples along axis
        0."""
        ...


class Sampler(Protocol):
    """Order."""

    def order(self, length: int, seed: int, epoch: int) -> np.ndarray:
        """Indices of the examples of an epoch, in their order."""
        ...


class Transform(Protocol):
    """Change.

    Attributes:
        deterministic: whether it does the same to an example in every epoch.
    """

    deterministic: bool

    def __call__(self, x: Any, y: Any, indices: np.ndarray, seed: int, epoch: int) -> tuple[Any, Any]:
        """x and y of these examples, changed. Random numbers follow from (seed, epoch, index)."""
        ...


@runtime_checkable
class Loader(Protocol):
    """Transport.

    One that has all targets in memory, as `y`, gets them checked before the first step. One with `deterministic` true
    also has `y`, `order(shuffle, seed, epoch)` and `take(indices)` (see Batches), so that `fit` can keep what frozen
    layers compute of an example.
    """

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def batches(self, batch_size: int, shuffle: bool, seed: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        """(x, y) after (x, y), every example once."""
        ...


class Shuffled:
    """Every example once, in an order that depends on (seed, epoch) alone."""

    def order(self, length: int, seed: int, epoch: int) -> np.ndarray:
        return shuffled(length, seed, epoch)


class InOrder:
    """Every example once, by its index."""

    def order(self, length: int, seed: int, epoch: int) -> np.ndarray:
        return np.arange(length)


def shuffled(length: int, seed: int, epoch: int = 0) -> np.ndarray:
    """A permutation of `length` examples that depends on (seed, epoch) alone.

    Examples are sorted by the raw numbers of a Philox generator with the key (seed, epoch). NumPy promises that stream
    for all versions, which it does not for `Generator.permutation`, so a run shuffles alike on every machine.

    Raises:
        ValueRangeError: a negative seed or epoch.
    """
    whole("shuffled", "seed", seed, least=0)
    whole("shuffled", "epoch", epoch, least=0)
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(length), kind="stable")


@dataclass(frozen=True)
class Batches:
    """The plain Loader: a dataset's examples in a sampler's order, changed by a transform.

    Args:
        dataset: the content.
        sampler: the order; None: `Shuffled` where batches are asked for with shuffle=True, else `InOrder`.
        transform: the change; None: none.
    """

    dataset: Dataset
    sampler: Sampler | None = None
    transform: Transform | None = None

    @property
    def deterministic(self) -> bool:
        return self.dataset.deterministic and (self.transform is None or self.transform.deterministic)

    @property
    def y(self) -> Any:
        """All targets, if the dataset has them in memory and no transform changes them; else None."""
        return getattr(self.dataset, "y", None) if self.transform is None else None

    @property
    def fields(self) -> tuple[Fields, Fields] | None:
        """What x and y are; None if a transform may change it."""
        return self.dataset.fields if self.transform is None else None

    def __len__(self) -> int:
        return len(self.dataset)

    def order(self, shuffle: bool = False, seed: int = 0, epoch: int = 0) -> np.ndarray:
        """Indices of the examples in the order in which `batches` gives them."""
        sampler = self.sampler or (Shuffled() if shuffle else InOrder())
        return sampler.order(len(self.dataset), seed, epoch)

    def take(self, indices: np.ndarray) -> Any:
        return self._taken(indices, 0, 0)

    def batches(
        self, batch_size: int, shuffle: bool = False, seed: int = 0, epoch: int = 0
    ) -> Iterator[tuple[Any, Any]]:
        order = self.order(shuffle, seed, epoch)
        for begin in range(0, len(order), batch_size):
            yield self._taken(order[begin : begin + batch_size], seed, epoch)

    def _taken(self, indices: np.ndarray, seed: int, epoch: int) -> tuple[Any, Any]:
        x, y = self.dataset.take(indices)
        return (x, y) if self.transform is None else self.transform(x, y, indices, seed, epoch)


class Arrays:
    """Examples x with their targets y, both in memory with the examples along axis 0, as arrays or dicts of arrays.

    `x, y = dataset` takes the two apart. The arrays must not be written to while they are trained on.

    Args:
        x: the inputs (N, ...), or a dict of them by name for a model of several inputs.
        y: the targets, likewise: class indices (N,) int64 for cross-entropy, or values (N, ...).
        finite: look for NaN and infinity now.

    Raises:
        ShapeError: no examples, an array without axes, or arrays of different lengths.
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
            found = ", ".join(f"{length} in {place}" for place, length in lengths.items())
            raise ShapeError(explain("dataset", "x and y hold as many examples as each other", found))
        self._length = next(iter(lengths.values()))

    @property
    def deterministic(self) -> bool:
        """True; a derived class that makes its own batches must say so itself."""
        return type(self).batches is Arrays.batches

    @property
    def fields(self) -> tuple[Fields, Fields]:
        return _fields(self.x), _fields(self.y)

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
        """(x, y) of `batch_size` examples after each other, every example once; the last batch may have fewer.

        Args:
            shuffle: in an order that depends on (seed, epoch), else in the order of the arrays.

        Raises:
            ValueRangeError: a batch size below 1, a negative seed or epoch.
        """
        whole("batches", "batch_size", batch_size, least=1)
        whole("batches", "seed", seed, least=0)
        whole("batches", "epoch", epoch, least=0)
        return Batches(self).batches(batch_size, shuffle, seed, epoch)

    def order(self, shuffle: bool = False, seed: int = 0, epoch: int = 0) -> np.ndarray:
        """Indices (N,) of the examples in the order in which `batches` gives them."""
        return Batches(self).order(shuffle, seed, epoch)

    def take(self, indices: np.ndarray) -> Arrays:
        """The examples at `indices`, in that order."""
        return Arrays(_take(self.x, indices), _take(self.y, indices))

    def split(self, fraction: float, seed: int = 0) -> tuple[Arrays, Arrays]:
        """Two datasets of different examples, chosen by the seed; the first has `fraction` of them, rounded.

        Raises:
            ValueRangeError: a fraction that leaves one of the two without examples.
        """
        first = round(fraction * len(self)) if 0 < fraction < 1 else 0
        if not 0 < first < len(self):
            raise ValueRangeError(
                explain(
                    "split",
                    "fraction lies between 0 and 1 and leaves examples on both sides",
                    f"{fraction} of {len(self)} examples",
                )
            )
        order = shuffled(len(self), seed)
        return self.take(np.sort(order[:first])), self.take(np.sort(order[first:]))

    def subset(self, per_class: int, seed: int = 0) -> Arrays:
        """`per_class` examples of every class in y, chosen by the seed, in the order of the arrays.

        Raises:
            DTypeError, ShapeError: y does not hold one class index per example.
            ValueRangeError: a class has fewer examples than that.
        """
        whole("subset", "per_class", per_class, least=1)
        y = self.y
        if not isinstance(y, np.ndarray) or y.ndim != 1:
            found = f"shape {y.shape}" if isinstance(y, np.ndarray) else "a dict of arrays"
            raise ShapeError(explain("subset", "y is one array of class indices (N,)", found))
        if not np.issubdtype(y.dtype, np.integer):
            raise DTypeError(explain("subset", "y holds class indices", str(y.dtype)))
        order = shuffled(len(self), seed)
        chosen = []
        for label in np.unique(y):
            those = order[y[order] == label]
            if len(those) < per_class:
                raise ValueRangeError(
                    explain(
                        "subset",
                        f"every class has at least per_class={per_class} examples",
                        f"{len(those)} of class {label}",
                    )
                )
            chosen.append(those[:per_class])
        return self.take(np.sort(np.concatenate(chosen)))


def loader_of(value: Any, what: str) -> Loader:
    """A loader, a dataset, or a pair (x, y), as a loader.

    Raises:
        TrainingError: something else; the message says what to write.
        ShapeError: no examples, or x and y of different lengths.
        DTypeError: a pair of arrays that do not hold numbers.
    """
    if isinstance(value, tuple) and len(value) == 2:
        return Arrays(*value)
    if isinstance(value, Loader):
        found: Loader = value
    elif isinstance(value, Dataset):
        found = Batches(value)
    else:
        raise TrainingError(
            explain(
                what,
                "is a pair (x, y) of arrays, a dataset or a loader (see cconv.data)",
                type(value).__name__,
                _cure(value, what),
            )
        )
    if len(found) == 0:
        raise ShapeError(explain(what, "holds at least one example", "none"))
    return found


def _cure(value: Any, what: str) -> str:
    """What to write instead."""
    if isinstance(value, (np.ndarray, Mapping)):
        return f"Give x and y as one pair: fit(({'x, y' if what == 'train' else 'x_val, y_val'}), epochs=...)."
    if type(value).__module__.startswith("torch."):
        return (
            "Collect its batches into arrays: x, y = (np.concatenate([np.asarray(part) for part in side]) "
            "for side in zip(*loader)); fit((x, y), epochs=...)."
        )
    if isinstance(value, Iterator) or callable(value):
        return (
            "A generator can be gone through once and has no length; write a class with __len__ and "
            "batches(batch_size, shuffle, seed, epoch)."
        )
    return ""


def _arrays(value: Any, side: str) -> Any:
    if not isinstance(value, Mapping):
        return np.asarray(value)
    if not value:
        raise ShapeError(explain(f"dataset, {side}", "a dict holds at least one array", "an empty dict"))
    return {name: np.asarray(array) for name, array in value.items()}


def _fields(arrays: Any) -> Fields:
    if isinstance(arrays, np.ndarray):
        return Field(arrays.shape[1:], arrays.dtype)
    return {name: Field(array.shape[1:], array.dtype) for name, array in arrays.items()}


def _named(side: str, arrays: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Each array with the name that messages give it."""
    if isinstance(arrays, np.ndarray):
        yield side, arrays
    else:
        yield from ((f"{side} {name!r}", array) for name, array in arrays.items())


def _check(place: str, array: np.ndarray, finite: bool) -> None:
    place = f"dataset, {place}"
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
        fix = "Convert it before."
        if array.dtype.kind in "USO":
            fix = "Number the labels: names, y = np.unique(labels, return_inverse=True)."
        raise DTypeError(explain(place, "holds numbers", f"{array.dtype}", fix))
    if array.ndim == 0 or len(array) == 0:
        raise ShapeError(explain(place, "has at least one example along axis 0", f"shape {array.shape}"))
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
