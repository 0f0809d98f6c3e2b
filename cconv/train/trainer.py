"""Trainer: a model with a loss and an optimizer, stepped by hand or by `fit`.

One plan per set of input shapes holds a whole step. Plans come and go (a last batch of another size needs its
own); weights, optimizer state and the count of updates live outside of them. What differs between steps is
handed to the plan in its control record: learning rate, seed, number of the step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cconv.errors import TrainingError, ValueRangeError, explain
from cconv.graph.limits import Limits
from cconv.graph.nodes import needed_for
from cconv.kernels.schedule.algorithms import PRECISIONS
from cconv.model import Model
from cconv.ops.tensor import Spec
from cconv.plan.plan import Plan
from cconv.train import checkpoint
from cconv.train.arrays import batch_shapes, named
from cconv.train.batches import Batch, Source, batch_of, data_of
from cconv.train.callbacks import Callback, ProgressBar, note
from cconv.train.evaluation import Evaluation, Mean, hits_of
from cconv.train.exclusive import Exclusive
from cconv.train.frozen import keep
from cconv.train.history import History, Row
from cconv.train.losses import Loss, checks_values, losses_by_output
from cconv.train.optim import SGD, Optimizer, State, Updates, learning_rate
from cconv.train.options import number, whole
from cconv.train.plans import Plans
from cconv.train.selection import Trainable, batchnorm_modes, reached_weights, select_weights

DEFAULT_OPTIMIZER = SGD(lr=0.01, momentum=0.9)

NOT_FINITE = 1  # of kernels/step.pxd


class Trainer:
    """Trains a model's weights in place.

    In a training step numbers closer to 0 than 1.2e-38 are 0, as many processors compute with them a hundred times as
    slowly; `evaluate` and `Model.run` compute with them as they are.

    Args:
        model: the model; its graph must not be edited while this trainer is in use.
        loss: "cross_entropy", "mse" or an object like CrossEntropy(); for a model of several outputs a dict
            of them by output name, whose losses are added.
        optimizer: SGD, Adam, AdamW.
        trainable: names or glob patterns of the weights to train, or a function of the name; None: all that a
            gradient of the loss comes to. What only sets an operator's behaviour (the bounds of a Clip, scales of
            quantisation) is trained where its own name is given, or a pattern that matches no others. The gradients of
            such numbers are sums over whole feature maps and want a small learning rate.
        batchnorm: "batch" (batch statistics, running averages updated), "frozen" (running averages used and
            untouched) or "statistics" (running averages updated, scale and bias fixed); or a dict of them
            by node name or pattern, of which the first that matches counts.
        threads: default: `cconv.get_num_threads()`. Results do not depend on it.
        seed: of dropout and of the order in which `fit` shuffles.
        max_gradient_norm: where the norm of all gradients together is larger, they are scaled down to it.
        check_inputs: look for NaN and infinity in every batch.
        precision: "fast" computes 3x3 convolutions of stride 1 by Winograd's algorithm, whose rms error is up to
            5 times a direct float32 convolution's, in weight gradients up to 10 times; "direct" computes all by the
            direct one.

    Attributes:
        trained: names of the weights that are trained.
        steps: updates done.
        epoch: epochs that `fit` has finished.
        history: what `fit` has found out so far, all calls together.

    Raises:
        TrainingError: nothing to train, or an entry of `trainable` that matches nothing.
        ValueRangeError: an option out of its range.
        UnsupportedOpError: operators that cconv does not have, all of them named.
    """

    def __init__(
        self,
        model: Model,
        loss: str | Loss | Mapping[str, str | Loss] = "cross_entropy",
        optimizer: Optimizer = DEFAULT_OPTIMIZER,
        trainable: Trainable = None,
        batchnorm: str | Mapping[str, str] = "batch",
        threads: int | None = None,
        seed: int = 0,
        max_gradient_norm: float | None = None,
        check_inputs: bool = False,
        precision: str = "fast",
    ) -> None:
        if precision not in PRECISIONS:
            known = " or ".join(repr(name) for name in PRECISIONS)
            raise ValueRangeError(explain("Trainer", f"precision is {known}", repr(precision)))
        whole("Trainer", "seed", seed, least=0, below=2**63)
        if threads is not None:
            whole("Trainer", "threads", threads, least=1)
        if max_gradient_norm is not None:
            number("Trainer", "max_gradient_norm", max_gradient_norm, above=0)
        if not callable(getattr(optimizer, "step", None)):
            raise ValueRangeError(explain("Trainer", "optimizer is one like SGD(lr=0.01)", repr(optimizer)))
        self.model = model
        self.losses = losses_by_output(model.output_names, loss)
        self.optimizer = optimizer
        self.seed = int(seed)
        self.threads = threads
        self.max_gradient_norm = max_gradient_norm
        self.check_inputs = check_inputs
        self.precision = precision
        nodes = needed_for(model.nodes, self.losses)
        self.batchnorm = batchnorm_modes(batchnorm, nodes)
        reached = reached_weights(nodes, self.losses, model.weights, self.batchnorm)
        every = reached_weights(nodes, self.losses, model.weights, self.batchnorm, settings=True)
        named = [name for name in every if name not in reached]
        self.trained = select_weights(trainable, reached, model.weights, named, nodes)
        self.state = State(optimizer, {name: model.weights[name] for name in self.trained})
        self.epoch = 0
        self.history = History()
        updates = Updates(optimizer, self.state, max_gradient_norm)
        self._inputs = model.input_specs
        dtypes = {name: spec.dtype for name, spec in self._inputs.items()}
        self._values_checked = all(checks_values(loss) for loss in self.losses.values())
        self._plans = Plans(
            model, nodes, dtypes, self.losses, self.trained, updates, self.batchnorm, threads, precision
        )
        self._total: int | None = None  # updates at the end of the running fit
        self._exclusive = Exclusive()  # callbacks of `fit` may come back in

    @property
    def steps(self) -> int:
        return int(self.state.steps[0])

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        return learning_rate(self.optimizer, self.steps, self._total)

    def __repr__(self) -> str:
        return (
            f"Trainer({self.model!r}, {self.optimizer!r}; {len(self.trained)} weights trained, "
            f"{self.steps} updates done)"
        )

    # One step.

    def step(self, x: Any, y: Any) -> float:
        """One update from one batch.

        Args:
            x: the input (N, ...), or a dict of inputs by name. float64 and integers are converted where
                float32 holds them.
            y: the target of the loss (class indices (N,), or values), or a dict by output name.

        Returns:
            The loss before the update.

        Raises:
            ShapeError, DTypeError, ValueRangeError: x or y unlike what the model and the loss take.
            TrainingError: a loss that is not finite, or a trainer in use by another thread. The weights are
                as they were.
        """
        with self._exclusive:
            plan = None if self.check_inputs or not self._values_checked else self._plans.repeated(x, y)
            if plan is None:
                batch = batch_of(x, y, self._inputs, list(self.losses), self.check_inputs)
                plan = self._filled(batch, self._plans)
            return self._run(plan)

    def gradients(self, x: Any, y: Any) -> tuple[float, dict[str, np.ndarray]]:
        """Loss of one batch and its gradient for every trained weight, before clipping; nothing changes.

        Arguments and errors as for `step`.
        """
        with self._exclusive:
            batch = batch_of(x, y, self._inputs, list(self.losses), self.check_inputs)
            plan = self._filled(batch, self._plans)
            loss = self._run(plan, until="update")
            return loss, {name: gradient.copy() for name, gradient in plan.gradients.items()}

    def evaluate(self, data: Any, batch_size: int = 32) -> Evaluation:
        """Loss and accuracy of the model as it is used: running statistics, no dropout; nothing changes.

        Args:
            data: a pair (x, y), or a dataset with batches.

        Returns:
            (loss, accuracy): the mean over batches, weighted by their examples; accuracy 0..1 of the first
            output whose loss knows classes, else None.
        """
        with self._exclusive:
            whole("evaluate", "batch_size", batch_size, least=1)
            return self._evaluate(self._source(data, "data"), batch_size)

    def plan_bytes(self, batch: int | Mapping[str, Sequence[int]]) -> int:
        """Memory that a training step takes beside weights and optimizer state, known before the first one.

        Args:
            batch: the number of examples; or the inputs' shapes by name, for a model that leaves more open.

        Raises:
            ShapeError: a number is not enough to know all shapes.
        """
        with self._exclusive:
            return self._plans.training(batch_shapes(batch, self._inputs)).nbytes

    # Whole epochs.

    def fit(
        self,
        train: Any,
        epochs: int,
        validation: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
        cache_frozen: bool = True,
        cache_limit: float = 2e9,
    ) -> History:
        """Train for `epochs` more epochs.

        Ctrl-C or an error leaves the trainer as the last whole step left it; finished epochs are in
        `self.history`, and the epoch that was under way is begun anew by the next `fit`.

        Args:
            train: a pair (x, y), or a dataset with batches (see cconv.train.batches.Data).
            validation: likewise; evaluated after every epoch.
            shuffle: in an order that depends on the trainer's seed and the epoch's number.
            callbacks: called between epochs; see cconv.train.callbacks.
            progress: show a bar on stderr.
            cache_frozen: compute the layers before the first trained weight once for each example and keep what
                they give until the end of this call, if it has several epochs. Losses and weights are the same
                bits. This needs data whose examples are the same in every epoch: a pair of arrays, which must
                not be written to meanwhile, or a dataset that says so (cconv.train.batches.Repeats). Not kept is
                what follows batch statistics or dropout. A line above the bars says what is kept, or why not.
            cache_limit: bytes that may be kept.

        Returns:
            self.history, with a row for each epoch.

        Raises:
            ValueRangeError: an option out of its range.
            Others as `step`. The targets of arrays are checked before the first step.
        """
        whole("fit", "epochs", epochs, least=1)
        whole("fit", "batch_size", batch_size, least=1)
        number("fit", "cache_limit", cache_limit, least=0)
        with self._exclusive:
            data: Source = self._source(train, "train")
            held_out = None if validation is None else self._source(validation, "validation")
            if cache_frozen and epochs > 1:
                data, held_out, line = keep(data, held_out, batch_size, shuffle, cache_limit)
                note(line, progress)
            for part in (data, held_out):
                if part is not None:
                    self._check_targets(part, batch_size)
            self._total = self.steps + epochs * -(-len(data) // batch_size)
            last = self.epoch + epochs
            try:
                for callback in callbacks:
                    callback.on_fit_begin(self)
                while self.epoch < last:
                    title = f"epoch {self.epoch + 1}/{last}"
                    with ProgressBar(len(data), title, progress) as bar:
                        row = self._epoch(data, held_out, batch_size, shuffle, bar)
                    self.epoch += 1
                    self.history.append(row)
                    stops = [callback.on_epoch_end(self, row) for callback in callbacks]
                    if any(stops):
                        break
                for callback in callbacks:
                    callback.on_fit_end(self)
            finally:
                self._total = None
        return self.history

    def _epoch(
        self, data: Source, held_out: Source | None, batch_size: int, shuffle: bool, bar: ProgressBar
    ) -> Row:
        begin = time.perf_counter()
        mean, rate = Mean(), 0.0
        for batch in data.batches(batch_size, shuffle=shuffle, seed=self.seed, epoch=self.epoch):
            rate = self.learning_rate
            loss, plan = self._step(batch, data.plans)
            mean.add(batch.examples, loss, hits_of(self.losses, plan.outputs, batch.targets))
            bar.advance(batch.examples, mean.total / mean.examples)
        trained = mean.value()
        tested = None if held_out is None else self._evaluate(held_out, batch_size)
        row = Row(
            epoch=self.epoch + 1,
            loss=trained.loss,
            accuracy=trained.accuracy,
            val_loss=tested.loss if tested else None,
            val_accuracy=tested.accuracy if tested else None,
            seconds=time.perf_counter() - begin,
            learning_rate=rate,
        )
        bar.finish(row)
        return row

    # Checkpoints.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write model, optimizer state, options and history to one file, whole or not at all.

        Raises:
            OutputError: the file cannot be written; an earlier one is as it was.
            CheckpointError: a loss or optimizer that is not cconv's own.
        """
        with self._exclusive:
            checkpoint.save(self, path)

    @classmethod
    def resume(
        cls, path: str | os.PathLike[str], threads: int | None = None, limits: Limits | None = None
    ) -> Trainer:
        """A trainer that goes on where `save` was called, to the same bits.

        Args:
            limits: sizes beyond which the model in the file is refused.

        Raises:
            CheckpointError: no checkpoint, a damaged or altered one, or one of another version.
        """
        return checkpoint.resume(cls, path, threads, limits)

    # What the above are made of.

    def _checked_targets(
        self, targets: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        checked = {}
        for name, target in targets.items():
            spec = Spec(outputs[name].shape, outputs[name].dtype)
            checked[name] = self.losses[name].check_target(spec, target, f"target of {name!r}")
        return checked

    def _source(self, data: Any, what: str) -> Source:
        """A dataset, or a pair (x, y), for the whole network."""
        return Source(data_of(data, what), self._plans, self._inputs, self.check_inputs)

    def _filled(self, batch: Batch, plans: Plans) -> Plan:
        """The training plan for this batch, its inputs and targets in place."""
        plan = plans.training({name: array.shape for name, array in batch.inputs.items()})
        batch.targets = self._checked_targets(batch.targets, plan.outputs)
        for name, array in batch.inputs.items():
            plan.inputs[name][...] = array
        for name, array in batch.targets.items():
            plan.targets[name][...] = array
        return plan

    def _step(self, batch: Batch, plans: Plans) -> tuple[float, Plan]:
        plan = self._filled(batch, plans)
        return self._run(plan), plan

    def _run(self, plan: Plan, until: str | None = None) -> float:
        control = plan.control
        rate = self.learning_rate if until is None else None  # what runs up to the update needs none
        control[0] = rate or 0, 1, 0, self.steps, self.seed  # in the order of kernels/control.py
        label, status = plan.run(until)
        loss = float(control["loss"][0])
        if status:
            raise self._stopped(plan, label, status, loss, rate)
        return loss

    def _stopped(self, plan: Plan, label: str, status: int, loss: float, rate: float | None) -> TrainingError:
        place = f"step {self.steps + 1}" + (f" (learning rate {rate:g})" if rate is not None else "")
        if status != NOT_FINITE:
            self._checked_targets(plan.targets, plan.outputs)
            return TrainingError(
                explain(f"{place}, {label}", "indices lie within their axis", "one that does not")
            )
        found = f"a loss of {loss:g}" + (" whose gradient is not" if np.isfinite(loss) else "")
        return TrainingError(
            explain(
                place,
                "the loss and its gradient are finite",
                found,
                "Try a smaller learning rate, max_gradient_norm=1.0, or check_inputs=True to look for NaN in "
                "the data. Weights, optimizer state and running statistics are as before this step.",
            )
        )

    def _evaluate(self, source: Source, batch_size: int) -> Evaluation:
        mean = Mean()
        for batch in source.batches(batch_size, shuffle=False, seed=self.seed, epoch=0):
            found = source.plans.evaluation({name: array.shape for name, array in batch.inputs.items()})
            batch.targets = self._checked_targets(batch.targets, found.plan.outputs)
            for name, array in batch.inputs.items():
                found.plan.inputs[name][...] = array
            for name, array in batch.targets.items():
                found.targets[name][...] = array
            loss = found.run()
            mean.add(batch.examples, loss, hits_of(self.losses, found.plan.outputs, batch.targets))
        return mean.value()

    def _check_targets(self, source: Source, batch_size: int) -> None:
        """All targets of a dataset that has them at hand, against the model's outputs for one batch."""
        y = getattr(source.data, "y", None)
        if y is None:
            return
        shapes, examples = source.shapes(batch_size)
        plan = source.plans.training(shapes)
        for name, target in named(y, list(self.losses), "y").items():
            output = plan.outputs[name]
            if output.shape[0] == examples:
                spec = Spec((len(source), *output.shape[1:]), output.dtype)
                self.losses[name].check_target(spec, target, f"target of {name!r}")
