"""The proof of a repair: the model before and after it, on the same inputs, in cconv and in onnxruntime."""

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
    """
    Attributes:
        batches: sizes that were tried.
        errors: by engine, the largest difference of any output over that output's largest value.
        failures: by engine, why the repaired model does not give there what it gave; by "onnxruntime, batch 4" and
            the like.
        not_run: by engine, why the model could not be run there in the first place.
    """

    batches: Sequence[int]
    tolerance: float
    errors: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Some engine ran both, and everything that ran agrees."""
        return bool(self.errors) and not self.failures


@dataclass(frozen=True)
class Examples:
    """What a proof is run on.

    Attributes:
        arrays: by input name.
        batched: the inputs with one slice for each example; the others are the same for all.
    """

    arrays: Mapping[str, np.ndarray]
    batched: Sequence[str]

    def __len__(self) -> int:
        return min((len(array) for name, array in self.arrays.items() if name in self.batched), default=1)

    def part(self, begin: int, end: int) -> Examples:
        arrays = {n: array[begin:end] if n in self.batched else array for n, array in self.arrays.items()}
        return Examples(arrays, self.batched)


def prove(before: Model, after: Model, done: Done, examples: Examples, tolerance: float) -> Proof:
    """Run both on the first example and on all of them, and compare every output.

    Args:
        examples: whole batches, where one of the models takes one size only; it is then run on one after the other.
        tolerance: of the relative error.
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
        given = examples.part(0, batch)
        expected: dict[str, Outputs] = {}
        for engine, (first, _) in engines.items():
            try:
                expected[engine] = whole(first, given, step)
            except CconvError as error:
                not_run[engine] = str(error)
        if not expected:
            continue
        for engine, (_, second) in engines.items():
            # An engine that cannot run the model as it was is judged by what the other one gave.
            reference = expected.get(engine) or next(iter(expected.values()))
            try:
                difference = _difference(reference, done.as_before(whole(second, given, later)), engine)
            except CconvError as problem:
                if engine in expected:
                    failures[f"{engine}, batch {batch}"] = str(problem)
                continue
            errors[engine] = max(errors.get(engine, 0.0), difference)
            if not difference <= tolerance:
                failures[f"{engine}, batch {batch}"] = f"an output differs by {difference:.2g} of its largest value"
    return Proof(batches, tolerance, errors, failures, {k: v for k, v in not_run.items() if k not in errors})


def in_cconv(model: Model) -> Runner:
    def runner(feeds: Mapping[str, np.ndarray]) -> Outputs:
        outputs = model.run(_as_declared(model, feeds))
        return outputs if isinstance(outputs, Mapping) else {model.output_names[0]: outputs}

    return runner


def in_onnxruntime(model: Model) -> Runner:
    """
    Raises:
        ModelError: a model too large for one message.
    """
    try:
        data = model.proto(finished=False).SerializeToString()
    except ValueError as error:  # how protobuf says that a message exceeds 2 GiB
        raise ModelError("more than 2 GiB, which onnxruntime takes from a file only") from error

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
    """The outputs for all examples, computed `step` at a time."""
    if step is None or step >= len(examples):
        return runner(examples.arrays)
    parts = [runner(examples.part(begin, begin + step).arrays) for begin in range(0, len(examples), step)]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}


def _as_declared(model: Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Floating-point numbers in the dtype that the model declares."""
    specs = model.input_specs
    return {name: np.asarray(array).astype(specs[name].dtype, copy=False) for name, array in feeds.items()}


def _difference(before: Outputs, after: Outputs, engine: str) -> float:
    """The largest relative error over all outputs; infinite where shapes or names differ."""
    if set(before) != set(after):
        return float("inf")
    worst = 0.0
    for name, value in before.items():
        ours, theirs = np.asarray(after[name]), np.asarray(value)
        if ours.dtype.kind == theirs.dtype.kind == "f" or theirs.dtype.kind == "V":
            ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
        worst = max(worst, compare(engine, name, ours, theirs, 0.0).relative_error)
    return worst
