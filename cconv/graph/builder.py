"""GraphBuilder: makes a graph node by node, with shapes checked by the operators' own rules as it grows.

Names follow the layers, as in PyTorch: within the scopes "3" and "body", a weight "weight" becomes
"3.body.weight" and a node Conv "3.body.Conv".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from cconv.errors import CconvError
from cconv.graph.graph import Graph
from cconv.graph.nodes import Node
from cconv.kernels.core.memory import aligned
from cconv.ops.operator import Call
from cconv.ops.tensor import Spec

# A newer opset gives nothing that the layers need, and fewer tools read it. 10 is its IR version.
OPSET = 21
IR_VERSION = 10
BATCH = "N"

G = TypeVar("G", bound=Graph)


@dataclass(frozen=True)
class Value:
    """A value of the graph under construction.

    Attributes:
        shape: without the batch, which is the first axis of every value that is not a weight.
    """

    ir: ir.Value
    spec: Spec

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape[1:]


class GraphBuilder:
    """A graph under construction.

    Args:
        seed: what initial weights are drawn from, together with the number of the layer that asks.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._scopes: list[tuple[str, str]] = []
        self._taken: set[str] = set()
        self._drawn = 0

    @contextlib.contextmanager
    def scope(self, name: str, place: str) -> Iterator[None]:
        """Names given within begin with `name` (unless empty); messages name `place`."""
        self._scopes.append((name, place))
        try:
            yield
        finally:
            self._scopes.pop()

    @property
    def place(self) -> str:
        """Where the graph is growing, for messages: "Sequential[3] Linear"."""
        return "".join(place for _, place in self._scopes)

    def name(self, last: str) -> str:
        """`last` within the current scopes."""
        return ".".join([*(name for name, _ in self._scopes if name), last])

    def random(self) -> np.random.Generator:
        """A generator for the next layer: the same for the same seed, whatever other layers draw.

        Counter-based (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011), keyed by seed and
        layer, so streams never overlap.
        """
        self._drawn += 1
        return np.random.Generator(np.random.Philox(key=np.array([self.seed, self._drawn], dtype=np.uint64)))

    def input(self, shape: Sequence[int], name: str = "input") -> Value:
        """The graph's input, float32, of a batch of any size."""
        return self._value(name, Spec((1, *shape), np.dtype(np.float32)))

    def weight(self, name: str, array: np.ndarray) -> Value:
        """An initializer in the current scope."""
        name = self.name(name)
        assert name not in self.initializers, name
        array = aligned(np.asarray(array))
        tensor = ir.Tensor(array, name=name)
        self.initializers[name] = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
        )
        self._arrays[name] = array
        return Value(self.initializers[name], Spec(array.shape, array.dtype))

    def node(self, op_type: str, *inputs: Value | None, fix: str = "", **attributes: Any) -> Value:
        """Append a node; returns its first output.

        Args:
            fix: what to do if the operator's shape rule is broken, for the message.
            attributes: the node's; those that are None are left out.

        Raises:
            ShapeError: the operator's shape rule is broken; the message names the layer.
            UnsupportedOpError: no such operator.
        """
        name = self._unique(self.name(op_type))
        node = ir.node(
            op_type,
            [value.ir if value is not None else None for value in inputs],
            attributes={key: value for key, value in attributes.items() if value is not None},
            name=name,
        )
        try:
            spec = self._call(node, inputs, attributes).results[0]
        except CconvError as error:
            place = f"{self.place}: " if self.place else ""
            raise type(error)(f"{place}{error}{f' {fix}' if fix else ''}") from None
        output = node.outputs[0]
        output.name = name
        output.type = ir.TensorType(ir.DataType.from_numpy(spec.dtype))
        output.shape = ir.Shape([BATCH, *spec.shape[1:]])
        self.nodes.append(node)
        return Value(output, spec)

    def build(self, input: Value, output: Value, name: str, kind: type[G]) -> G:
        """The finished graph, as an object of class `kind`."""
        if output.ir is input.ir:
            output = self.node("Identity", output)
        output.ir.name = "output"
        graph = ir.Graph(
            [input.ir],
            [output.ir],
            nodes=self.nodes,
            initializers=list(self.initializers.values()),
            opset_imports={"": OPSET},
            name=name,
        )
        model = ir.Model(graph, ir_version=IR_VERSION, producer_name="cconv")
        floats = {key: array for key, array in self._arrays.items() if array.dtype == np.float32}
        declared = [value.name or "" for node in self.nodes for value in node.outputs]
        return kind(model, arrays=floats, declared=declared)

    def _call(self, node: ir.Node, inputs: Sequence[Value | None], attributes: dict[str, Any]) -> Call:
        present = {value.ir.name or "": value for value in inputs if value is not None}
        plain = Node(
            index=len(self.nodes),
            name=node.name or "",
            op_type=node.op_type,
            domain="",
            opset=OPSET,
            inputs=tuple(value.ir.name or "" if value is not None else "" for value in inputs),
            outputs=("output",),
            attributes={key: value for key, value in attributes.items() if value is not None},
        )
        return plain.call({key: value.spec for key, value in present.items()}, self._arrays)

    def _value(self, name: str, spec: Spec) -> Value:
        value = ir.Value(
            name=name,
            type=ir.TensorType(ir.DataType.from_numpy(spec.dtype)),
            shape=ir.Shape([BATCH, *spec.shape[1:]]),
        )
        return Value(value, spec)

    def _unique(self, name: str) -> str:
        count, result = 0, name
        while result in self._taken:
            count += 1
            result = f"{name}_{count}"
        self._taken.add(result)
        return result
