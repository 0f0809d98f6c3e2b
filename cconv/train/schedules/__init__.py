"""Learning-rate schedules: a step's number in, its learning rate out. One file each.

They hold no state, so a run that is resumed from a checkpoint goes on where it was. An optimizer takes a number or one
of these as `lr`.
"""

from cconv.train.schedules.constant import Constant
from cconv.train.schedules.cosine import Cosine
from cconv.train.schedules.exponential import Exponential
from cconv.train.schedules.schedule import Schedule
from cconv.train.schedules.step_decay import StepDecay

__all__ = ["Constant", "Cosine", "Exponential", "Schedule", "StepDecay"]
