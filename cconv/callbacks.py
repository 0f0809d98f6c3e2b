"""Callbacks, under the name that users import: `from cconv import callbacks`. See cconv/train/callbacks/."""

from cconv.train.callbacks import *  # noqa: F403
from cconv.train.callbacks import __all__ as __all__
