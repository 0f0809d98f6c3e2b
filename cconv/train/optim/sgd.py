"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cconv.arguments import number
from cconv.errors import ValueRangeError, explain
from cconv.train.optim.optimizer import Optimizer, Rule


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay as in torch.optim.SGD (dampening 0).

        g = gradient + weight_decay * weight
        v = momentum * v + g                              (with momentum)
        weight -= lr * (g + momentum * v  with Nesterov;  v  with momentum;  else g)

    Args:
        lr, groups: see Optimizer.

    Raises:
        ValueRangeError: an option out of its range.
    """

    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    name: ClassVar[str] = "sgd"

    def check(self) -> None:
        number("SGD", "momentum", self.momentum, least=0, below=1)
        number("SGD", "weight_decay", self.weight_decay, least=0)
        if self.nesterov and not self.momentum:
            raise ValueRangeError(explain("SGD", "Nesterov's step needs momentum > 0", "momentum=0", "Set momentum."))

    def rule(self) -> Rule:
        if not self.momentum:
            return Rule("sgd", (self.weight_decay,), ())
        name = "sgd_nesterov" if self.nesterov else "sgd_momentum"
        return Rule(name, (self.weight_decay, self.momentum), ("momentum",))
