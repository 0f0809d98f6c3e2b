"""What an optimizer keeps between updates, and the update phase of a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import cconv.kernels.update.update as update
from cconv.kernels.core.memory import zeros
from cconv.ops.operator import Lowering
from cconv.ops.tensor import Tensor
from cconv.train.optim.optimizer import Optimizer


class State:
    """Arrays that live as long as the trainer; all its plans use the same, whatever their batch size.

    Attributes:
        slots: slot -> weight name -> array of the weight's shape; zeros at first.
        steps: (1,) int64, updates done.
        rates: (groups + 1,) float64, learning rate of each parameter group at the next update; see Optimizer.group_of.
    """

    def __init__(self, optimizer: Optimizer, weights: Mapping[str, np.ndarray]) -> None:
        self.slots: dict[str, dict[str, np.ndarray]] = {}
        members = optimizer.members()
        for name, array in weights.items():
            for slot in members[optimizer.group_of(name)].rule().slots:
                self.slots.setdefault(slot, {})[name] = zeros(array.shape, array.dtype)
        self.steps = zeros((1,), np.int64)
        self.rates = zeros((len(members),), np.float64)


@dataclass(frozen=True)
class Updates:
    """The update phase of a plan: gradients clipped to a global norm, weights moved, the step counted."""

    optimizer: Optimizer
    state: State
    max_gradient_norm: float | None = None

    def emit(self, lower: Lowering, pairs: Sequence[tuple[str, Tensor, Tensor]]) -> None:
        # The norm is taken without clipping, too (0.1 ns an element): a gradient that is not finite must stop the step
        # before any weight has moved, even if the loss itself is finite.
        limit = math.inf if self.max_gradient_norm is None else self.max_gradient_norm
        self._clip(lower, [gradient for _, _, gradient in pairs], limit)
        members = self.optimizer.members()
        rates = [
            lower.external(self.state.rates[i : i + 1], f"learning rate of group {i}") for i in range(len(members))
        ]
        for name, weight, gradient in pairs:
            group = self.optimizer.group_of(name)
            rule = members[group].rule()
            slots = [lower.external(self.state.slots[slot][name], f"{name}:{slot}") for slot in rule.slots]
            step = update.Update(lower.build, rule.name, weight.size, rule.options)
            lower.emit(step, reads=[gradient, lower.control, rates[group]], updates=[weight, *slots])
        count = lower.external(self.state.steps, "steps")
        lower.emit(update.Advance(), updates=[lower.control, count])

    @staticmethod
    def _clip(lower: Lowering, gradients: Sequence[Tensor], max_norm: float) -> None:
        steps, count = [], 0
        for gradient in gradients:
            steps.append(update.SquareSum(lower.build, gradient.size, count))
            count += steps[-1].chunks
        partial = lower.tensor((count,), dtype=np.float64, name="gradient norm")
        for step, gradient in zip(steps, gradients):
            lower.emit(step, reads=[gradient], updates=[partial])
        lower.emit(update.ClipByNorm(count, max_norm), reads=[partial], updates=[lower.control])
