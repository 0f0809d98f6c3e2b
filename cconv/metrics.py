"""Metrics, under the name that users import: `from cconv import metrics`. See cconv/train/metrics/."""

from cconv.train.metrics import *  # noqa: F403
from cconv.train.metrics import __all__ as __all__
