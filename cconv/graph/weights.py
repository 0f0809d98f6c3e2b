"""Weights: the live arrays of a model, and the answer to "can anybody have written to them since?".

Plans hold what follows from weights (packed, transformed, folded), which costs as much to make as a small batch does
to run, so it is made anew only where a weight can have changed. Weights are NumPy arrays that anybody may write to at
any time, and nothing tells when an array is written to. But an array that nobody holds is not written to:

- A weight's own memory is known to cconv alone (`memory_of`). Whoever asks for a weight, by `model.weights` or by the
  initializer in `model.ir`, is handed an array that stands on a Lease, which stands on the memory. Views, buffers,
  `w.T`, `memoryview(w)`, tensors of other libraries on the same memory all keep that array and so the Lease alive, as
  they must in NumPy; a weak reference tells whether it is.
- Each handing out gives the weight a new stamp, and so does `touch`, which follows what cconv itself writes (an
  update, `weights[name] = ...`).
- `states_of` gives each weight's stamp, or, while its Lease lives, an object that equals no other. Who notes the
  states, then reads the weights, and later finds equal states, knows: nobody held the weights when they were read,
  nobody was handed them since, and cconv did not write to them. So they are what they were.

Whoever holds an array of a weight while the model runs has what follows from that weight made at every run, as it must
be. Beyond what this sees is only a bare address (`w.ctypes.data`) that is kept longer than the array it is of, which
NumPy does not allow.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from cconv.errors import DTypeError, ShapeError, explain

_stamps = itertools.count()  # never the same twice, in no thread
_handing_out = threading.RLock()


class Lease:
    """What a handed-out array stands on. It lives as long as that array, a view of it or a buffer on it."""

    __slots__ = ("__array_interface__", "__weakref__", "_memory")

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__


def _nothing() -> None:
    """A dead weak reference."""


class Weight:
    """One weight.

    Attributes:
        memory: its array, aligned, C order. Never handed to a user; a write must be followed by a new stamp.
        stamp: changes whenever the memory may have.
    """

    __slots__ = ("__weakref__", "_array", "_lease", "memory", "stamp")

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self._lease: Any = _nothing
        self._array: Any = _nothing
        self.stamp = next(_stamps)

    def array(self) -> np.ndarray:
        """An array on the memory for the user, the same one while he has it."""
        with _handing_out:
            lease = self._lease()
            if lease is None:
                lease = Lease(self.memory)
                self._lease = weakref.ref(lease)
            array = self._array()
            if array is None:
                array = np.asarray(lease)
                self._array = weakref.ref(array)
        self.stamp = next(_stamps)  # after the lease is there; see `state`
        return array

    def state(self) -> object:
        """Equal to a later state only if nobody can have written in between."""
        # In this order: an array that another thread takes in between either still lives or leaves a new stamp.
        stamp = self.stamp
        return stamp if self._lease() is None else object()


class Weights(Mapping[str, np.ndarray]):
    """The model's float32 initializers by name: live, writable arrays in ONNX's layout.

    `weights[name] = array` copies into the live array, whose shape and dtype stay.

    Attributes:
        entries: for cconv's own use; see `memory_of`.
    """

    def __init__(self, entries: Mapping[str, Weight]) -> None:
        self.entries = dict(entries)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._entry(name).array()

    def __setitem__(self, name: str, value: Any) -> None:
        entry, value = self._entry(name), np.asarray(value)
        memory = entry.memory
        if value.shape != memory.shape:
            raise ShapeError(explain(f"weight {name!r}", f"has shape {memory.shape}", f"{value.shape}"))
        if not np.can_cast(value.dtype, memory.dtype, "same_kind"):
            raise DTypeError(explain(f"weight {name!r}", f"is {memory.dtype}", f"{value.dtype}"))
        memory[...] = value
        touch(self, [name])

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        lines = [f"  {name!r}: {entry.memory.dtype} {entry.memory.shape}" for name, entry in self.entries.items()]
        return "\n".join([f"Weights({len(self)}):", *lines])

    def _entry(self, name: str) -> Weight:
        try:
            return self.entries[name]
        except KeyError:
            raise KeyError(f"no weight {name!r}; the model has {', '.join(self.entries) or 'none'}") from None


class Initializer(ir.Tensor):
    """A weight as the graph has it: a tensor whose value is handed out as `model.weights` does.

    The graph of onnx_ir is a web of references in circles, which Python frees only when its garbage collector runs. So
    an initializer refers to its weight weakly; the Graph and the `ir.Model` own it. When both are gone, the memory is
    free.

    Copies and pickles are plain tensors with values of their own.
    """

    __slots__ = ("_weight",)

    def __init__(self, weight: Weight, **options: Any) -> None:
        self._weight = weakref.ref(weight)
        super().__init__(weight.array(), **options)

    @property
    def weight(self) -> Weight:
        """The weight whose memory this is.

        Raises:
            ReferenceError: the model is gone.
        """
        weight = self._weight()
        if weight is None:
            raise ReferenceError(f"initializer {self.name!r}: its model is gone; keep the Model, or its `ir`")
        return weight

    # ir.Tensor reads its value here. If a later version kept the array elsewhere, that would count as one more holder:
    # what is derived from the weight would be derived again at every run, and be right.
    @property
    def _raw(self) -> np.ndarray:
        return self.weight.array()

    @_raw.setter
    def _raw(self, value: np.ndarray) -> None:
        pass

    def __reduce__(self) -> tuple[Any, ...]:
        return ir.Tensor, (self.weight.memory.copy(), None, self.shape, None, self.name, self.doc_string)


# For cconv's own use. Plain arrays in the place of Weights, as tests have them, count as held by somebody.


def memory_of(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights' memory by name, without handing it out: for reading, and for writing with `touch` after it."""
    if not isinstance(weights, Weights):
        return dict(weights)
    return {name: entry.memory for name, entry in weights.entries.items()}


def states_of(weights: Mapping[str, np.ndarray], names: Iterable[str]) -> list[object]:
    """Each weight's state: lists that are equal tell that nobody can have written to these weights in between."""
    if not isinstance(weights, Weights):
        return [object() for _ in names]
    return [weights.entries[name].state() for name in names]


def touch(weights: Mapping[str, np.ndarray], names: Iterable[str]) -> None:
    """These weights have been written to by their memory."""
    if isinstance(weights, Weights):
        stamp = next(_stamps)
        for name in names:
            weights.entries[name].stamp = stamp
