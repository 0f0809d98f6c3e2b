"""Operator: all that cconv knows of one ONNX operator, in one object; and what it talks to.

    Call       one node of a graph at concrete shapes: attributes, constants, operands
    Lowering   the plan under construction: gives tensors, takes steps
    Operator   shape rule, forward as steps, gradient as steps

Adding an operator: a file here that defines OPERATORS, its line in catalogue.py, a file of cases in
tests/cases, and a kernel only where a new loop is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from cconv.errors import CconvError, DTypeError, ModelError, ShapeError, UnsupportedOpError, explain
from cconv.kernels import Build
from cconv.ops.folding import LARGEST, evaluate
from cconv.ops.tensor import Layout, Spec, Tensor


@dataclass
class Call:
    """One node at concrete shapes.

    Attributes:
        name: the node's name, or its operator and position where it has none.
        op_type: ONNX operator.
        opset: version of the operator's domain that the model imports.
        index: position in the graph; keys random numbers.
        attributes: the node's attributes as Python values (int, float, str, lists of them, ndarray).
        specs: shape and dtype of each input; None for an omitted one.
        constants: value of each input that is known before the model runs (an initializer that is not
            trained, folded arithmetic); else None.
        output_count: outputs that the node names.
        results: shapes and dtypes of the outputs, from the operator's shape rule.
        inputs, outputs: their tensors, once the node is lowered.
        gradients_needed: for each input, whether its gradient is needed. Known before `forward` is called.
        constants_read: indices of the inputs whose value `constant` returned.
        saved: what `forward` leaves for `gradient`.
        read_by_shape_rule: the inputs whose values the shape rule has read. The lowered node needs no tensor for them.
    """

    name: str
    op_type: str
    opset: int
    index: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    specs: list[Spec | None] = field(default_factory=list)
    constants: list[np.ndarray | None] = field(default_factory=list)
    output_count: int = 1
    results: list[Spec] = field(default_factory=list)
    inputs: list[Tensor | None] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    gradients_needed: list[bool] = field(default_factory=list)
    constants_read: set[int] = field(default_factory=set)
    saved: dict[str, Any] = field(default_factory=dict)
    read_by_shape_rule: set[int] = field(default_factory=set)

    @property
    def known(self) -> bool:
        """Whether the values of all inputs are known before the model runs."""
        return all(spec is None or self.constants[i] is not None for i, spec in enumerate(self.specs))

    @property
    def place(self) -> str:
        return f"node '{self.name}' ({self.op_type})"

    def error(self, kind: type[CconvError], rule: str, found: str, fix: str = "") -> CconvError:
        """An error that names this node."""
        return kind(explain(self.place, rule, found, fix))

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def has(self, i: int) -> bool:
        """Whether input i is there."""
        return i < len(self.specs) and self.specs[i] is not None

    def spec(self, i: int) -> Spec:
        """Input i's shape and dtype.

        Raises:
            ModelError: the input is required and absent.
        """
        spec = self.specs[i] if i < len(self.specs) else None
        if spec is None:
            raise self.error(ModelError, f"input {i} is required", "no such input")
        return spec

    def constant(self, i: int, what: str) -> np.ndarray:
        """Input i's value, for inputs that shape the plan (axes, pads, sizes).

        Raises:
            UnsupportedOpError: the value is computed by the model while it runs.
        """
        self.constants_read.add(i)
        value = self.constants[i] if i < len(self.constants) else None
        if value is None:
            raise self.error(
                UnsupportedOpError,
                f"input {i} ({what}) must be known before the model runs",
                "a value computed at run time",
                "Store it as an initializer.",
            )
        if not self.results:
            self.read_by_shape_rule.add(i)
        return value

    def integers(self, i: int, what: str) -> list[int]:
        """Input i's values, for inputs of whole numbers that shape the plan.

        Raises:
            UnsupportedOpError: they are computed by the model while it runs.
            DTypeError: they are no whole numbers.
        """
        value = self.constant(i, what)
        if value.dtype.kind not in "iu":
            raise self.error(DTypeError, f"input {i} ({what}) holds whole numbers", str(value.dtype))
        return [int(n) for n in value.reshape(-1)]

    def evaluated(self) -> list[np.ndarray] | None:
        """The outputs' values by onnx's reference implementation, if all inputs are known.

        None if the outputs are too large, or differ from the shape rule's in shape or dtype.
        """
        if sum(spec.size for spec in self.results) > LARGEST:
            return None
        inputs = [None if spec is None else self.constants[i] for i, spec in enumerate(self.specs)]
        values = evaluate(self.op_type, self.opset, self.attributes, inputs, self.output_count)
        found = [(value.shape, value.dtype) for value in values or []]
        return values if found == [(s.shape, s.dtype) for s in self.results[: self.output_count]] else None

    def input(self, i: int) -> Tensor:
        """Input i's tensor (lowering only; the input must be there)."""
        tensor = self.inputs[i]
        assert tensor is not None, f"{self.place}: input {i} is absent"
        return tensor

    def needs_gradient(self, i: int) -> bool:
        return i < len(self.gradients_needed) and self.gradients_needed[i]


class Lowering(Protocol):
    """The plan under construction, as an operator sees it."""

    build: Build
    """The loops that steps are made of; the first argument of every kernel."""
    dtype: np.dtype
    precision: str
    """"fast" or "direct"; see kernels/schedule/algorithms.py."""
    training: bool
    """Whether nodes behave as in training: batch statistics, dropout."""
    control: Tensor
    """The record of scalars that change between runs (step, seed, learning rate); see kernels/core/control.py."""

    def tensor(
        self, shape: Sequence[int], layout: Layout = Layout.ROW_MAJOR, dtype: Any = None, name: str = ""
    ) -> Tensor:
        """A new tensor in the arena, contents undefined; dtype defaults to the plan's."""
        ...

    def external(self, array: np.ndarray, name: str) -> Tensor:
        """A row-major tensor on an array that lives outside the arena."""
        ...

    def emit(
        self,
        step: Any,
        reads: Sequence[Tensor | None] = (),
        writes: Sequence[Tensor | None] = (),
        updates: Sequence[Tensor | None] = (),
        inplace: bool = False,
    ) -> None:
        """Append a step. Its operands are reads, then updates (read and written), then writes.

        inplace: writes[0] may take the memory of reads[0] if nothing needs that any more.
        """
        ...

    def statistics_epilogue(self, x: Tensor) -> tuple[Tensor | None, list[int] | None]:
        """Ask the step that computes x to compute x's channel statistics too, as an epilogue.

        Returns:
            What norm.Statistics needs instead of x: the partial results, a tensor (blocks, 2, channels) of float64, and
            for each block the number of values per channel. (None, None) if that step has no such epilogue.
        """
        ...

    def parameter_sums_epilogue(
        self, dy: Tensor, activation: tuple[str, float, float] | None, reads: Sequence[Tensor | None]
    ) -> tuple[Tensor | None, int]:
        """Ask the step that computes dy, the gradient of y = activation(z), for two more things as an epilogue:
        multiply dy by the activation's derivative, and sum what norm.ParameterGradient sums. dy then holds the gradient
        of z.

        Args:
            reads: further operands of that step: x and its mean, then what the derivative is computed from. That is
                inverse, scale and bias, from which z is recomputed, or y.

        Returns:
            What norm.ParameterGradient needs instead of dy and x: the partial sums, a tensor (blocks, 2, channels) of
            float64, and the number of blocks. (None, 0) if that step has no such epilogue.
        """
        ...

    def recomputable(self, tensor: Tensor, recompute: Callable[[], Tensor]) -> None:
        """Declare that `tensor` can be recomputed in the backward pass at little cost, from tensors that the backward
        pass needs anyway. `recompute` emits the step once more and returns its result."""
        ...

    def recompute_or_keep(self, tensor: Tensor, flops: int) -> Tensor:
        """A tensor of the forward pass, for a step of the backward pass that takes `flops` FLOPs.

        Returns `tensor` itself, or its recomputation if that costs little compared with `flops`. A recomputed tensor
        frees its memory between the forward and the backward pass.
        """
        ...

    def derive(self, step: Any, reads: Sequence[Tensor | None], writes: Sequence[Tensor | None]) -> None:
        """Append a step that should read weights only. If none of these weights is trained, the step runs once, when
        the plan is made, and not in every run."""
        ...

    def as_layout(self, tensor: Tensor, layout: Layout) -> Tensor:
        """`tensor` in the given layout, converted by a step where it must be."""
        ...

    def differentiate(self, of: int, to: Sequence[int]) -> list[Tensor]:
        """Gradients for the node that is being lowered: of the sum of its input `of` with respect to its inputs `to`.
        `Operator.independent` must cover these inputs."""
        ...

    def after_update(
        self, step: Any, check: Any, reads: Sequence[Tensor | None] = (), updates: Sequence[Tensor | None] = ()
    ) -> None:
        """Append a step that changes weights outside the optimizer, such as running statistics. It runs after the
        optimizer's updates, in training steps only, and not if the loss or a gradient is not finite.

        `check` is a step with the same `reads`. It runs before the optimizer's updates and stops the program if `step`
        would write values that are not finite.
        """
        ...

    def batchnorm_mode(self, name: str) -> str:
        """ "batch", "frozen" or "statistics" for the node of this name."""
        ...


class Operator:
    """Base of all operators; subclasses override what applies.

    Attributes:
        type: ONNX's name.
        domain: ONNX's; "" is ai.onnx.
        since: oldest opset of the domain whose semantics are implemented.
        inputs: (least, most) number of inputs.
        per_example: whether slice i of the output along axis 0 follows from slice i of input 0, and from the other
            inputs as wholes; for every i in the same way.
        differentiable: indices of the inputs that have a gradient; None: all floating-point ones.
        straight_through: indices of the inputs that have a gradient although they hold whole numbers.
        settings: indices of the differentiable inputs that set the operator's behaviour (the bounds of a Clip). What
            comes to the model through them alone is trained only where it is named.
        pure: whether the outputs follow from inputs and attributes alone, whatever the plan is made for.
    """

    type: str
    domain: str = ""
    since: int = 7
    inputs: tuple[int, int] = (1, 1)
    per_example: ClassVar[bool] = False
    differentiable: ClassVar[tuple[int, ...] | None] = None
    straight_through: tuple[int, ...] = ()
    settings: ClassVar[tuple[int, ...]] = ()
    pure: bool = True

    def shapes(self, call: Call) -> list[Spec]:
        """Shapes and dtypes of all outputs the node can have. The only shape rule; raises ShapeError."""
        raise NotImplementedError(self.type)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        """Emit the steps that compute the outputs; returns their tensors."""
        raise NotImplementedError(self.type)

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Emit the steps that compute the inputs' gradients out of the outputs' (None: no gradient came).

        At least one of `grads` is there. Returns one per input, None where call.gradients_needed says no.
        """
        raise NotImplementedError(self.type)

    def fold(self, call: Call) -> list[np.ndarray] | None:
        """The outputs' values where they are known before the model runs (shape arithmetic), else None.

        An operator of which more can be known than follows from known inputs (Shape) says so here.
        """
        return call.evaluated() if self.pure and call.known else None

    def leads_to(self, i: int, settings: bool = False) -> bool:
        """Whether a gradient comes to input i, `settings` among them or not."""
        return (self.differentiable is None or i in self.differentiable) and (settings or i not in self.settings)

    def branch(self, call: Call) -> str | None:
        """The attribute whose graph takes the place of the node when the plan is made; None: the node runs itself."""
        return None

    def implicit_inputs(self, attributes: Mapping[str, Any], inputs: Sequence[str]) -> tuple[str, ...]:
        """Values that the node reads though they are not among its inputs; they follow these in the Call."""
        return ()

    def independent(self, attributes: Mapping[str, Any]) -> int:
        """How many of the first inputs the node wants gradients for from `Lowering.differentiate`."""
        return 0

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        """Whether slice i of the outputs along axis 0 follows from slice i of the inputs `moving`, each of which has
        one for every example of a batch, and from the other inputs as wholes; for every i in the same way.

        No where it is not sure: then nothing is kept of an example that could hang on the batch that it was in.
        """
        return self.per_example and set(moving) == {0}

    @staticmethod
    def broadcasts_per_example(call: Call, moving: Collection[int]) -> bool:
        """`separates` of operators whose inputs broadcast: those that move align with the output's axis 0, and the
        others have one slice for all examples."""
        rank = len(call.results[0].shape)
        return rank > 0 and all(
            len(spec.shape) == rank if i in moving else len(spec.shape) < rank or spec.shape[0] == 1
            for i, spec in enumerate(call.specs)
            if spec is not None
        )

    def varies(self, lower: Lowering, call: Call) -> str:
        """What makes the outputs of an example differ from run to run: chance, the rest of the batch; "" if nothing."""
        return ""

    def flops(self, call: Call) -> int:
        """Floating-point operations of the forward pass, a multiply-add as two; 0 where too few to count."""
        return 0

    # Checks that many shape rules share.

    def check(self, call: Call) -> None:
        """Number of inputs and opset, before the shape rule runs."""
        least, most = self.inputs
        if not least <= len(call.specs) <= most:
            wants = str(least) if least == most else f"{least} to {most}"
            raise call.error(ModelError, f"takes {wants} inputs", str(len(call.specs)))
        if None in call.specs[:least]:
            raise call.error(ModelError, f"input {call.specs.index(None)} is required", "no such input")
        if call.opset < self.since:
            raise call.error(
                UnsupportedOpError,
                f"is implemented from opset {self.since} on",
                f"opset {call.opset}",
                "Convert the model with onnx.version_converter.",
            )

    def require_rank(self, call: Call, i: int, least: int, most: int, axes: str) -> Spec:
        """Input i, whose rank must lie in least..most; `axes` names them for the message."""
        spec = call.spec(i)
        if not least <= len(spec.shape) <= most:
            raise call.error(ShapeError, f"input {i} has axes {axes}", f"shape {spec.shape}")
        return spec


def normalize_axis(call: Call, axis: int, rank: int, extra: int = 0) -> int:
    """`axis` counted from the front, negative ones from the end, within -rank..rank-1+extra.

    Raises:
        ShapeError: outside of that range.
    """
    if not -rank <= axis < rank + extra:
        raise call.error(ShapeError, f"axis lies in {-rank}..{rank - 1 + extra}", f"axis {axis}")
    return axis % rank if axis < 0 else axis
