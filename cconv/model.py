"""Model: the public face over the graph and its plans."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir

from cconv.graph import save as saving
from cconv.graph.graph import Graph
from cconv.graph.limits import Limits
from cconv.graph.load import load_graph
from cconv.graph.parts import put_together, take_apart
from cconv.graph.summary import summary
from cconv.plan.session import Session


def load(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    limits: Limits | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Model:
    """The model in an ONNX file, in its bytes, or in an `onnx.ModelProto` (which is left as it is).

    No code of the file is run. Nothing is read but the file and the external data inside its folder. Operators that
    cconv does not have do not prevent loading; running or training the model names them.

    Args:
        source: path, bytes or message.
        limits: sizes beyond which a model is refused.
        base: the folder of external data, for a model that is not given by its path.

    Raises:
        ModelError: not an ONNX model; the message says what it seems to be.
        UnsafeModelError: a model whose parts contradict each other, that exceeds a limit, or whose external
            data lies outside its folder.
        UnsupportedOpError: an opset below 7, or newer than the installed onnx.
        OSError: the file cannot be read.
    """
    return load_graph(source, kind=Model, limits=limits, base=base)


class Model(Graph):
    """An ONNX graph that can be run, trained, edited and saved.

    Copies and pickles have graph and weights of their own; what was compiled to run the model is not copied.

    Attributes:
        ir: the graph itself, an `onnx_ir.Model`. Call `edited()` after a change to it.
        weights: name -> live array, the memory of the initializer: writing to it changes the model.
        constants: name -> array, the initializers of other dtypes (shapes, axes, quantised values).
        limits: sizes beyond which the model is not run.
        declared, external, at_save: what `save` needs to write the file as it was; see Graph.
    """

    def edited(self) -> None:
        """Take note of changes made to `ir`: nodes are read again, new initializers become live weights."""
        super().edited()
        self._session: Session | None = None

    def run(
        self, inputs: Any, threads: int | None = None, precision: str = "fast", batch_size: int | None = None
    ) -> Any:
        """Outputs of the model, as new arrays.

        Args:
            inputs: an array for a model of one input, or a dict of arrays by input name.
            threads: default: `cconv.get_num_threads()`; results do not depend on it.
            precision: "fast", or "direct" to compute no convolution by Winograd's algorithm.
            batch_size: examples to run at a time; the memory is that of so many. None: all at once.

        Returns:
            An array for a model of one output, else a dict of arrays by output name.

        Raises:
            ValueRangeError: names that are not those of the inputs; batch_size for a model whose examples depend
                on each other.
            DTypeError, ShapeError: an array unlike what the model declares.
            UnsupportedOpError: operators that cconv does not have, all of them named.
        """
        if self._session is None:
            self._session = Session(self)
        return self._session.run(inputs, threads, precision, batch_size)

    def summary(self, input_shapes: Mapping[str, Sequence[int]] | None = None) -> str:
        """A table of the nodes: output shape, parameters, floating-point operations of one sample.

        Args:
            input_shapes: by input name, for inputs that leave more open than their first axis, the batch.
        """
        return summary(self, input_shapes)

    def proto(self, finished: bool = True) -> onnx.ModelProto:
        """The model as a message; its weights are copies.

        Args:
            finished: with the edits of `at_save` applied; False: the graph as it is trained.
        """
        return saving.to_message(self.finished() if finished else self.ir, self.declared)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to an ONNX file, whole or not at all.

        Weights that came from external data go to external data again, and so do the large ones of a model of more than
        2 GiB: to files in the same folder, see graph/data_files.py for their names.

        Raises:
            OutputError: a file cannot be written; an earlier one is as it was.
            ModelError: more than 2 GiB beside the initializers, or an edit in `at_save` that no longer fits.
        """
        saving.save(self, path)

    def copy(self) -> Model:
        """A model with graph and weights of its own."""
        return Model(
            self.ir.clone(),
            declared=self.declared,
            limits=self.limits,
            external=self.external,
            at_save=self.at_save,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        message, arrays = take_apart(self)
        options = {
            "declared": self.declared, "limits": self.limits, "external": self.external, "at_save": self.at_save,
        }  # fmt: skip
        return _unpickled, (message, arrays, options)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name}{_dims(spec.dims)}" for name, spec in self.input_specs.items())
        count = sum(self.weights[name].size for name in self.parameters)
        return (
            f"Model({self.ir.graph.name or 'unnamed'!r}: {inputs} -> {', '.join(self.output_names)}; "
            f"{len(self.nodes)} nodes, {count:,} parameters)"
        )


def _unpickled(message: bytes, arrays: Mapping[str, Any], options: dict[str, Any]) -> Model:
    return Model(ir.from_proto(put_together(message, arrays)), **options)


def _dims(dims: tuple[int | str | None, ...] | None) -> str:
    return "(...)" if dims is None else f"({', '.join('?' if n is None else str(n) for n in dims)})"
