"""Graph: an ONNX graph with live weights, as load.py makes it and save.py writes it.

`cconv.Model` (cconv/model.py) is a Graph that can be run. What only reads or edits a graph takes a Graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from cconv.errors import ModelError, explain
from cconv.graph.at_save import AtSave, finished
from cconv.graph.data_files import Entries
from cconv.graph.limits import DEFAULT, Limits
from cconv.graph.nodes import Node, array_of, nodes_of
from cconv.graph.sequences import without_sequences
from cconv.graph.statistics import with_given_statistics
from cconv.graph.weights import Initializer, Weight, Weights
from cconv.kernels.core.memory import aligned


class InputSpec(NamedTuple):
    """What a model declares of an input.

    Attributes:
        dims: for each axis its size, its symbolic name, or None for any size; None: any number of axes.
        dtype: NumPy's.
    """

    dims: tuple[int | str | None, ...] | None
    dtype: np.dtype


class Graph:
    """An ONNX graph: nodes, live weights, and what the file it came from said of them.

    Attributes:
        ir: the graph itself, an `onnx_ir.Model`. Call `edited()` after a change to it.
        weights: name -> live array, the memory of the initializer: writing to it changes the model.
        constants: name -> array, the initializers of other dtypes (shapes, axes, quantised values).
        limits: sizes beyond which the model is not run.
        declared: names in value_info, in order; see graph/save.py.
        external: initializers that came from external data and go there again, each with what the file said of it.
        at_save: edits that are applied to the graph when it is saved, the last one first; see graph/at_save.py.
    """

    def __init__(
        self,
        model: ir.Model,
        *,
        arrays: Mapping[str, np.ndarray] | None = None,
        declared: Sequence[str] = (),
        limits: Limits | None = None,
        external: Mapping[str, Entries] | None = None,
        at_save: Sequence[AtSave] = (),
    ) -> None:
        """Take over a graph; its float32 initializers move to arrays of their own.

        Args:
            arrays: those that have moved already, by name; the caller keeps none of them.
            Others as the attributes.
        """
        self.ir = model
        self.limits = limits or DEFAULT
        self.weights = Weights({name: Weight(array) for name, array in (arrays or {}).items()})
        self.constants: dict[str, np.ndarray] = {}
        self.declared = tuple(declared)
        self.external = dict(external or {})
        self.at_save = tuple(at_save)
        for name, weight in self.weights.entries.items():
            _point_at(model.graph.initializers[name], weight)
        self.edited()

    def edited(self) -> None:
        """Take note of changes made to `ir`: nodes are read again, new initializers become live weights."""
        weights: dict[str, Weight] = {}
        self.constants = {}
        for name, value in self.ir.graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                raise ModelError(explain(f"initializer {name!r}", "has a value", "none"))
            if tensor.dtype != ir.DataType.FLOAT:
                self.constants[name] = array_of(tensor, f"initializer {name!r}")
                continue
            weight = self.weights.entries.get(name)
            if weight is None or not isinstance(tensor, ir.Tensor) or tensor.raw is not weight.array():
                weight = Weight(aligned(tensor.numpy()))
            if not isinstance(tensor, Initializer) or tensor.weight is not weight:
                _point_at(value, weight)
            weights[name] = weight
        self.weights = Weights(weights)
        # An initializer refers to its weight weakly (see Initializer), so `ir` alone must keep the weights alive.
        self.ir.meta["cconv.weights"] = self.weights
        self._nodes: list[Node] | None = None

    @property
    def nodes(self) -> list[Node]:
        """The graph's nodes as plain values, in order."""
        if self._nodes is None:
            nodes = without_sequences(nodes_of(self.ir, self.limits), self.constants)
            self._nodes = with_given_statistics(nodes)
        return self._nodes

    @property
    def input_names(self) -> list[str]:
        """Inputs that the caller gives: those without an initializer."""
        return [v.name or "" for v in self.ir.graph.inputs if v.name not in self.ir.graph.initializers]

    @property
    def output_names(self) -> list[str]:
        return [v.name or "" for v in self.ir.graph.outputs]

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """What the model declares of each input that the caller gives, in order."""
        values = {value.name: value for value in self.ir.graph.inputs}
        return {name: _input_spec(values[name]) for name in self.input_names}

    @property
    def parameters(self) -> list[str]:
        """Names of the weights that a gradient can reach by their place in the graph.

        Not among them are running statistics, and numbers that set an operator's behaviour (the bounds of a
        Clip, the rate of a Dropout).
        """
        found: set[str] = set()
        for node in self.nodes:
            operator = node.operator
            found.update(name for i, name in enumerate(node.inputs) if operator is None or operator.leads_to(i))
        return [name for name in self.weights if name in found]

    @property
    def output_dtypes(self) -> dict[str, np.dtype | None]:
        """What the model declares of each output; None where it does not."""
        return {value.name or "": _dtype(value) for value in self.ir.graph.outputs}

    def finished(self) -> ir.Model:
        """The graph as it is to be saved: `ir`, or where edits wait for that, a copy with them made."""
        return finished(self.ir, self.at_save)


def _point_at(value: ir.Value, weight: Weight) -> None:
    """Make the weight's memory that of an initializer."""
    tensor = value.const_value
    value.const_value = Initializer(
        weight,
        name=value.name,
        doc_string=tensor.doc_string if tensor else None,
        metadata_props=dict(tensor.metadata_props) if tensor else None,
    )


def _input_spec(value: ir.Value) -> InputSpec:
    dims = None
    if value.shape is not None:
        # -1 is how some exporters spell "any size".
        dims = tuple((n if n >= 0 else None) if isinstance(n, int) else n.value for n in value.shape)
    dtype = _dtype(value)
    return InputSpec(dims, np.dtype(np.float32) if dtype is None else dtype)


def _dtype(value: ir.Value) -> np.dtype | None:
    """The declared dtype as NumPy has it."""
    dtype = value.dtype
    return None if dtype is None or dtype == ir.DataType.UNDEFINED else dtype.numpy()
