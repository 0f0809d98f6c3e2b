"""Metrics: numbers about a model's outputs that are reported, not minimised. One file each.

metric.py       what a metric is
"""

from cconv.train.metrics.accuracy import Accuracy
from cconv.train.metrics.metric import Accumulator, Metric, Ratio
from cconv.train.metrics.top_k_accuracy import TopKAccuracy

__all__ = ["Accumulator", "Accuracy", "Metric", "Ratio", "TopKAccuracy"]
