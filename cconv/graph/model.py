"""Model: an ONNX graph with live weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from cconv.errors import ModelError, explain
from cconv.graph import save as saving
from cconv.graph.at_save import AtSave, finished
from cconv.graph.data_files import Entries
from cconv.graph.limits import DEFAULT, Limits
from cconv.graph.nodes import Node, array_of, nodes_of
from cconv.graph.sequences import without_sequences
from cconv.graph.statistics import with_given_statistics
from cconv.graph.summary import summary
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


class Model:
    """An ONNX graph that can be run, trained, edited and saved.

    Attributes:
        ir: the graph itself, an `onnx_ir.Model`. Call `edited()` after a change to it.
        weights: name -> live array, the memory of the initializer: writing to it changes the model.
        constants: name -> array, the initializers of other dtypes (shapes, axes, quantised values).
        limits: sizes beyond which the model is not run.
        declared: names in value_info, in order; see graph/save.py.
        external: initializers that came from external data and go there again, each with what the file said of it.
        at_save: edits of what `save` writes, in the order in which what they undo was done; see graph/at_save.py.
        repairs: what `finetune.repair` did to make this model, and the proof of it; None for one not repaired.
    """

    _session: ClassVar[Callable[[Model], Any]]
    """Makes the object behind `run`; set by cconv.plan, which lies below this layer."""

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
        self.repairs: Any = None
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
        self._nodes: list[Node] | None = None
        self._runner: Any = None

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

    def run(self, inputs: Any, threads: int | None = None, precision: str = "fast") -> Any:
        """Outputs of the model, as new arrays.

        Args:
            inputs: an array for a model of one input, or a dict of arrays by input name.
            threads: default: `cconv.get_num_threads()`; results do not depend on it.
            precision: "fast", or "direct" to compute no convolution by Winograd's algorithm.

        Returns:
            An array for a model of one output, else a dict of arrays by output name.

        Raises:
            ValueRangeError: names that are not those of the inputs.
            DTypeError, ShapeError: an array unlike what the model declares.
            UnsupportedOpError: operators that cconv does not have, all of them named.
        """
        if self._runner is None:
            self._runner = Model._session(self)
        return self._runner.run(inputs, threads, precision)

    def summary(self, input_shapes: Mapping[str, Sequence[int]] | None = None) -> str:
        """A table of the nodes: output shape, parameters, floating-point operations of one sample.

        Args:
            input_shapes: by input name, for inputs that leave more open than their first axis, the batch.
        """
        return summary(self, input_shapes)

    def finished(self) -> ir.Model:
        """The graph as it is to be saved: `ir`, or where edits wait for that, a copy with them made."""
        return finished(self.ir, self.at_save)

    def proto(self, finished: bool = True) -> onnx.ModelProto:
        """The model as a message; its weights are copies.

        Args:
            finished: with the edits made that wait until the model is saved; False: the graph as it is trained.
        """
        return saving.to_message(self.finished() if finished else self.ir, self.declared)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to an ONNX file, whole or not at all.

        Weights that came from external data go to external data again, and the large ones of a model of more than 2 GiB
        as well: to files in the same folder, see graph/data_files.py for their names.

        Raises:
            OutputError: a file cannot be written; an earlier one is as it was.
            ModelError: more than 2 GiB beside the initializers, or an edit in `at_save` that no longer fits.
        """
        saving.save(self, path)

    def copy(self) -> Model:
        """A model of its own: graph and weights."""
        return Model(
            self.ir.clone(deep_copy=True),
            declared=self.declared,
            limits=self.limits,
            external=self.external,
            at_save=self.at_save,
        )

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name}{_dims(spec.dims)}" for name, spec in self.input_specs.items())
        count = sum(self.weights[name].size for name in self.parameters)
        return (
            f"Model({self.ir.graph.name or 'unnamed'!r}: {inputs} -> {', '.join(self.output_names)}; "
            f"{len(self.nodes)} nodes, {count:,} parameters)"
        )


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


def _dims(dims: tuple[int | str | None, ...] | None) -> str:
    return "(...)" if dims is None else f"({', '.join('?' if n is None else str(n) for n in dims)})"
