"""Optimizers: options, and the rule of kernels/update/update.h that they stand for. One file each.

    optimizer.py    what an optimizer is: slots, rule, parameter groups
    sgd.py adam.py  the optimizers
    state.py        the arrays that they keep, and the number of updates done

The schedules can be imported from here, too, next to the optimizers that take them.
"""

from cconv.train.optim.adam import Adam, AdamW
from cconv.train.optim.optimizer import Optimizer, Rule
from cconv.train.optim.rmsprop import RMSprop
from cconv.train.optim.sgd import SGD
from cconv.train.optim.state import State
from cconv.train.schedules import Constant, Cosine, Schedule, StepDecay

Step = StepDecay  # its first name

__all__ = [
    "SGD", "Adam", "AdamW", "Constant", "Cosine", "Optimizer", "RMSprop", "Rule", "Schedule", "State", "Step",
    "StepDecay",
]  # fmt: skip
