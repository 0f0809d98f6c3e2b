"""The epoch loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cconv.ops.tensor import Spec
from cconv.plan.plan import Plan
from cconv.train.arrays import named
from cconv.train.batch import Batch, Checked, Source
from cconv.train.callbacks import Callback
from cconv.train.callbacks.callback import Training
from cconv.train.evaluation import Evaluation, Means
from cconv.train.history import Row
from cconv.train.metrics import Metric
from cconv.train.network import Network
from cconv.train.progress import EpochBar


class Stepper(Training, Protocol):
    """What the epoch loop needs of the Trainer."""

    seed: int
    metrics: dict[str, Sequence[Metric]]

    def run_step(self, batch: Batch, network: Network) -> tuple[float, Plan]:
        """One update; the loss before it, and the plan with the outputs."""
        ...


def run_epochs(
    trainer: Stepper,
    source: Source,
    network: Network,
    held_out: Callable[[], Evaluation] | None,
    last: int,
    batch_size: int,
    shuffle: bool,
    callbacks: Sequence[Callback],
    progress: bool,
) -> None:
    """Train until `last` epochs are done, or a callback says to stop.

    Args:
        source, network: batches, and the network, or part of it, that they are for.
        held_out: evaluates the validation data.
    """
    while trainer.epoch < last:
        for callback in callbacks:
            callback.on_epoch_begin(trainer)
        title = f"epoch {trainer.epoch + 1}/{last}"
        with EpochBar(len(source), title, progress) as bar:
            row = _epoch(trainer, source, network, held_out, batch_size, shuffle, callbacks, bar)
        trainer.epoch += 1
        trainer.history.append(row)
        stops = [callback.on_epoch_end(trainer, row) for callback in callbacks]
        if any(stops):
            break


def _epoch(
    trainer: Stepper,
    source: Source,
    network: Network,
    held_out: Callable[[], Evaluation] | None,
    batch_size: int,
    shuffle: bool,
    callbacks: Sequence[Callback],
    bar: EpochBar,
) -> Row:
    begin = time.perf_counter()
    means, rate = Means(trainer.metrics), 0.0
    on_step_end = [c.on_step_end for c in callbacks if type(c).on_step_end is not Callback.on_step_end]
    for batch in source.batches(batch_size, shuffle=shuffle, seed=trainer.seed, epoch=trainer.epoch):
        rate = trainer.learning_rate
        loss, plan = trainer.run_step(batch, network)
        means.add(batch.examples, loss, plan.outputs, batch.targets)
        for call in on_step_end:
            call(trainer, loss)
        bar.advance(batch.examples, means.loss)
    numbers = means.numbers()
    if held_out is not None:
        evaluation = held_out()
        numbers.update((f"val_{name}", value) for name, value in evaluation.numbers.items())
        for callback in callbacks:
            callback.on_evaluation_end(trainer, evaluation)
    seconds = time.perf_counter() - begin
    row = {"epoch": trainer.epoch + 1, **numbers, "seconds": seconds, "learning_rate": rate}
    bar.finish(row)
    return row


def check_targets(source: Checked, network: Network, shapes_of: Source, batch_size: int) -> None:
    """All targets of a loader that has them in memory, against the model's outputs for one batch.

    Args:
        shapes_of: gives the shapes of the inputs of `network`.
    """
    y = getattr(source.loader, "y", None)
    if y is None:
        return
    shapes, examples = shapes_of.shapes(batch_size)
    plan = network.training(shapes)
    for name, target in named(y, list(network.losses), "y").items():
        output = plan.outputs[name]
        if output.shape[0] == examples:
            spec = Spec((len(source), *output.shape[1:]), output.dtype)
            network.losses[name].check_target(spec, target, f"target of {name!r}")
