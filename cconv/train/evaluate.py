"""Evaluation: the model as it is used, over all batches of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cconv.train.batch import Source
from cconv.train.evaluation import Evaluation, Means
from cconv.train.metrics import Metric
from cconv.train.network import Network


def evaluate(
    source: Source, network: Network, metrics: Mapping[str, Sequence[Metric]], batch_size: int, seed: int = 0
) -> Evaluation:
    """Loss and metrics with running statistics and without dropout; nothing changes."""
    means = Means(metrics)
    for batch in source.batches(batch_size, shuffle=False, seed=seed, epoch=0):
        plan = network.filled_for_evaluation(batch)
        loss = plan.run()
        means.add(batch.examples, loss, plan.outputs, batch.targets)
    return Evaluation(means.numbers())
