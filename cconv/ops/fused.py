"""Fusions: chains of operators that run as one, so that what lies between them never goes through memory.

    convolution [+ frozen BatchNormalization, if neither is trained] [+ Add] [+ Relu or Clip]
        BatchNormalization goes into the weights and the bias, once where those do not change. The residual and the
        clamp are applied while an output is in registers.
    BatchNormalization [+ Add] [+ Relu, Clip, LeakyRelu, Swish or HardSwish]
        one pass after the statistics; on the way back no pass of its own for the activation. See
        kernels/norm/norm.pyx.

Every operator in brackets may be missing, and a chain may end at any of them. What is added may be any value of the
same shape. plan/fuse.py finds the chains and knows none of these names; a new fusion is a class here, in FUSIONS.
The user's graph keeps its nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import cconv.kernels.norm.norm as norm
from cconv.ops.arithmetic import Arithmetic
from cconv.ops.batchnorm import BatchNormalization, Tail
from cconv.ops.conv import Convolution
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor
from cconv.ops.unary import Unary


class Part(NamedTuple):
    """A node of a chain: its operator and its call, `wants` filled in.

    Attributes:
        at: which of its inputs is the chain's value so far; None for the first node.
    """

    operator: Operator
    call: Call
    at: int | None = None


class Fusion(Operator):
    """An operator made for one chain: a head, then perhaps a sum, then perhaps an activation.

    Its inputs are those of all parts one after the other; the one that comes from the part before is absent. Its
    output is the last part's.

    Args:
        parts: the chain. Every beginning of a chain is one too, down to two parts.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.type = "+".join(part.call.op_type for part in parts)
        count = sum(len(part.call.specs) for part in parts)
        self.inputs = (count, count)

    @classmethod
    def starts(cls, lower: Lowering, part: Part) -> bool:
        """Whether a chain may start with this node."""
        raise NotImplementedError(cls.__name__)

    @classmethod
    def continues(cls, lower: Lowering, parts: Sequence[Part], part: Part) -> bool:
        """Whether the chain `parts`, of which only `part` reads the result, may go on with it."""
        last = parts[-1].operator
        if isinstance(last, Unary):
            return False
        return cls.activates(lower, parts, part) or (not isinstance(last, Arithmetic) and is_sum(part))

    @classmethod
    def activates(cls, lower: Lowering, parts: Sequence[Part], part: Part) -> bool:
        """Whether this node is an activation that the head's kernel can apply after the chain `parts`."""
        raise NotImplementedError(cls.__name__)

    # What the parts say.

    @property
    def head(self) -> Call:
        return self.parts[0].call

    @property
    def sum(self) -> Part | None:
        return next((part for part in self.parts if isinstance(part.operator, Arithmetic)), None)

    @property
    def activation(self) -> Part | None:
        return next((part for part in self.parts if isinstance(part.operator, Unary)), None)

    def residual(self) -> Tensor | None:
        """What the sum adds to the head's result."""
        return None if self.sum is None else self.sum.call.input(other(self.sum))

    def wants_residual(self) -> bool:
        return self.sum is not None and self.sum.call.needs_gradient(other(self.sum))

    # Operator.

    def shapes(self, call: Call) -> list[Spec]:
        return self.parts[-1].call.results

    def flops(self, call: Call) -> int:
        return sum(part.operator.flops(part.call) for part in self.parts)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        first = 0
        for part in self.parts:
            part.call.inputs = call.inputs[first : first + len(part.call.specs)]
            first += len(part.call.specs)
        self.parts[-1].call.outputs = [self.run(lower)]
        return self.parts[-1].call.outputs

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        head, residual = self.run_gradient(lower, grads[0], call.outputs[0])
        results = list(head)
        for part in self.parts[1:]:
            own: list[Tensor | None] = [None] * len(part.call.specs)
            if part is self.sum:
                own[other(part)] = residual
            results += own
        return results

    def run(self, lower: Lowering) -> Tensor:
        """Emit the chain's steps; returns its result."""
        raise NotImplementedError(self.type)

    def run_gradient(self, lower: Lowering, dy: Tensor, y: Tensor) -> tuple[Sequence[Tensor | None], Tensor | None]:
        """Emit the gradient's steps; returns those of the head's inputs and of the residual, where wanted."""
        raise NotImplementedError(self.type)


def is_sum(part: Part) -> bool:
    """Whether the node adds two different values of one shape."""
    if not isinstance(part.operator, Arithmetic) or part.operator.kind != "add":
        return False
    a, b = part.call.spec(0), part.call.spec(1)
    return a.shape == b.shape and np.issubdtype(a.dtype, np.floating) and np.issubdtype(b.dtype, np.floating)


def other(part: Part) -> int:
    """The operand of a sum that is not the chain's value."""
    assert part.at is not None
    return 1 - part.at


class FusedConvolution(Fusion):
    """Conv or ConvTranspose and what follows it."""

    @classmethod
    def starts(cls, lower: Lowering, part: Part) -> bool:
        return isinstance(part.operator, Convolution)

    @classmethod
    def continues(cls, lower: Lowering, parts: Sequence[Part], part: Part) -> bool:
        if len(parts) == 1 and isinstance(part.operator, BatchNormalization):
            frozen = part.operator.mode(lower, part.call) == "frozen"
            return (
                part.at == 0
                and frozen
                and not any(parts[0].call.gradients_needed)
                and not any(part.call.gradients_needed)
            )
        return super().continues(lower, parts, part)

    @classmethod
    def activates(cls, lower: Lowering, parts: Sequence[Part], part: Part) -> bool:
        return clamp_of(part) is not None

    def run(self, lower: Lowering) -> Tensor:
        operator = self.parts[0].operator
        assert isinstance(operator, Convolution)
        weight, bias = self.head.input(1), self.head.input(2) if self.head.has(2) else None
        after = self.parts[1]
        if isinstance(after.operator, BatchNormalization):
            scale, shift, mean, variance = (after.call.input(i) for i in range(1, 5))
            axes, epsilon = operator.weight_axes(self.head), after.operator.epsilon(after.call)
            folded = lower.tensor(weight.shape, name="folded weights"), lower.tensor(scale.shape)
            lower.derive(
                norm.FoldConvolution(lower.build, *axes, epsilon),
                reads=[weight, bias, scale, shift, mean, variance],
                writes=folded,
            )
            weight, bias = folded
        clamp = None if self.activation is None else clamp_of(self.activation)
        return operator.convolve(lower, self.head, weight, bias, self.residual(), clamp)

    def run_gradient(self, lower: Lowering, dy: Tensor, y: Tensor) -> tuple[Sequence[Tensor | None], Tensor | None]:
        # With BatchNormalization in the chain nothing of the head is wanted, so dz is all there is to find.
        dz: Tensor | None = dy
        if self.activation is not None:
            dz = self.activation.operator.gradient(lower, self.activation.call, [dy])[0]
        dx: Sequence[Tensor | None] = [None] * len(self.head.specs)
        if any(self.head.gradients_needed):
            dx = self.parts[0].operator.gradient(lower, self.head, [dz])
        return dx, dz if self.wants_residual() else None


def clamp_of(part: Part) -> tuple[float, float] | None:
    """The interval that the node clamps to, if that is what it does and all."""
    if not isinstance(part.operator, Unary) or part.operator.kind not in ("relu", "clip"):
        return None
    if not part.operator.is_loop(part.call):
        return None
    return (0.0, np.inf) if part.operator.kind == "relu" else part.operator.parameters(part.call)


class FusedBatchNormalization(Fusion):
    """BatchNormalization and what follows it."""

    @classmethod
    def starts(cls, lower: Lowering, part: Part) -> bool:
        return isinstance(part.operator, BatchNormalization)

    @classmethod
    def activates(cls, lower: Lowering, parts: Sequence[Part], part: Part) -> bool:
        function = part.operator
        if not isinstance(function, Unary) or not function.is_loop(part.call):
            return False
        name = function.loop(part.call)
        if name in norm.from_either(lower.build):
            # The derivative is told from z or from y, as it comes: both must do.
            return function.reads_output(part.call)
        if name not in norm.activations(lower.build):
            return False
        # It is told from z alone, which is computed again after batch statistics where nothing was added to it.
        operator, wanted = (
            parts[0].operator,
            any(want for each in (*parts, part) for want in each.call.gradients_needed),
        )
        assert isinstance(operator, BatchNormalization)
        return not wanted or (len(parts) == 1 and operator.mode(lower, parts[0].call) != "frozen")

    def run(self, lower: Lowering) -> Tensor:
        operator = self.parts[0].operator
        assert isinstance(operator, BatchNormalization)
        activation = None
        if self.activation is not None:
            function = self.activation.operator
            assert isinstance(function, Unary)
            activation = (function.loop(self.activation.call), *function.parameters(self.activation.call))
        return operator.forward(lower, self.head, Tail(activation, self.residual()))[0]

    def run_gradient(self, lower: Lowering, dy: Tensor, y: Tensor) -> tuple[Sequence[Tensor | None], Tensor | None]:
        operator = self.parts[0].operator
        assert isinstance(operator, BatchNormalization)
        *dx, residual = operator.gradients(lower, self.head, dy, y, self.wants_residual())
        return dx, residual


FUSIONS: list[type[Fusion]] = [FusedConvolution, FusedBatchNormalization]
