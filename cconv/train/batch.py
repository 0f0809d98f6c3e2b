"""Batches: x and y by name, checked against what the model declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cconv.graph.graph import InputSpec
from cconv.train.arrays import check_finite, check_input, check_lengths, named
from cconv.train.dataset import Field, Loader

Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class Batch:
    """Inputs checked and converted; targets by name, for a loss to check against an output."""

    inputs: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    examples: int

    @property
    def shapes(self) -> Shapes:
        return {name: array.shape for name, array in self.inputs.items()}


def batch_of(x: Any, y: Any, specs: Mapping[str, InputSpec], outputs: Sequence[str], finite: bool = False) -> Batch:
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


class Source(Protocol):
    """Where the batches of an epoch come from: a loader (Checked), or the outputs of frozen layers (frozen.Kept)."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def batches(self, batch_size: int, shuffle: bool, seed: int, epoch: int) -> Iterator[Batch]: ...

    def shapes(self, batch_size: int) -> tuple[Shapes, int]:
        """Shapes of the inputs of a full batch, and how many examples it has."""
        ...


class Checked:
    """A loader's batches, each checked once.

    Args:
        loader: gives x and y.
        specs: what the model declares of its inputs.
        outputs: names of the outputs that have a loss.
        finite: look for NaN and infinity in every batch.
    """

    def __init__(
        self, loader: Loader, specs: Mapping[str, InputSpec], outputs: Sequence[str], finite: bool = False
    ) -> None:
        self.loader, self._specs, self._outputs, self._finite = loader, specs, outputs, finite
        self._known: dict[int, tuple[Shapes, int]] = {}

    def __len__(self) -> int:
        return len(self.loader)

    def batch(self, x: Any, y: Any) -> Batch:
        """See batch_of."""
        return batch_of(x, y, self._specs, self._outputs, self._finite)

    def batches(self, batch_size: int, shuffle: bool, seed: int, epoch: int) -> Iterator[Batch]:
        for x, y in self.loader.batches(batch_size, shuffle=shuffle, seed=seed, epoch=epoch):
            yield self.batch(x, y)

    def shapes(self, batch_size: int) -> tuple[Shapes, int]:
        size = min(batch_size, len(self))
        if size not in self._known:
            self._known[size] = self._declared(size) or self._drawn(size)
        return self._known[size]

    def _declared(self, size: int) -> tuple[Shapes, int] | None:
        """What the loader says of a batch without drawing one; None if it does not say all."""
        fields = getattr(self.loader, "fields", None)
        if fields is None:
            return None
        x = {next(iter(self._specs)): fields[0]} if isinstance(fields[0], Field) else fields[0]
        if set(x) != set(self._specs) or any(n is None for field in x.values() for n in field.shape):
            return None
        blank = np.zeros((), np.bool_)
        sizes: dict[str, int] = {}
        shapes = {}
        for name, spec in self._specs.items():
            array = np.broadcast_to(blank, (size, *x[name].shape))
            shapes[name] = check_input(name, array, spec._replace(dtype=array.dtype), sizes).shape
        return shapes, size

    def _drawn(self, size: int) -> tuple[Shapes, int]:
        batch = next(self.batches(size, shuffle=False, seed=0, epoch=0))
        return batch.shapes, batch.examples
