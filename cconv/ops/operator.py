"""The base class of all operators, and the two objects that an operator works with.

    Call       one node of a graph at concrete shapes: attributes, constants, operands
    Lowering   the plan under construction: allocates tensors, collects steps
    Operator   shape rule, forward pass as steps, gradient as steps

To add an operator, add a file to this folder that defines OPERATORS, a line to catalogue.py, and a file of cases to
tests/cases. A kernel is needed only if no existing loop does the work.
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
        name: the node's name. If the node has no name: its operator and position.
        op_type: ONNX operator.
        opset: version of the operator's domain that the model imports.
        index: position in the graph. Also part of the key of the node's random numbers.
        attributes: the node's attributes as Python values (int, float, str, lists of them, ndarray).
        specs: shape and dtype of each input; None for an omitted one.
        constants: for each input, its value if that is known before the model runs (an initializer that is not
            trained, or a result of constant folding), else None.
        output_count: number of outputs that the node names.
        results: shapes and dtypes of the outputs, from the operator's shape rule.
        inputs, outputs: tensors of the inputs and outputs. Empty until the node is lowered.
        gradients_needed: for each input, whether its gradient is needed. Known before `forward` is called.
        constants_read: indices of the inputs whose value `constant` returned.
        saved: tensors and settings that `forward` stores for `gradient`.
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
        """Make an error of class `kind` whose message names this node."""
        return kind(explain(self.place, rule, found, fix))

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def has(self, i: int) -> bool:
        """Whether the node has input i: the input exists and is not omitted."""
        return i < len(self.specs) and self.specs[i] is not None

    def spec(self, i: int) -> Spec:
        """Shape and dtype of input i, which must be present.

        Raises:
            ModelError: the input is absent.
        """
        spec = self.specs[i] if i < len(self.specs) else None
        if spec is None:
            raise self.error(ModelError, f"input {i} is required", "no such input")
        return spec

    def constant(self, i: int, what: str) -> np.ndarray:
        """Value of input i, which must be known when the plan is made: axes, pads or sizes, for example.

        Args:
            what: name of the input for the error message.

        Raises:
            UnsupportedOpError: the value is known only at run time.
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
        """Integers of input i as a flat list. They must be known when the plan is made: axes or sizes, for example.

        Args:
            what: name of the input for the error message.

        Raises:
            UnsupportedOpError: the values are known only at run time.
            DTypeError: the values are not integers.
        """
        value = self.constant(i, what)
        if value.dtype.kind not in "iu":
            raise self.error(DTypeError, f"input {i} ({what}) holds whole numbers", str(value.dtype))
        return [int(n) for n in value.reshape(-1)]

    def evaluated(self) -> list[np.ndarray] | None:
        """Compute the outputs with onnx's reference implementation. All inputs must be known.

        Returns:
            The outputs' values. None if they are too large, or if their shapes or dtypes differ from the shape rule's.
        """
        if sum(spec.size for spec in self.results) > LARGEST:
            return None
        inputs = [None if spec is None else self.constants[i] for i, spec in enumerate(self.specs)]
        values = evaluate(self.op_type, self.opset, self.attributes, inputs, self.output_count)
        computed = [(value.shape, value.dtype) for value in values or []]
        return values if computed == [(s.shape, s.dtype) for s in self.results[: self.output_count]] else None

    def input(self, i: int) -> Tensor:
        """Tensor of input i, which must be present. Available once the node is lowered."""
        tensor = self.inputs[i]
        assert tensor is not None, f"{self.place}: input {i} is absent"
        return tensor

    def needs_gradient(self, i: int) -> bool:
        return i < len(self.gradients_needed) and self.gradients_needed[i]


class Lowering(Protocol):
    """Interface through which an operator adds tensors and steps to the plan under construction."""

    build: Build
    """The compiled kernel loops for the plan's dtype and this CPU. It is the first argument of every kernel class."""
    dtype: np.dtype
    precision: str
    """"fast" or "direct"; see kernels/schedule/algorithms.py."""
    training: bool
    """Whether nodes behave as in training: batch statistics, dropout."""
    control: Tensor
    """A record of the scalars that change from run to run: step, seed, learning rate. See kernels/core/control.py."""

    def tensor(
        self, shape: Sequence[int], layout: Layout = Layout.ROW_MAJOR, dtype: Any = None, name: str = ""
    ) -> Tensor:
        """Allocate a tensor in the arena. Its contents are undefined. `dtype` defaults to the plan's."""
        ...

    def external(self, array: np.ndarray, name: str) -> Tensor:
        """Make a row-major tensor that uses the memory of `array`, outside the arena."""
        ...

    def emit(
        self,
        step: Any,
        reads: Sequence[Tensor | None] = (),
        writes: Sequence[Tensor | None] = (),
        updates: Sequence[Tensor | None] = (),
        inplace: bool = False,
    ) -> None:
        """Append a step. The step gets its operands in the order reads, updates, writes.

        Args:
            updates: tensors that the step reads and overwrites.
            inplace: whether writes[0] may share the memory of reads[0] if no later step reads reads[0].
        """
        ...

    def statistics_epilogue(self, x: Tensor) -> tuple[Tensor | None, list[int] | None]:
        """Ask the step that computes x to compute x's channel statistics too, as an epilogue.

        Returns:
            Two values that norm.Statistics takes instead of x: the partial results, a tensor (blocks, 2, channels)
            float64, and for each block the number of values per channel. (None, None) if that step has no such
            epilogue.
        """
        ...

    def parameter_sums_epilogue(
        self, dy: Tensor, activation: tuple[str, float, float] | None, reads: Sequence[Tensor | None]
    ) -> tuple[Tensor | None, int]:
        """Ask the step that computes dy, the gradient of y = activation(z), to do two things as an epilogue.

        The epilogue multiplies dy by the activation's derivative, so that dy then holds the gradient of z. And it
        computes the sums over dz that give the gradients of scale and bias, in place of norm.ParameterGradient.

        Args:
            reads: further operands of that step: x, its mean, inverse, scale, bias, y. If z is recomputed from x for
                the derivative, y is None. If the derivative is computed from y, inverse, scale and bias are None.
                Without an activation all four are None.

        Returns:
            Two values that norm.ParameterGradient takes instead of dy and x: the partial sums, a tensor
            (blocks, 2, channels) float64, and the number of blocks. (None, 0) if that step has no such epilogue.
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
        """Append a step that computes `writes` from weights. If none of the weights in `reads` is trained, the step
        runs once, when the plan is made; otherwise it runs in every run."""
        ...

    def as_layout(self, tensor: Tensor, layout: Layout) -> Tensor:
        """`tensor` in the given layout. If its memory order differs, a step that copies it is appended."""
        ...

    def differentiate(self, of: int, to: Sequence[int]) -> list[Tensor]:
        """Gradients of the sum of input `of` with respect to the inputs `to`. The indices count the inputs of the node
        that is being lowered. Each index in `to` must be less than `Operator.independent`."""
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
        """Training mode of the BatchNormalization node of this name: "batch", "frozen" or "statistics"."""
        ...


class Operator:
    """Base class of all operators.

    Attributes:
        type: ONNX's name of the operator.
        domain: ONNX's domain; "" is ai.onnx.
        since: oldest opset of the domain whose semantics are implemented.
        inputs: (least, most) number of inputs.
        per_example: whether the operator treats the examples of a batch independently and alike. Slice i of the output
            along axis 0 is then computed from slice i of input 0 and from all of the other inputs.
        differentiable: indices of the inputs that have a gradient; None: all floating-point inputs.
        straight_through: indices of the inputs that have a gradient although they hold integers.
        settings: indices of the differentiable inputs that configure the operator, such as the bounds of a Clip. A
            weight that the model reads only through such inputs is not trained by default, only if the user names it.
        pure: whether the outputs depend on nothing but inputs and attributes. False if they also depend on the plan,
            for example on whether it trains.
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
        """The shape rule: shapes and dtypes of all outputs that the node can have.

        Raises:
            ShapeError: the shapes of the inputs do not fit the operator.
        """
        raise NotImplementedError(self.type)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        """Emit the steps of the forward pass. Returns the tensors of the outputs."""
        raise NotImplementedError(self.type)

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Emit the steps of the backward pass: compute the gradients of the inputs from those of the outputs.

        Args:
            grads: the gradient of each output; None if the loss does not depend on that output. At least one is a
                tensor.

        Returns:
            One gradient per input; None for an input without a gradient. An input whose call.gradients_needed is False
            needs none.
        """
        raise NotImplementedError(self.type)

    def fold(self, call: Call) -> list[np.ndarray] | None:
        """Constant folding: the outputs' values if they are known before the model runs, else None.

        By default the values are known if all inputs are. Override this for operators whose result needs no input
        values. Shape, for example, needs only the input's shape.
        """
        return call.evaluated() if self.pure and call.known else None

    def leads_to(self, i: int, settings: bool = False) -> bool:
        """Whether input i receives a gradient.

        Args:
            settings: whether inputs listed in the attribute `settings` count.
        """
        return (self.differentiable is None or i in self.differentiable) and (settings or i not in self.settings)

    def branch(self, call: Call) -> str | None:
        """Name of the attribute that holds the subgraph that replaces this node when the plan is made (for If). None:
        the node is not replaced."""
        return None

    def implicit_inputs(self, attributes: Mapping[str, Any], inputs: Sequence[str]) -> tuple[str, ...]:
        """Names of values that the node reads although its input list does not name them. In the Call they follow the
        inputs."""
        return ()

    def independent(self, attributes: Mapping[str, Any]) -> int:
        """Number of leading inputs with respect to which the node asks `Lowering.differentiate` for gradients."""
        return 0

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        """Whether the node treats the examples of a batch independently and alike.

        Slice i of the outputs along axis 0 is then computed from slice i of the inputs `moving` and from all of the
        other inputs, by the same rule for every i. If so, an example's outputs do not depend on the rest of the batch
        and can be cached. False if in doubt.

        Args:
            moving: indices of the inputs that have one slice along axis 0 for each example.
        """
        return self.per_example and set(moving) == {0}

    @staticmethod
    def broadcasts_per_example(call: Call, moving: Collection[int]) -> bool:
        """`separates` for operators whose inputs broadcast.

        True if every input in `moving` has the output's rank, so that its axis 0 is the output's axis 0, and every
        other input is repeated along axis 0.
        """
        rank = len(call.results[0].shape)
        return rank > 0 and all(
            len(spec.shape) == rank if i in moving else len(spec.shape) < rank or spec.shape[0] == 1
            for i, spec in enumerate(call.specs)
            if spec is not None
        )

    def varies(self, lower: Lowering, call: Call) -> str:
        """The reason why an example's outputs differ from run to run, for messages: random numbers, or a dependence on
        the rest of the batch. "" if they do not differ."""
        return ""

    def flops(self, call: Call) -> int:
        """Floating-point operations of the forward pass. A multiply-add counts as two. 0 if negligible."""
        return 0

    # Checks that many shape rules share.

    def check(self, call: Call) -> None:
        """Check the number of inputs and the opset. Called before the shape rule.

        Raises:
            ModelError: too few or too many inputs, or a required input is omitted.
            UnsupportedOpError: the opset is older than `since`.
        """
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
        """Shape and dtype of input i, whose rank must lie in least..most.

        Args:
            axes: the axes as text, for the error message, such as "(N, C, ...)".

        Raises:
            ShapeError: the rank is outside of that range.
        """
        spec = call.spec(i)
        if not least <= len(spec.shape) <= most:
            raise call.error(ShapeError, f"input {i} has axes {axes}", f"shape {spec.shape}")
        return spec


def normalize_axis(call: Call, axis: int, rank: int, extra: int = 0) -> int:
    """Convert `axis` to a non-negative index. A negative axis counts from the end.

    Args:
        extra: number of axes allowed beyond the last. With 1 the axis may also be `rank`.

    Raises:
        ShapeError: the axis is outside of -rank..rank-1+extra.
    """
    if not -rank <= axis < rank + extra:
        raise call.error(ShapeError, f"axis lies in {-rank}..{rank - 1 + extra}", f"axis {axis}")
    return axis % rank if axis < 0 else axis
