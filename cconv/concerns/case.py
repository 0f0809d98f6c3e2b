"""A case: a model and what several findings about it need, each found out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from cconv.errors import ShapeError
from cconv.graph.nodes import Node, needed_for
from cconv.graph.shapes import input_shapes_at, trace
from cconv.model import Model
from cconv.ops.operator import Call
from cconv.ops.tensor import Spec

# The side of an image where the model leaves it open and nobody says.
SIDE = 224


class Case:
    """A model under examination.

    Attributes:
        model: it is not changed.
        batch: examples of a step, where the model leaves that open.
        given: shapes of inputs, by name.
        memory: bytes of a training step, once one has been laid out.
    """

    def __init__(self, model: Model, batch: int = 32, given: Mapping[str, Sequence[int]] | None = None) -> None:
        self.model = model
        self.batch = batch
        self.given = dict(given or {})
        self.memory: int | None = None

    @cached_property
    def guessed(self) -> dict[str, tuple[int, ...]]:
        """Shapes of inputs whose height and width are open, taken to be SIDE."""
        found = {}
        for name, (dims, _) in self.model.input_specs.items():
            if name in self.given or dims is None or all(isinstance(n, int) for n in dims[1:]):
                continue
            if len(dims) in (3, 4, 5) and isinstance(dims[1], int):
                sizes = [n if isinstance(n, int) else SIDE for n in dims[1:]]
                found[name] = (dims[0] if isinstance(dims[0], int) else 1, *sizes)
        return found

    def specs(self, batch: int | None = None) -> dict[str, Spec] | None:
        """The inputs at a batch size; None where the model does not say enough."""
        shapes = {**self.guessed, **self.given}
        try:
            return input_shapes_at(self.model, batch or self.batch, shapes)
        except ShapeError:
            return None

    @cached_property
    def calls(self) -> list[tuple[Node, Call | None]]:
        """Each node at the shapes of `specs`; none where these are not known."""
        specs = self.specs()
        return trace(self.model, specs) if specs else []

    @cached_property
    def shapes(self) -> dict[str, Spec]:
        """What is known of the nodes' outputs."""
        found: dict[str, Spec] = {}
        for node, call in self.calls:
            if call is not None:
                found.update(zip(node.outputs, call.results))
        return found

    @cached_property
    def needed(self) -> list[Node]:
        """The nodes that an output depends on."""
        return needed_for(self.model.nodes, self.model.output_names)

    @cached_property
    def carrying(self) -> set[str]:
        """Values that a gradient from an output comes to, as far as operators have gradients."""
        found = set(self.model.output_names)
        for node in reversed(self.needed):
            if found.isdisjoint(node.outputs):
                continue
            operator = node.operator
            led = (name for i, name in enumerate(node.inputs) if operator is None or operator.leads_to(i))
            found.update(name for name in led if name)
        return found

    @cached_property
    def weights_before(self) -> dict[str, frozenset[str]]:
        """The parameters that each value follows from, by more than their shape; of every value that has some."""
        parameters = set(self.model.parameters)
        found: dict[str, frozenset[str]] = {name: frozenset((name,)) for name in parameters}
        for node in self.model.nodes:
            if node.op_type in ("Shape", "Size"):
                continue
            before = frozenset().union(*(found.get(name, ()) for name in node.inputs))
            if before:
                found.update(dict.fromkeys(node.outputs, before))
        return found

    @cached_property
    def fixed_batch(self) -> int | None:
        """The batch size that the inputs are declared with; None where it is open."""
        sizes = [dims[0] for dims, _ in self.model.input_specs.values() if dims is not None and len(dims) > 1]
        fixed = [n for n in sizes if isinstance(n, int)]
        return fixed[0] if fixed and len(fixed) == len(sizes) else None

    @cached_property
    def batched(self) -> list[str]:
        """The inputs whose first axis is the batch: it is open, or as long as `fixed_batch`."""
        return [
            name
            for name, (dims, _) in self.model.input_specs.items()
            if dims is None
            or (dims and (dims[0] == self.fixed_batch and len(dims) > 1 if self.fixed_batch else not _whole(dims[0])))
        ]


def _whole(size: int | str | None) -> bool:
    return isinstance(size, int)


def is_floating(spec: Spec | None) -> bool:
    return spec is None or bool(np.issubdtype(spec.dtype, np.floating))
