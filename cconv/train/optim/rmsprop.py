"""RMSprop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cconv.arguments import number
from cconv.train.optim.optimizer import Optimizer, Rule
from cconv.train.schedules import Schedule


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop, as torch.optim.RMSprop:

        g = gradient + weight_decay * weight
        v = alpha * v + (1 - alpha) * g^2
        m = alpha * m + (1 - alpha) * g                   (centered)
        d = g / (sqrt(v - m^2 if centered else v) + eps)
        b = momentum * b + d                              (with momentum)
        weight -= lr * (b with momentum, else d)

    (Hinton, "Neural Networks for Machine Learning", lecture 6e, 2012; centered: Graves, "Generating Sequences With
    Recurrent Neural Networks", 2013, equations 38 to 45.)

    Args:
        lr, groups: see Optimizer.

    Raises:
        ValueRangeError: an option out of its range.
    """

    lr: float | Schedule = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    name: ClassVar[str] = "rmsprop"

    def check(self) -> None:
        number(self.place, "alpha", self.alpha, least=0, below=1)
        number(self.place, "eps", self.eps, least=0)
        number(self.place, "weight_decay", self.weight_decay, least=0)
        number(self.place, "momentum", self.momentum, least=0, below=1)

    def rule(self) -> Rule:
        name, slots = "rmsprop", ["square"]
        if self.centered:
            name, slots = f"{name}_centered", [*slots, "mean"]
        if self.momentum:
            name, slots = f"{name}_momentum", [*slots, "momentum"]
        return Rule(name, (self.alpha, self.eps, self.weight_decay, self.momentum), tuple(slots))
