"""Batches, and what `fit` and `evaluate` take them from: a dataset, or a pair (x, y) made into one.

    Data       what a dataset must have
    Repeats    what it may have beside that, if an example is the same every time
    Source     a dataset and the network that its batches are for

The order of a shuffled epoch is a function of (seed, epoch), so a resumed run sees the batches it would have
seen. It is made from the raw numbers of a counter-based generator, a stream that NumPy promises to keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from cconv.errors import ShapeError, TrainingError, explain
from cconv.graph.graph import InputSpec
from cconv.train.arrays import check_finite, check_input, check_lengths, named

if TYPE_CHECKING:
    from cconv.train.plans import Plans


Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class Batch:
    """Inputs checked and converted; targets as they came, for a loss to check against an output."""

    inputs: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    examples: int


def batch_of(
    x: Any, y: Any, specs: Mapping[str, InputSpec], outputs: Sequence[str], finite: bool = False
) -> Batch:
    """x and y by name, against what the model declares of its inputs.

    Raises:
        ShapeError, DTypeError, ValueRangeError: x unlike that, or not as many examples in y.
    """
    inputs, targets = named(x, list(specs), "x"), named(y, outputs, "y")
    sizes: dict[str, int] = {}
    for name, array in inputs.items():
        inputs[name] = check_input(name, array, specs[name], sizes)
        if finite:
            check_finite(name, inputs[name])
    free = {name: array for name, array in inputs.items() if not _fixed(specs[name])}
    return Batch(inputs, targets, check_lengths(free, targets))


def _fixed(spec: InputSpec) -> bool:
    """Whether axis 0 of an input is a number, which check_input compares."""
    return spec.dims is not None and (not spec.dims or isinstance(spec.dims[0], int))


@runtime_checkable
class Data(Protocol):
    """A dataset. One that has all targets at hand as `y` gets them checked before the first step."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def batches(self, batch_size: int, shuffle: bool, seed: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        """(x, y) after (x, y), every example once; what comes depends on the arguments alone."""
        ...


@runtime_checkable
class Repeats(Data, Protocol):
    """A dataset whose example i is the same whenever it comes: nothing is drawn anew, no augmentation.

    Attributes:
        y: all targets, examples along axis 0: an array, or a dict of arrays by output name.
    """

    y: Any

    def order(self, shuffle: bool, seed: int, epoch: int) -> np.ndarray:
        """Indices (N,) of the examples in the order in which `batches` gives them, batch_size at a time."""
        ...

    def take(self, indices: np.ndarray) -> Iterable[Any]:
        """These examples, to be unpacked as x, y."""
        ...


def repeats(data: Data) -> bool:
    """Whether a dataset says that its examples are the same every time.

    Whoever writes another `batches` for a class that says so has not said it: then `order` must be written too.
    """
    own = [vars(kind).keys() & {"order", "batches"} for kind in type(data).__mro__]
    return isinstance(data, Repeats) and data.y is not None and "order" in next(names for names in own if names)


class Source:
    """A dataset and the network that its batches are for.

    Args:
        data: the dataset.
        plans: of the network.
        specs: what the model declares of its inputs.
        finite: look for NaN and infinity in every batch.
    """

    def __init__(self, data: Data, plans: Plans, specs: Mapping[str, InputSpec], finite: bool = False) -> None:
        self.data, self.plans, self._specs, self._finite = data, plans, specs, finite
        self._known: dict[int, tuple[Shapes, int]] = {}

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, x: Any, y: Any) -> Batch:
        """See batch_of."""
        return batch_of(x, y, self._specs, list(self.plans.losses), self._finite)

    def batches(self, batch_size: int, shuffle: bool, seed: int, epoch: int) -> Iterator[Batch]:
        """The dataset's batches, checked and converted; their inputs are those of `plans`."""
        for x, y in self.data.batches(batch_size, shuffle=shuffle, seed=seed, epoch=epoch):
            yield self.batch(x, y)

    def shapes(self, batch_size: int) -> tuple[Shapes, int]:
        """Shapes of the inputs of a batch, and how many examples it has: as many as the largest."""
        size = min(batch_size, len(self))
        if size not in self._known:
            batch = next(self.batches(size, shuffle=False, seed=0, epoch=0))
            self._known[size] = {name: array.shape for name, array in batch.inputs.items()}, batch.examples
        return self._known[size]


class Arrays:
    """x and y that lie in memory, examples along axis 0: arrays, or dicts of arrays by name."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = _arrays(x), _arrays(y)
        self._length = check_lengths(_by_name(self.x), _by_name(self.y))

    def __len__(self) -> int:
        return self._length

    def batches(self, batch_size: int, shuffle: bool, seed: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        order = shuffled(len(self), seed, epoch) if shuffle else None
        for begin in range(0, len(self), batch_size):
            part = slice(begin, begin + batch_size)
            index = part if order is None else order[part]
            yield _take(self.x, index), _take(self.y, index)

    def order(self, shuffle: bool, seed: int, epoch: int) -> np.ndarray:
        return shuffled(len(self), seed, epoch) if shuffle else np.arange(len(self))

    def take(self, indices: np.ndarray) -> tuple[Any, Any]:
        return _take(self.x, indices), _take(self.y, indices)


def shuffled(length: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of `length` examples that depends on (seed, epoch) alone."""
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(length), kind="stable")


def data_of(value: Any, what: str) -> Data:
    """A dataset, or a pair (x, y) as one.

    Raises:
        TrainingError: something else.
        ShapeError: no examples, or x and y of different lengths.
    """
    if isinstance(value, tuple) and len(value) == 2:
        return Arrays(*value)
    if not isinstance(value, Data):
        raise TrainingError(
            explain(
                what,
                "is a pair (x, y) of arrays, or a dataset with batches(...) and a length",
                type(value).__name__,
            )
        )
    if len(value) == 0:
        raise ShapeError(explain(what, "holds at least one example", "none"))
    return value


def _arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: np.asarray(array) for name, array in value.items()}
    return np.asarray(value)


def _by_name(value: Any) -> Mapping[str, np.ndarray]:
    return value if isinstance(value, Mapping) else {"": value}


def _take(value: Any, index: Any) -> Any:
    return {name: array[index] for name, array in value.items()} if isinstance(value, dict) else value[index]
