"""Caching of frozen layers in `fit`: their outputs are computed once for each example and reused in later epochs.

    keep    decides whether the outputs are cached, and gives a line that tells the user
    Kept    the batches of the trained part of the network; the first epoch computes and caches their inputs

The cache lives for one `fit`. It is discarded if the frozen weights may have been written to between two epochs
(graph/weights.py). Losses and weights have the same bits as without a cache.

The bits of an example's output may depend on the batch size, because large and small batches are summed in different
blocks. They do not depend on the example's position in the batch. So all examples are computed in batches of full size.
The last batch of an epoch may be smaller. If its outputs differ at that size, it is recomputed in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cconv.errors import TrainingError, explain
from cconv.graph.weights import states_of
from cconv.plan.plan import Plan
from cconv.plan.split import Split
from cconv.train.arrays import named
from cconv.train.batch import Batch, Checked, Shapes, Source
from cconv.train.network import Network

# Outputs are cached if the frozen part does at least this share of the forward pass's arithmetic.
LEAST_SHARE = 0.1


class Kept:
    """A loader's batches for the trained part of a network. Its inputs are the outputs of the frozen part.

    Args:
        source: the loader and the checks of its batches.
        network: the whole network.
        split: its two parts.
        batch_size: of all batches that will be asked for.
        shuffle: whether their order will differ from epoch to epoch.

    Attributes:
        network: the part that is trained.
        nbytes: memory that the cache takes once it holds all examples.
    """

    def __init__(self, source: Checked, network: Network, split: Split, batch_size: int, shuffle: bool) -> None:
        self._loader: Any = source.loader  # deterministic, see dataset.Loader
        self._source, self._split, self._shuffle = source, split, shuffle
        self._frozen = network.part(split.frozen)
        self._targets = named(targets_of(source), list(network.losses), "y")
        self._rows: list[tuple[np.ndarray, ...]] | None = None  # by example, the boundary's values
        self._states: list[object] = []  # of the frozen weights when these were computed
        self._alike = True  # whether smaller batches give the same values
        shapes, self._size = source.shapes(batch_size)
        plan = self._plan(shapes)
        dtypes = {name: array.dtype for name, array in plan.outputs.items()}
        self.network = network.part(split.rest, dtypes, plan.layouts)
        self.nbytes = sum(array.nbytes for array in plan.outputs.values()) * len(self) // self._size
        self._shapes = {name: array.shape for name, array in plan.outputs.items()}

    def __len__(self) -> int:
        return len(self._loader)

    def shapes(self, batch_size: int) -> tuple[Shapes, int]:
        return self._shapes, self._size

    def batch(self, x: Any, y: Any) -> Batch:
        batch = self._source.batch(x, y)
        return Batch(self._computed(batch.inputs), batch.targets, batch.examples)

    def batches(self, batch_size: int, shuffle: bool, seed: int, epoch: int) -> Iterator[Batch]:
        """As those of the whole network.

        Raises:
            TrainingError: the dataset's `order` is not that of its batches.
        """
        states = states_of(self.network.graph.weights, self._split.weights)
        if states != self._states:
            self._rows = None
        self._states = states
        order = np.asarray(self._loader.order(shuffle, seed, epoch))
        if self._rows is None:
            yield from self._first_epoch(order, batch_size, shuffle, seed, epoch)
            return
        for begin in range(0, len(order), batch_size):
            index = order[begin : begin + batch_size]
            if len(index) < self._size and not self._alike:
                yield self.batch(*self._loader.take(index))
                continue
            columns = zip(*(self._rows[i] for i in index))
            inputs = {name: np.stack(column) for name, column in zip(self._split.boundary, columns)}
            yield Batch(inputs, {name: array[index] for name, array in self._targets.items()}, len(index))

    def _first_epoch(self, order: np.ndarray, batch_size: int, shuffle: bool, seed: int, epoch: int) -> Iterator[Batch]:
        """Compute and keep all examples."""
        if not np.array_equal(np.sort(order), np.arange(len(self))):
            raise _disorder(f"holds each index from 0 to {len(self) - 1} once", f"{len(order)} others")
        rows: list[tuple[np.ndarray, ...]] = [()] * len(order)
        begin = 0
        for x, y in self._loader.batches(batch_size, shuffle=shuffle, seed=seed, epoch=epoch):
            batch = self._source.batch(x, y)
            index = order[begin : begin + batch_size]
            begin += batch_size
            if len(index) != batch.examples:
                raise _disorder(f"has the examples of its batches, {batch_size} each", f"a batch of {batch.examples}")
            values = full = self._computed(batch.inputs)
            if self._shuffle and batch.examples < self._size:
                places = np.arange(self._size) % batch.examples
                full = self._computed({name: array[places] for name, array in batch.inputs.items()})
                self._alike = all(np.array_equal(values[name], full[name][: len(index)]) for name in values)
            for i, *row in zip(index, *(full[name] for name in self._split.boundary)):
                rows[i] = tuple(row)
            yield Batch(values, batch.targets, batch.examples)
        if begin < len(order):
            found = f"{len(order)} examples, and batches with {begin} of them"
            raise _disorder("has the examples of its batches", found)
        self._rows = rows
        if self._alike:
            self._frozen.plans.clear()

    def _computed(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The boundary's values for a batch, as new arrays."""
        plan = self._plan({name: array.shape for name, array in inputs.items()})
        plan.feed(inputs)
        plan.run()
        return {name: array.copy() for name, array in plan.outputs.items()}

    def _plan(self, shapes: Shapes) -> Plan:
        return self._frozen.values(shapes, self._split.boundary)


def keep(
    network: Network, train: Checked, held_out: Checked | None, batch_size: int, shuffle: bool, limit: float
) -> tuple[Source, Network, Source | None, Network, str]:
    """Both sources with their networks, as Kept if that is possible, and a line for the user: what is kept, or why
    nothing.

    Args:
        limit: bytes that both together may take.

    Returns:
        Source and network for training, source and network for validation, and the line; "" if nothing worth keeping is
        frozen.
    """
    unchanged = (train, network, held_out, network)
    split = network.split(train.shapes(batch_size)[0])
    if split.untrained < LEAST_SHARE:
        return *unchanged, ""
    weights = network.graph.weights
    held = [name for name in split.weights if states_of(weights, [name]) != states_of(weights, [name])]
    kept, why = None, ""
    if split.share < LEAST_SHARE:
        why = split.obstacle or "too little of it can be kept"
    elif held:
        why = f"an array of its weight {held[0]!r} is held by somebody who may write to it"
    elif not can_be_kept(train):
        why = "the dataset does not say that its examples are the same every time (deterministic = True)"
    else:
        kept = Kept(train, network, split, batch_size, shuffle)
        if kept.nbytes > limit:
            why = f"its outputs take {_megabytes(kept.nbytes)}, cache_limit is {_megabytes(limit)}"
    if kept is None or why:
        return *unchanged, f"The frozen part is computed anew in every epoch: {why}."
    nbytes, what = kept.nbytes, "training"
    tested: Source | None = held_out
    tested_network = network
    if held_out is not None and can_be_kept(held_out):
        found = Kept(held_out, network, split, batch_size, shuffle=False)
        if nbytes + found.nbytes <= limit:
            tested, tested_network = found, found.network
            nbytes, what = nbytes + found.nbytes, "training and validation"
    line = (
        f"The frozen part, {split.share:.0%} of the forward pass, is computed once for each example; "
        f"its outputs are kept for {what}: {_megabytes(nbytes)}."
    )
    return kept, kept.network, tested, tested_network, line


def targets_of(source: Checked) -> Any:
    """All targets of a loader that has them in memory; else None."""
    return getattr(source.loader, "y", None)


def can_be_kept(source: Checked) -> bool:
    """Whether a loader says that its examples are the same every time, and gives them by index."""
    loader: Any = source.loader
    return bool(getattr(loader, "deterministic", False)) and targets_of(source) is not None


def _disorder(rule: str, found: str) -> TrainingError:
    return TrainingError(
        explain("dataset", f"order(...) {rule}", found, "Correct it, or train with cache_frozen=False.")
    )


def _megabytes(nbytes: float) -> str:
    return f"{nbytes / 1e6:,.3f} MB"
