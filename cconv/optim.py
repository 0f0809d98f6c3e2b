"""Optimizers and learning-rate schedules, under the name that users import: `from cconv import optim`. See
cconv/train/optim/."""

from cconv.train.optim import *  # noqa: F403
from cconv.train.optim import __all__ as __all__
