"""Case: a model under examination and facts about it that several concerns use, each computed once."""

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

# Assumed height and width in pixels of an input image, if neither the model nor the user gives them.
SIDE = 224


class Case:
    """A model under examination.

    Attributes:
        model: the model; it is not changed.
        batch: examples per training step, if the model does not fix the batch size.
        given: input name -> shape, as given by the user.
        memory: bytes of memory that a training step takes; None until finetune/trial.py has planned one.
    """

    def __init__(self, model: Model, batch: int = 32, given: Mapping[str, Sequence[int]] | None = None) -> None:
        self.model = model
        self.batch = batch
        self.given = dict(given or {})
        self.memory: int | None = None

    @cached_property
    def guessed(self) -> dict[str, tuple[int, ...]]:
        """Assumed shapes, by name, of inputs with an open height or width: each open size becomes SIDE."""
        shapes = {}
        for name, (dims, _) in self.model.input_specs.items():
            if name in self.given or dims is None or all(isinstance(n, int) for n in dims[1:]):
                continue
            if len(dims) in (3, 4, 5) and isinstance(dims[1], int):
                sizes = [n if isinstance(n, int) else SIDE for n in dims[1:]]
                shapes[name] = (dims[0] if isinstance(dims[0], int) else 1, *sizes)
        return shapes

    def specs(self, batch: int | None = None) -> dict[str, Spec] | None:
        """Shapes and dtypes of the inputs at a batch size; None if a shape is neither declared, given nor guessed."""
        shapes = {**self.guessed, **self.given}
        try:
            return input_shapes_at(self.model, batch or self.batch, shapes)
        except ShapeError:
            return None

    @cached_property
    def calls(self) -> list[tuple[Node, Call | None]]:
        """Each node with its inferred shapes for the inputs of `specs()`; empty if these are unknown."""
        specs = self.specs()
        return trace(self.model, specs) if specs else []

    @cached_property
    def shapes(self) -> dict[str, Spec]:
        """Shape and dtype of the nodes' outputs, by name, where they could be inferred."""
        specs: dict[str, Spec] = {}
        for node, call in self.calls:
            if call is not None:
                specs.update(zip(node.outputs, call.results))
        return specs

    @cached_property
    def needed(self) -> list[Node]:
        """The nodes that an output depends on."""
        return needed_for(self.model.nodes, self.model.output_names)

    @cached_property
    def carrying(self) -> set[str]:
        """Names of the values that a gradient from an output reaches, through operators that have a gradient."""
        reached = set(self.model.output_names)
        for node in reversed(self.needed):
            if reached.isdisjoint(node.outputs):
                continue
            operator = node.operator
            inputs = (name for i, name in enumerate(node.inputs) if operator is None or operator.leads_to(i))
            reached.update(name for name in inputs if name)
        return reached

    @cached_property
    def weights_before(self) -> dict[str, frozenset[str]]:
        """Value name -> the parameters that the value depends on, by more than their shape.

        Values that depend on no parameter are left out.
        """
        parameters = set(self.model.parameters)
        weights: dict[str, frozenset[str]] = {name: frozenset((name,)) for name in parameters}
        for node in self.model.nodes:
            if node.op_type in ("Shape", "Size"):
                continue
            before = frozenset().union(*(weights.get(name, ()) for name in node.inputs))
            if before:
                weights.update(dict.fromkeys(node.outputs, before))
        return weights

    @cached_property
    def fixed_batch(self) -> int | None:
        """The batch size that the inputs declare; None if the batch size is open for some input."""
        sizes = [dims[0] for dims, _ in self.model.input_specs.values() if dims is not None and len(dims) > 1]
        fixed = [n for n in sizes if isinstance(n, int)]
        return fixed[0] if fixed and len(fixed) == len(sizes) else None

    @cached_property
    def batched(self) -> list[str]:
        """Names of the inputs whose first axis is the batch: the axis is open, or its size is `fixed_batch`."""
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
