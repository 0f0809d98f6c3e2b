"""Operator fusion: a chain of nodes runs as one, so that the values between the nodes never go through memory.

    convolution [+ frozen BatchNormalization, if neither is trained] [+ Add] [+ Relu or Clip]
        The BatchNormalization is folded into the convolution's weights and bias: once, if these do not change. The
        residual and the clamp are applied while an output value is in a register.
    BatchNormalization [+ Add] [+ Relu, Clip, LeakyRelu, Swish or HardSwish]
        After the statistics, one pass over memory does the rest. In the backward pass the activation's derivative is
        part of a pass that is needed anyway. See kernels/norm/norm.pyx.

Operators in brackets are optional. The second operand of Add may be any value of the same shape. The search for chains
is in plan/fuse.py, which works with any class in FUSIONS: to add a fusion, write a class here and list it there. Only
the plan is changed; the user's graph keeps its nodes.
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


class ChainNode(NamedTuple):
    """A node of a chain: its operator and its call, with gradients_needed filled in.

    Attributes:
        at: index of the input that takes the result of the node before it in the chain; None for the first node.
    """

    operator: Operator
    call: Call
    at: int | None = None


class Fusion(Operator):
    """An operator that runs one chain of nodes: a head, an optional sum, an optional activation.

    Its inputs are the inputs of all parts, concatenated. An input that takes the result of the part before is absent.
    Its output is the output of the last part.

    Args:
        parts: the nodes of the chain, two or more.
    """

    def __init__(self, parts: Sequence[ChainNode]) -> None:
        self.parts = list(parts)
        self.type = "+".join(part.call.op_type for part in parts)
        count = sum(len(part.call.specs) for part in parts)
        self.inputs = (count, count)

    @classmethod
    def starts(cls, lower: Lowering, part: ChainNode) -> bool:
        """Whether a chain may start with this node."""
        raise NotImplementedError(cls.__name__)

    @classmethod
    def continues(cls, lower: Lowering, parts: Sequence[ChainNode], part: ChainNode) -> bool:
        """Whether `part` may be appended to the chain `parts`. It is the only reader of the chain's result."""
        last = parts[-1].operator
        if isinstance(last, Unary):
            return False
        return cls.activates(lower, parts, part) or (not isinstance(last, Arithmetic) and is_sum(part))

    @classmethod
    def activates(cls, lower: Lowering, parts: Sequence[ChainNode], part: ChainNode) -> bool:
        """Whether `part` is an activation that the head's kernel can apply to the result of the chain `parts`."""
        raise NotImplementedError(cls.__name__)

    # Parts of the chain by their role.

    @property
    def head(self) -> Call:
        return self.parts[0].call

    @property
    def sum(self) -> ChainNode | None:
        return next((part for part in self.parts if isinstance(part.operator, Arithmetic)), None)

    @property
    def activation(self) -> ChainNode | None:
        return next((part for part in self.parts if isinstance(part.operator, Unary)), None)

    def residual(self) -> Tensor | None:
        """The tensor that the chain's sum adds to the head's result; None if the chain has no sum."""
        return None if self.sum is None else self.sum.call.input(other(self.sum))

    def wants_residual(self) -> bool:
        return self.sum is not None and self.sum.call.needs_gradient(other(self.sum))

    # Overridden methods of Operator.

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
        """Emit the steps of the chain's forward pass. Returns its result."""
        raise NotImplementedError(self.type)

    def run_gradient(self, lower: Lowering, dy: Tensor, y: Tensor) -> tuple[Sequence[Tensor | None], Tensor | None]:
        """Emit the steps of the chain's backward pass.

        Args:
            dy: gradient of y.
            y: the chain's result.

        Returns:
            The gradients of the head's inputs and the gradient of the residual; None where a gradient is not needed.
        """
        raise NotImplementedError(self.type)


def is_sum(part: ChainNode) -> bool:
    """Whether the node is an Add of two floating-point values of the same shape."""
    if not isinstance(part.operator, Arithmetic) or part.operator.kind != "add":
        return False
    a, b = part.call.spec(0), part.call.spec(1)
    return a.shape == b.shape and np.issubdtype(a.dtype, np.floating) and np.issubdtype(b.dtype, np.floating)


def other(part: ChainNode) -> int:
    """Index of the sum's operand that does not come from the chain: the residual."""
    assert part.at is not None
    return 1 - part.at


class FusedConvolution(Fusion):
    """Conv or ConvTranspose, fused with the BatchNormalization, Add, Relu or Clip that follow it."""

    @classmethod
    def starts(cls, lower: Lowering, part: ChainNode) -> bool:
        return isinstance(part.operator, Convolution)

    @classmethod
    def continues(cls, lower: Lowering, parts: Sequence[ChainNode], part: ChainNode) -> bool:
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
    def activates(cls, lower: Lowering, parts: Sequence[ChainNode], part: ChainNode) -> bool:
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
        # dz is the gradient before the activation. If the chain has a BatchNormalization, no input of the head needs a
        # gradient, and dz is the only one to compute.
        dz: Tensor | None = dy
        if self.activation is not None:
            dz = self.activation.operator.gradient(lower, self.activation.call, [dy])[0]
        dx: Sequence[Tensor | None] = [None] * len(self.head.specs)
        if any(self.head.gradients_needed):
            dx = self.parts[0].operator.gradient(lower, self.head, [dz])
        return dx, dz if self.wants_residual() else None


def clamp_of(part: ChainNode) -> tuple[float, float] | None:
    """Bounds (low, high) of the interval that the node clamps to. None if the node does anything else."""
    if not isinstance(part.operator, Unary) or part.operator.kind not in ("relu", "clip"):
        return None
    if not part.operator.is_loop(part.call):
        return None
    return (0.0, np.inf) if part.operator.kind == "relu" else part.operator.parameters(part.call)


class FusedBatchNormalization(Fusion):
    """BatchNormalization, fused with the Add and the activation that follow it."""

    @classmethod
    def starts(cls, lower: Lowering, part: ChainNode) -> bool:
        return isinstance(part.operator, BatchNormalization)

    @classmethod
    def activates(cls, lower: Lowering, parts: Sequence[ChainNode], part: ChainNode) -> bool:
        function = part.operator
        if not isinstance(function, Unary) or not function.is_loop(part.call):
            return False
        name = function.loop(part.call)
        if name in norm.from_either(lower.build):
            # The backward kernels compute the derivative from z or from y, depending on the case. Both must work.
            return function.reads_output(part.call)
        if name not in norm.activations(lower.build):
            return False
        # The derivative needs z. The backward pass can recompute z only after batch statistics, and only without a
        # residual.
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
