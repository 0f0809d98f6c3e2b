"""Verify a repair: run the models before and after it on the same inputs, in cconv and in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cconv.concerns.case import Case
from cconv.concerns.concern import Done, Outputs
from cconv.errors import CconvError, ModelError
from cconv.model import Model
from cconv.prove.compare import compare
from cconv.prove.providers import NotAvailable, Refused, Running, requested

CCONV, ONNXRUNTIME = "cconv", "onnxruntime"

Runner = Callable[[Mapping[str, np.ndarray]], Outputs]


@dataclass(frozen=True)
class Proof:
    """The result of comparing a model before and after a repair. An engine is "cconv" or "onnxruntime".

    Attributes:
        batches: batch sizes that were tried.
        tolerance: largest relative error that is accepted.
        errors: engine -> largest difference of any output, relative to the largest absolute value of that output.
        failures: engine and batch, such as "onnxruntime, batch 4" -> why the repaired model fails the comparison.
        not_run: engine -> why the model before the repair could not be run.
    """

    batches: Sequence[int]
    tolerance: float
    errors: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the outputs could be compared in at least one engine and no comparison failed."""
        return bool(self.errors) and not self.failures


@dataclass(frozen=True)
class Examples:
    """Inputs on which the models before and after a repair are compared.

    Attributes:
        arrays: input name -> array.
        batched: names of the inputs whose first axis is the batch; the other inputs are the same for all examples.
    """

    arrays: Mapping[str, np.ndarray]
    batched: Sequence[str]

    def __len__(self) -> int:
        return min((len(array) for name, array in self.arrays.items() if name in self.batched), default=1)

    def part(self, begin: int, end: int) -> Examples:
        arrays = {n: array[begin:end] if n in self.batched else array for n, array in self.arrays.items()}
        return Examples(arrays, self.batched)


def prove(before: Model, after: Model, done: Done, examples: Examples, tolerance: float) -> Proof:
    """Run both models on the first example or batch and on all examples, and compare every output.

    Args:
        before, after: the models before and after the repair.
        examples: the inputs. If a model accepts only one batch size, their number is a multiple of this size, and the
            model runs one batch after the other.
        tolerance: largest relative error that is accepted, unless `done` has a larger one.
    """
    step, later = done.before_batch or Case(before).fixed_batch, Case(after).fixed_batch
    batches = sorted({min(step or 1, len(examples)), len(examples)})
    tolerance = max(tolerance, done.tolerance or 0)
    errors: dict[str, float] = {}
    failures: dict[str, str] = {}
    not_run: dict[str, str] = {}
    engines = {CCONV: (in_cconv(before), in_cconv(after))}
    try:
        engines[ONNXRUNTIME] = (in_onnxruntime(before), in_onnxruntime(after))
    except ModelError as error:
        not_run[ONNXRUNTIME] = str(error)
    for batch in batches:
        inputs = examples.part(0, batch)
        expected: dict[str, Outputs] = {}
        for engine, (first, _) in engines.items():
            try:
                expected[engine] = whole(first, inputs, step)
            except CconvError as error:
                not_run[engine] = str(error)
        if not expected:
            continue
        for engine, (_, second) in engines.items():
            # If this engine cannot run the model before the repair, compare with the other engine's outputs.
            reference = expected.get(engine) or next(iter(expected.values()))
            try:
                difference = _difference(reference, done.as_before(whole(second, inputs, later)), engine)
            except CconvError as problem:
                if engine in expected:
                    failures[f"{engine}, batch {batch}"] = str(problem)
                continue
            errors[engine] = max(errors.get(engine, 0.0), difference)
            if not difference <= tolerance:
                failures[f"{engine}, batch {batch}"] = f"an output differs by {difference:.2g} of its largest value"
    return Proof(batches, tolerance, errors, failures, {k: v for k, v in not_run.items() if k not in errors})


def in_cconv(model: Model) -> Runner:
    """Return a function that runs the model in cconv."""

    def runner(feeds: Mapping[str, np.ndarray]) -> Outputs:
        outputs = model.run(_as_declared(model, feeds))
        return outputs if isinstance(outputs, Mapping) else {model.output_names[0]: outputs}

    return runner


def in_onnxruntime(model: Model) -> Runner:
    """Return a function that runs the model on onnxruntime's CPU provider. It raises ModelError if that fails.

    Raises:
        ModelError: the serialized model exceeds 2 GiB, the limit of a protobuf message.
    """
    try:
        data = model.proto(finished=False).SerializeToString()
    except ValueError as error:  # protobuf raises ValueError if a message exceeds 2 GiB
        raise ModelError("the model exceeds 2 GiB, which onnxruntime reads only from a file") from error

    running: Running | None = None

    def runner(feeds: Mapping[str, np.ndarray]) -> Outputs:
        nonlocal running
        try:
            running = running or Running(data, requested(None)[0])
            return running.run(_as_declared(model, feeds))
        except (NotAvailable, Refused) as error:
            raise ModelError(str(error)) from error

    return runner


def whole(runner: Runner, examples: Examples, step: int | None) -> Outputs:
    """The outputs for all examples, computed in batches of `step` examples; None for one batch of all."""
    if step is None or step >= len(examples):
        return runner(examples.arrays)
    parts = [runner(examples.part(begin, begin + step).arrays) for begin in range(0, len(examples), step)]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}


def _as_declared(model: Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert the arrays to the dtypes that the model's inputs declare."""
    specs = model.input_specs
    return {name: np.asarray(array).astype(specs[name].dtype, copy=False) for name, array in feeds.items()}


def _difference(before: Outputs, after: Outputs, engine: str) -> float:
    """The largest relative error over all outputs; infinite if output names or shapes differ."""
    if set(before) != set(after):
        return float("inf")
    worst = 0.0
    for name, value in before.items():
        ours, theirs = np.asarray(after[name]), np.asarray(value)
        if ours.dtype.kind == theirs.dtype.kind == "f" or theirs.dtype.kind == "V":
            ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
        worst = max(worst, compare(engine, name, ours, theirs, 0.0).relative_error)
    return worst
