"""Losses, under the name that users import: `from cconv import losses`. See cconv/train/losses/."""

from cconv.train.losses import *  # noqa: F403
from cconv.train.losses import __all__ as __all__
