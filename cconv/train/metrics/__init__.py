"""Metrics: numbers about a model's outputs that are reported, not minimised. One file each.

metric.py       what a metric is
"""

from cconv.train.metrics.accuracy import Accuracy
from cconv.train.metrics.metric import Accumulator, Metric, Ratio

__all__ = ["Accumulator", "Accuracy", "Metric", "Ratio"]
