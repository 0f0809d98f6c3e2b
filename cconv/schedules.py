"""Learning-rate schedules, under the name that users import: `from cconv import schedules`. See
cconv/train/schedules/."""

from cconv.train.schedules import *  # noqa: F403
from cconv.train.schedules import __all__ as __all__
