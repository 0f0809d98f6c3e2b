"""Model: an ONNX graph with live weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from cconv.errors import DTypeError, ModelError, ShapeError, explain
from cconv.graph.nodes import Node, nodes_of
from cconv.kernels.memory import aligned


class Weights(Mapping[str, np.ndarray]):
    """The model's floating-point initializers by name: live, writable arrays in ONNX's layout.

    `weights[name] = array` copies into the live array, whose shape and dtype stay.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._arrays[name]
        except KeyError:
            raise KeyError(f"no weight {name!r}; the model has {', '.join(self._arrays) or 'none'}") from None

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        array, value = self[name], np.asarray(value)
        if value.shape != array.shape:
            raise ShapeError(explain(f"weight {name!r}", f"has shape {array.shape}", f"{value.shape}"))
        if not np.can_cast(value.dtype, array.dtype, "same_kind"):
            raise DTypeError(explain(f"weight {name!r}", f"is {array.dtype}", f"{value.dtype}"))
        array[...] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


class Model:
    """An ONNX graph that can be run, trained, edited and saved.

    Attributes:
        ir: the graph itself, an `onnx_ir.Model`; weights are its initializers.
        weights: name -> live array.
    """

    _session: ClassVar[Callable[[Model], Any]]
    """Makes the object behind `run`; set by cconv.plan, which lies below this layer."""

    def __init__(self, model: ir.Model) -> None:
        self.ir = model
        self._nodes: list[Node] | None = None
        self._runner: Any = None
        weights = {}
        self.constants: dict[str, np.ndarray] = {}
        for name, value in model.graph.initializers.items():
            if value.const_value is None:
                raise ModelError(explain(f"initializer {name!r}", "has a value", "none"))
            array = value.const_value.numpy()
            if array.dtype == np.float32:
                weights[name] = aligned(array)
                value.const_value = ir.Tensor(weights[name], name=name)
            else:
                self.constants[name] = array
        self.weights: MutableMapping[str, np.ndarray] | Weights = Weights(weights)

    @property
    def nodes(self) -> list[Node]:
        """The graph's nodes as plain values, in order."""
        if self._nodes is None:
            self._nodes = nodes_of(self.ir)
        return self._nodes

    @property
    def input_names(self) -> list[str]:
        """Inputs that the caller gives: those without an initializer."""
        return [v.name or "" for v in self.ir.graph.inputs if v.name not in self.ir.graph.initializers]

    @property
    def output_names(self) -> list[str]:
        return [v.name or "" for v in self.ir.graph.outputs]

    def run(self, inputs: Any, threads: int | None = None) -> Any:
        """Outputs of the model: an array for one input and one output, dicts by name for several."""
        if self._runner is None:
            self._runner = Model._session(self)
        return self._runner.run(inputs, threads)
