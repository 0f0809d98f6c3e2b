"""Losses: what a target must look like, and the steps that compare it with an output. One file each.

    loss.py         what a loss is

train/losses_by_output.py finds the loss of each output from what a Trainer is given.
"""

from cconv.train.losses.cross_entropy import CrossEntropy
from cconv.train.losses.loss import Loss
from cconv.train.losses.mean_absolute_error import MeanAbsoluteError
from cconv.train.losses.mean_squared_error import MeanSquaredError

__all__ = ["CrossEntropy", "Loss", "MeanAbsoluteError", "MeanSquaredError"]
