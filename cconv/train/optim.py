"""Optimizers: a few lines each. The arithmetic is one pass in kernels/update.pyx.

    SGD, Adam, AdamW   options and the step for one weight; hold no arrays
    State              arrays by slot and weight, and the number of updates done
    Updates            what a plan asks for: clipping, every weight's step, the count

One State serves all plans of a trainer, so a last batch of another size goes on with the same momentum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from cconv.errors import ValueRangeError, explain
from cconv.kernels import Build
from cconv.kernels.core.memory import zeros
from cconv.ops.operator import Lowering
from cconv.ops.tensor import Tensor
from cconv.train.options import number
from cconv.train.schedules import Constant, Cosine, Schedule, Step

__all__ = ["SGD", "Adam", "AdamW", "Constant", "Cosine", "Optimizer", "Schedule", "State", "Step", "Updates"]


class Optimizer(Protocol):
    """What training asks of an optimizer."""

    @property
    def lr(self) -> float | Schedule: ...

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the arrays it keeps for each weight, in the order of the step's operands."""
        ...

    def step(self, kernels: Build, size: int) -> Any:
        """The step for a weight of `size` elements; operands: gradient, control, weight, slots."""
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum and weight decay as in torch.optim.SGD (dampening 0).

    Raises:
        ValueRangeError: an option out of its range.
    """

    lr: float | Schedule
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        _check_lr("SGD", self.lr)
        number("SGD", "momentum", self.momentum, least=0, below=1)
        number("SGD", "weight_decay", self.weight_decay, least=0)
        if self.nesterov and not self.momentum:
            raise ValueRangeError(
                explain("SGD", "Nesterov's step needs momentum > 0", "momentum=0", "Set momentum.")
            )

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def step(self, kernels: Build, size: int) -> Any:
        return kernels.update.Sgd(size, self.momentum, self.weight_decay, self.nesterov)


@dataclass(frozen=True)
class Adam:
    """Adam; weight decay is added to the gradient, as in torch.optim.Adam.

    Raises:
        ValueRangeError: an option out of its range.
    """

    lr: float | Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    decoupled: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("mean", "square")

    def __post_init__(self) -> None:
        name = type(self).__name__
        _check_lr(name, self.lr)
        betas = tuple(self.betas) if isinstance(self.betas, (tuple, list)) else ()
        if len(betas) != 2:
            raise ValueRangeError(explain(name, "betas is a pair of numbers", repr(self.betas)))
        object.__setattr__(self, "betas", betas)
        for beta in betas:
            number(name, "each of betas", beta, least=0, below=1)
        number(name, "eps", self.eps, least=0)
        number(name, "weight_decay", self.weight_decay, least=0)

    def step(self, kernels: Build, size: int) -> Any:
        return kernels.update.Adam(size, *self.betas, self.eps, self.weight_decay, self.decoupled)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, as torch.optim.AdamW: the weight shrinks by lr * weight_decay."""

    weight_decay: float = 0.01

    decoupled: ClassVar[bool] = True


def _check_lr(place: str, lr: object) -> None:
    if not isinstance(lr, Schedule):
        number(place, "lr", lr, least=0)


class State:
    """What an optimizer remembers between updates.

    Attributes:
        slots: slot -> weight name -> array of the weight's shape; zeros at first.
        steps: (1,) int64, updates done.
    """

    def __init__(self, optimizer: Optimizer, weights: Mapping[str, np.ndarray]) -> None:
        self.slots = {
            slot: {name: zeros(array.shape, array.dtype) for name, array in weights.items()}
            for slot in optimizer.slots
        }
        self.steps = zeros((1,), np.int64)


@dataclass(frozen=True)
class Updates:
    """The update phase of a plan: gradients clipped to a global norm, weights moved, the step counted."""

    optimizer: Optimizer
    state: State
    max_gradient_norm: float | None = None

    def lower_all(self, lower: Lowering, pairs: Sequence[tuple[str, Tensor, Tensor]]) -> None:
        # Without clipping the norm is still taken (0.1 ns an element): a gradient that is not finite must stop
        # the step before any weight has moved, even where the loss itself is finite.
        limit = math.inf if self.max_gradient_norm is None else self.max_gradient_norm
        self._clip(lower, [gradient for _, _, gradient in pairs], limit)
        operands = max(1, len(self.state.slots))  # Sgd's state is an operand, absent without momentum
        for name, weight, gradient in pairs:
            slots: list[Tensor | None] = [
                lower.external(arrays[name], f"{name}:{slot}") for slot, arrays in self.state.slots.items()
            ]
            slots += [None] * (operands - len(slots))
            step = self.optimizer.step(lower.kernels, weight.size)
            lower.emit(step, reads=[gradient, lower.control], updates=[weight, *slots])
        count = lower.external(self.state.steps, "steps")
        lower.emit(lower.kernels.update.Advance(), updates=[lower.control, count])

    @staticmethod
    def _clip(lower: Lowering, gradients: Sequence[Tensor], max_norm: float) -> None:
        steps, count = [], 0
        for gradient in gradients:
            steps.append(lower.kernels.update.SquareSum(gradient.size, count))
            count += steps[-1].chunks
        partial = lower.tensor((count,), dtype=np.float64, name="gradient norm")
        for step, gradient in zip(steps, gradients):
            lower.emit(step, reads=[gradient], updates=[partial])
        lower.emit(
            lower.kernels.update.ClipByNorm(count, max_norm), reads=[partial], updates=[lower.control]
        )


def learning_rate(optimizer: Optimizer, step: int, total: int | None) -> float:
    """Learning rate of update `step`; see Schedule.rate."""
    lr = optimizer.lr
    # Asked at every step, where isinstance of a protocol takes 20 microseconds.
    return lr.rate(step, total) if hasattr(lr, "rate") else lr
