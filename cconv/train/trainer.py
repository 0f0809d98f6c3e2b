"""Trainer: a model with a loss and an optimizer, stepped by hand or by `fit`.

A plan holds a whole training step for one set of input shapes. A last batch of another size needs a plan of its own.
Weights, optimizer state and the count of updates live outside of the plans. Values that change from step to step are
written to the plan's control record (seed, number of the step) and to the state's learning rates.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cconv.arguments import number, whole
from cconv.errors import CconvError, CheckpointError, TrainingError, ValueRangeError, explain
from cconv.graph.at_save import AtSave
from cconv.graph.limits import Limits
from cconv.graph.nodes import needed_for
from cconv.kernels.schedule.algorithms import PRECISIONS
from cconv.model import Model
from cconv.plan.plan import Plan
from cconv.plan.status import NotFinite, OutOfRange, StatisticsNotFinite
from cconv.train import checkpoint, registry, stopped
from cconv.train.advice import cure_of_no_weights, warn_of
from cconv.train.arrays import batch_shapes
from cconv.train.batch import Batch, Checked, Source, batch_of
from cconv.train.callbacks import Callback, check_callbacks
from cconv.train.dataset import loader_of
from cconv.train.evaluate import evaluate
from cconv.train.evaluation import Evaluation
from cconv.train.exclusive import Exclusive
from cconv.train.fit import check_targets, run_epochs
from cconv.train.frozen import keep
from cconv.train.history import History
from cconv.train.losses import Loss
from cconv.train.losses.loss import checks_values
from cconv.train.losses_by_output import losses_by_output
from cconv.train.metrics import Metric
from cconv.train.metrics.metric import column_of
from cconv.train.network import Network
from cconv.train.optim import SGD, Optimizer, State
from cconv.train.optim.state import Updates
from cconv.train.progress import note
from cconv.train.selection import Trainable, batchnorm_modes, reached_weights, select_weights

DEFAULT_OPTIMIZER = SGD(lr=0.01, momentum=0.9)


class Trainer:
    """Trains a model's weights in place.

    A training step treats subnormal numbers (closer to 0 than 1.2e-38) as 0, because many processors compute with them
    a hundred times as slowly. `evaluate` and `Model.run` do not.

    Args:
        model: the model; its graph must not be edited while this trainer is in use.
        loss: "cross_entropy", "mse" or an object like CrossEntropy(); for a model of several outputs a dict
            of them by output name, whose losses are added.
        optimizer: SGD, Adam, AdamW, or a name such as "adam" for its default options.
        trainable: names or glob patterns of the weights to train, or a function of the name; None: all weights that are
            reachable from the loss. Weights that only set an operator's behaviour (the bounds of a Clip, scales of
            quantisation) are trained if their own name is given, or a pattern that matches no other weights. Their
            gradients are sums over whole feature maps and need a small learning rate.
        batchnorm: "batch" (batch statistics, running averages updated), "frozen" (running averages used and
            untouched) or "statistics" (running averages updated, scale and bias fixed); or a dict of them
            by node name or pattern, of which the first that matches counts.
        threads: default: `cconv.get_num_threads()`. Results do not depend on it.
        seed: of dropout and of the order in which `fit` shuffles.
        max_gradient_norm: where the norm of all gradients together is larger, they are scaled down to it.
        check_inputs: look for NaN and infinity in every batch.
        precision: "fast" computes 3x3 convolutions of stride 1 by Winograd's algorithm. Its rms error is up to 5 times
            that of a direct float32 convolution, in weight gradients up to 10 times. "direct" computes all convolutions
            directly.
        metrics: names or objects, such as "accuracy", for the first output whose loss has metrics; or a dict of them by
            output name; None: the metrics that the losses name.

    Attributes:
        optimizer: the optimizer. It cannot be replaced, because the state belongs to it.
        trained: names of the weights that are trained.
        steps: updates done.
        epoch: epochs that `fit` has finished.
        history: losses and metrics of all epochs so far, of all calls of `fit`.

    Raises:
        TrainingError: nothing to train, or an entry of `trainable` that matches nothing.
        ValueRangeError: an option out of its range.
        UnsupportedOpError: operators that cconv does not have, all of them named.
    """

    def __init__(
        self,
        model: Model,
        loss: str | Loss | Mapping[str, str | Loss] = "cross_entropy",
        optimizer: str | Optimizer = DEFAULT_OPTIMIZER,
        trainable: Trainable = None,
        batchnorm: str | Mapping[str, str] = "batch",
        threads: int | None = None,
        seed: int = 0,
        max_gradient_norm: float | None = None,
        check_inputs: bool = False,
        precision: str = "fast",
        metrics: str | Metric | Sequence[str | Metric] | Mapping[str, Sequence[str | Metric]] | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            known = " or ".join(repr(name) for name in PRECISIONS)
            raise ValueRangeError(explain("Trainer", f"precision is {known}", repr(precision)))
        whole("Trainer", "seed", seed, least=0, below=2**63)
        if threads is not None:
            whole("Trainer", "threads", threads, least=1)
        if max_gradient_norm is not None:
            number("Trainer", "max_gradient_norm", max_gradient_norm, above=0)
        if isinstance(optimizer, str):
            optimizer = registry.made("optimizer", optimizer)
        if not isinstance(optimizer, Optimizer):
            raise ValueRangeError(explain("Trainer", "optimizer is one like SGD(lr=0.01)", repr(optimizer)))
        registry.described("optimizer", optimizer, "Trainer: optimizer")  # what no checkpoint can hold is refused now
        self.model = model
        self.losses = losses_by_output(model.output_names, loss)
        for each in self.losses.values():
            registry.described("loss", each, "Trainer: loss")
        self.metrics = _metrics_by_output(self.losses, metrics)
        self._optimizer = optimizer
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
        cure = "" if reached else cure_of_no_weights(model)
        self.trained = select_weights(trainable, reached, model.weights, named, nodes, cure)
        optimizer.check_weights(self.trained)
        self.state = State(optimizer, {name: model.weights[name] for name in self.trained})
        self.epoch = 0
        self.history = History()
        updates = Updates(optimizer, self.state, max_gradient_norm)
        self._inputs = model.input_specs
        dtypes = {name: spec.dtype for name, spec in self._inputs.items()}
        self._values_checked = all(checks_values(loss) for loss in self.losses.values())
        self._network = Network(
            model, nodes, dtypes, self.losses, self.trained, updates, self.batchnorm, threads, precision
        )
        self._total: int | None = None  # updates at the end of the running fit
        self._callbacks: Sequence[Callback] = ()  # of the running fit
        self._callback_states: list[dict[str, Any]] = []  # from a checkpoint, for the first fit
        self._exclusive = Exclusive()  # callbacks of `fit` may come back in
        warn_of(model, self.losses)

    @property
    def optimizer(self) -> Optimizer:
        return self._optimizer

    @optimizer.setter
    def optimizer(self, value: Optimizer) -> None:
        raise TrainingError(
            explain(
                "Trainer.optimizer",
                "stays what the trainer was made with, as the optimizer's state belongs to it",
                f"an assignment of {value!r}",
                "Make a new one: Trainer(trainer.model, optimizer=...).",
            )
        )

    @property
    def steps(self) -> int:
        return int(self.state.steps[0])

    @property
    def learning_rate(self) -> float:
        """Of the next update, for weights in no parameter group."""
        return self._optimizer.rates(self.steps, self._total)[0]

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
            network = self._network
            plan = None if self.check_inputs or not self._values_checked else network.repeated(x, y)
            return self._run(plan or network.filled(self._batch(x, y)))

    def gradients(self, x: Any, y: Any) -> tuple[float, dict[str, np.ndarray]]:
        """Loss of one batch and its gradient for every trained weight, before clipping; nothing changes.

        Arguments and errors as for `step`.
        """
        with self._exclusive:
            plan = self._network.filled(self._batch(x, y))
            loss = self._run(plan, until="update")
            return loss, {name: gradient.copy() for name, gradient in plan.gradients.items()}

    def evaluate(self, data: Any, batch_size: int = 32) -> Evaluation:
        """Loss and metrics of the model as it is used: running statistics, no dropout; nothing changes.

        Args:
            data: a pair (x, y), a dataset or a loader; see cconv.data.

        Returns:
            The loss is the mean over batches, weighted by their examples. `loss, accuracy = ...` takes it apart, where
            accuracy is None if it is no metric of the trainer.
        """
        with self._exclusive:
            whole("evaluate", "batch_size", batch_size, least=1)
            return evaluate(self._source(data, "data"), self._network, self.metrics, batch_size, self.seed)

    def plan_bytes(self, batch: int | Mapping[str, Sequence[int]]) -> int:
        """Memory that a training step takes beside weights and optimizer state, known before the first one.

        Args:
            batch: the number of examples; or the inputs' shapes by name, for a model that leaves more open.

        Raises:
            ShapeError: a number is not enough to know all shapes.
        """
        with self._exclusive:
            return self._network.training(batch_shapes(batch, self._inputs)).nbytes

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

        After Ctrl-C or an error the trainer is as the last complete step left it. Finished epochs are in
        `self.history`. The next `fit` begins the interrupted epoch anew.

        Args:
            train: a pair (x, y), a dataset or a loader; see cconv.data.
            validation: likewise; evaluated after every epoch.
            shuffle: in an order that depends on the trainer's seed and the epoch's number.
            callbacks: see cconv.callbacks.
            progress: show a bar on stderr, if that is a terminal.
            cache_frozen: if this call has several epochs, compute the layers before the first trained weight once for
                each example and cache their outputs until the end of the call. Losses and weights have the same bits.
                The examples must be the same in every epoch: a pair of arrays, which must not be written to meanwhile,
                or a dataset that says so (`deterministic`). Outputs that depend on batch statistics or dropout are not
                cached. A line above the bars says what is cached, or why nothing is.
            cache_limit: largest size of the cache in bytes.

        Returns:
            self.history, with a row for each epoch.

        Raises:
            ValueRangeError: an option out of its range.
            Others as `step`. The targets of arrays are checked before the first step.
        """
        _check_pair(train, epochs)
        whole("fit", "epochs", epochs, least=1)
        whole("fit", "batch_size", batch_size, least=1)
        number("fit", "cache_limit", cache_limit, least=0)
        check_callbacks(callbacks)
        with self._exclusive:
            checked = self._source(train, "train")
            held_out = None if validation is None else self._source(validation, "validation")
            source: Source = checked
            tested: Source | None = held_out
            network = tested_network = self._network
            if cache_frozen and epochs > 1:
                source, network, tested, tested_network, line = keep(
                    self._network, checked, held_out, batch_size, shuffle, cache_limit
                )
                note(line, progress)
            check_targets(checked, network, source, batch_size)
            if held_out is not None and tested is not None:
                check_targets(held_out, tested_network, tested, batch_size)
            self._total = self.steps + epochs * -(-len(source) // batch_size)
            self._callbacks = callbacks
            note(self._rise_of_the_rate(), progress)
            try:
                for callback in callbacks:
                    callback.on_fit_begin(self)
                self._restore_callbacks(callbacks)
                run_epochs(
                    self,
                    source,
                    network,
                    None
                    if tested is None
                    else lambda: evaluate(tested, tested_network, self.metrics, batch_size, self.seed),
                    self.epoch + epochs,
                    batch_size,
                    shuffle,
                    callbacks,
                    progress,
                )
                for callback in callbacks:
                    callback.on_fit_end(self)
            finally:
                self._total, self._callbacks = None, ()
        return self.history

    def run_step(self, batch: Batch, network: Network) -> tuple[float, Plan]:
        """One update from a checked batch; for the epoch loop.

        Args:
            network: the trainer's, or the part of it that the batch is for.

        Returns:
            The loss before the update, and the plan with the outputs.
        """
        plan = network.filled(batch)
        return self._run(plan), plan

    # Checkpoints.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write model, optimizer state, options, history and what callbacks remember to one file, whole or not at all.

        Raises:
            OutputError: the file cannot be written; an earlier one is as it was.
        """
        with self._exclusive:
            checkpoint.write(path, *self._parts())

    @classmethod
    def resume(cls, path: str | os.PathLike[str], threads: int | None = None, limits: Limits | None = None) -> Trainer:
        """A trainer that goes on where `save` was called, to the same bits.

        Args:
            limits: sizes beyond which the model in the file is refused.

        Raises:
            CheckpointError: no checkpoint, a damaged or altered one, or one of another version.
        """
        place = f"checkpoint {os.fspath(path)!r}"
        return cls._from_parts(*checkpoint.read(path, place), place, threads, limits)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its checkpoint."""
        with self._exclusive:
            return _unpickled, (type(self), checkpoint.to_bytes(*self._parts()), self.threads, self.model.limits)

    def _parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All that a checkpoint holds: a record for JSON, and arrays by name."""
        message, weights = checkpoint.take_apart(self.model)
        record = {
            "steps": self.steps,
            "epoch": self.epoch,
            "seed": self.seed,
            "loss": {name: registry.described("loss", loss, "loss") for name, loss in self.losses.items()},
            "metrics": {
                name: [registry.described("metric", metric, "metric") for metric in each]
                for name, each in self.metrics.items()
            },
            "optimizer": registry.described("optimizer", self.optimizer, "optimizer"),
            "trainable": list(self.trained),
            "batchnorm": self.batchnorm,
            "max_gradient_norm": None if self.max_gradient_norm is None else float(self.max_gradient_norm),
            "check_inputs": self.check_inputs,
            "precision": self.precision,
            "history": [dict(row) for row in self.history],
            "at_save": [[edit.kind, dict(edit.arguments)] for edit in self.model.at_save],
            "callbacks": [],
        }
        tensors = {"model": np.frombuffer(message, dtype=np.uint8)}
        tensors.update((f"weight:{name}", array) for name, array in weights.items())
        for slot, arrays in self.state.slots.items():
            tensors.update((f"optimizer:{slot}:{name}", array) for name, array in arrays.items())
        states = [{"class": type(callback).__name__, "state": callback.state()} for callback in self._callbacks]
        for i, state in enumerate(states or self._callback_states):
            record["callbacks"].append(checkpoint.without_arrays(state, f"callback:{i}", tensors))
        return record, tensors

    @classmethod
    def _from_parts(
        cls,
        record: dict[str, Any],
        tensors: dict[str, np.ndarray],
        place: str,
        threads: int | None,
        limits: Limits | None,
    ) -> Trainer:
        try:
            model = checkpoint.put_together(tensors, limits, place)
            model.at_save = tuple(AtSave(edit, arguments) for edit, arguments in record.get("at_save", ()))
            trainer = cls(
                model,
                loss={name: registry.restored(loss) for name, loss in record["loss"].items()},
                optimizer=registry.restored(record["optimizer"]),
                trainable=record["trainable"],
                batchnorm=record["batchnorm"],
                threads=threads,
                seed=record["seed"],
                max_gradient_norm=record["max_gradient_norm"],
                check_inputs=record["check_inputs"],
                precision=record["precision"],
                metrics={name: list(registry.restored(each)) for name, each in record["metrics"].items()},
            )
            history = History([{str(key): float(value) for key, value in row.items()} for row in record["history"]])
            if any(row.keys() < {"epoch", "loss"} for row in history):
                raise KeyError("loss")
            steps, epoch = int(record["steps"]), int(record["epoch"])
            states = [
                checkpoint.with_arrays(state, f"callback:{i}", tensors) for i, state in enumerate(record["callbacks"])
            ]
        except CheckpointError:
            raise
        except (CconvError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                explain(place, "holds a run that this version of cconv can take up", f"{error}")
            ) from error
        slots = {
            f"optimizer:{slot}:{name}": array
            for slot, arrays in trainer.state.slots.items()
            for name, array in arrays.items()
        }
        checkpoint.compare({name: t for name, t in tensors.items() if name.startswith("optimizer:")}, slots, place)
        for name, array in slots.items():
            array[...] = tensors[name]
        trainer.state.steps[0] = steps
        trainer.epoch = epoch
        trainer.history = history
        trainer._callback_states = states
        return trainer

    # What the above are made of.

    def _batch(self, x: Any, y: Any) -> Batch:
        return batch_of(x, y, self._inputs, list(self.losses), self.check_inputs)

    def _source(self, data: Any, what: str) -> Checked:
        return Checked(loader_of(data, what), self._inputs, list(self.losses), self.check_inputs)

    def _run(self, plan: Plan, until: str | None = None) -> float:
        control, rate = plan.control, None
        if until is None:  # the steps before the update read no learning rate
            self.state.rates[:] = self._optimizer.rates(self.steps, self._total)
            rate = float(self.state.rates[0])
        control[0] = 1, 0, self.steps, self.seed  # in the order of kernels/core/control.py
        try:
            plan.run(until)
        except NotFinite as error:
            raise stopped.not_finite(self.steps + 1, rate, float(control["loss"][0])) from error
        except StatisticsNotFinite as error:
            raise stopped.statistics(self.steps + 1, rate, error) from error
        except OutOfRange as error:
            self._network.checked_targets(plan.targets, plan.outputs)  # says which target, if it is one
            raise stopped.out_of_range(self.steps + 1, rate, error) from error
        return float(control["loss"][0])

    def _rise_of_the_rate(self) -> str:
        """A line for the user if this `fit` begins at a higher learning rate than the one before ended at."""
        last = self.history[-1].get("learning_rate") if len(self.history) else None
        if last is None or self.learning_rate <= 1.01 * last:
            return ""
        return (
            f"The learning rate starts at {self.learning_rate:.3g}; the last update before had {last:.3g}. "
            f"The schedule now ends at update {self._total}; Cosine(lr, steps=...) fixes where it ends."
        )

    def _restore_callbacks(self, callbacks: Sequence[Callback]) -> None:
        """Hand callbacks what a checkpoint holds of them, matched by class and order."""
        left, self._callback_states = self._callback_states, []
        for callback in callbacks:
            i = next((i for i, state in enumerate(left) if state["class"] == type(callback).__name__), None)
            if i is not None:
                callback.restore(left.pop(i)["state"])


def _unpickled(kind: type[Trainer], data: bytes, threads: int | None, limits: Limits) -> Trainer:
    return kind._from_parts(*checkpoint.from_bytes(data, "pickled trainer"), "pickled trainer", threads, limits)


def _check_pair(train: Any, epochs: Any) -> None:
    """
    Raises:
        TrainingError: x and y as two arguments.
    """
    if isinstance(epochs, (np.ndarray, list)):
        raise TrainingError(
            explain(
                "fit",
                "x and y are one argument, a pair",
                "x and y as two arguments",
                "Write fit((x, y), epochs=...).",
            )
        )


def _metrics_by_output(losses: Mapping[str, Loss], metrics: Any) -> dict[str, Sequence[Metric]]:
    """The metrics of each output.

    Without a wish, those of the first output whose loss has some: figures of several outputs under one name would be
    taken for one.

    Raises:
        ValueRangeError: no such metric or output.
    """
    if isinstance(metrics, Mapping):
        for name in metrics:
            if name not in losses:
                rule = f"metrics are for outputs with a loss ({', '.join(repr(key) for key in losses)})"
                raise ValueRangeError(explain("Trainer", rule, repr(name)))
        return {name: _metrics(metrics.get(name, ())) for name in losses}
    first = next((name for name, loss in losses.items() if loss.metrics()), next(iter(losses)))
    own = losses[first].metrics() if metrics is None else _metrics(metrics)
    return {name: own if name == first else () for name in losses}


def _metrics(wish: str | Metric | Sequence[str | Metric]) -> Sequence[Metric]:
    several: Any = wish if isinstance(wish, (list, tuple)) else [wish]
    found: list[Metric] = [registry.made("metric", one) if isinstance(one, str) else one for one in several]
    for metric in found:
        registry.described("metric", metric, "Trainer: metrics")
    columns = [column_of(metric) for metric in found]
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise ValueRangeError(explain("Trainer: metrics", "each metric has a column of its own", f"{twice[0]!r} twice"))
    return found
