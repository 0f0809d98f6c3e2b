"""Adam and AdamW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cconv.arguments import number
from cconv.errors import ValueRangeError, explain
from cconv.train.optim.optimizer import Optimizer, Rule
from cconv.train.schedules import Schedule


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam; weight decay is added to the gradient, as in torch.optim.Adam. With t the number of the update, from 1:

        g = gradient + weight_decay * weight
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        weight -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)

    (Kingma and Ba, "Adam", 2015, algorithm 1.)

    Args:
        lr, groups: see Optimizer.

    Raises:
        ValueRangeError: an option out of its range.
    """

    lr: float | Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    name: ClassVar[str] = "adam"

    def check(self) -> None:
        betas = tuple(self.betas) if isinstance(self.betas, (tuple, list)) else ()
        if len(betas) != 2:
            raise ValueRangeError(explain(self.place, "betas is a pair of numbers", repr(self.betas)))
        object.__setattr__(self, "betas", betas)
        for beta in betas:
            number(self.place, "each of betas", beta, least=0, below=1)
        number(self.place, "eps", self.eps, least=0)
        number(self.place, "weight_decay", self.weight_decay, least=0)

    def rule(self) -> Rule:
        return Rule("adam", (*self.betas, self.eps, self.weight_decay), ("mean", "square"))


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, as torch.optim.AdamW: the weight shrinks by lr * weight_decay before the update
    (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2)."""

    weight_decay: float = 0.01

    name: ClassVar[str] = "adamw"

    def rule(self) -> Rule:
        return Rule("adamw", (*self.betas, self.eps, self.weight_decay), ("mean", "square"))
