"""check: compare every output of a model between cconv and onnxruntime."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cconv.errors import ModelError, ValueRangeError, explain
from cconv.model import Model, load
from cconv.prove import runtime
from cconv.prove.bisect import Bisector, Divergence
from cconv.prove.compare import compare
from cconv.prove.inputs import at_batch, random_inputs
from cconv.prove.providers import NotAvailable, Provider, Refused, Running, Target, levels, requested
from cconv.prove.report import Report, Run
from cconv.versions import versions

TOLERANCE = 1e-4
"""Default of `tolerance`, a relative error. Two correct float32 implementations of a network of 50 to 100 layers add in
different orders, and their outputs differ by 1e-6 to 1e-5. A wrong pad, a forgotten update or half precision gives 1e-3
or more."""


# Number of examples that cconv computes at a time, to limit the memory of a run.
PART = 64


def check(
    model: Model | str | os.PathLike[str],
    inputs: Any = None,
    providers: str | Sequence[str | Provider] | None = None,
    tolerance: float = TOLERANCE,
    *,
    optimization: str | Sequence[str] | None = None,
    batches: Sequence[int] | None = None,
    nodes: bool = False,
) -> Report:
    """Run a model in cconv and in onnxruntime on the same inputs and compare every output.

    For a path, onnxruntime reads the file itself. For a Model, it gets the graph that cconv runs, without the edits in
    `model.at_save` that `model.save` would apply. Each execution provider must run the whole model: a provider that
    would leave nodes to the CPU is reported as refused.

    Args:
        model: a model, or the path of an ONNX file.
        inputs: array for the model's only input, or {input name: array}; None for random numbers, see random_inputs.
        providers: None for the CPU; "all" for every execution provider of this onnxruntime; or names, such
            as ["cpu", "CUDAExecutionProvider"]. An unavailable provider is reported as not available, never as passed.
            CUDA runs twice: in float32, and with TF32, which has a tolerance of 1e-2.
        tolerance: largest accepted difference, relative to the output's largest absolute value.
        optimization: onnxruntime's levels of graph optimization: None for its default, "full"; "all" for each level; or
            names among "off", "basic", "extended", "layout", "full".
        batches: batch sizes to run; None for the inputs as they are. A batch has the first examples of the inputs,
            repeated from the first one if there are too few.
        nodes: if outputs differ, find the first node that differs, and report which of the two is wrong.

    Raises:
        ValueRangeError: the tolerance is negative, a provider or a level is unknown, or `batches` is given for a model
            with a fixed batch size.
        ModelError: the file is not ONNX, or the model exceeds 2 GiB.
        ValueRangeError, ShapeError, DTypeError: the inputs do not match the model's.
        UnsupportedOpError: the model has operators that cconv does not support.
    """
    if not tolerance >= 0:
        raise ValueRangeError(explain("tolerance", "is at least 0", repr(tolerance)))
    wanted, at_levels = requested(providers), levels(optimization)
    if isinstance(model, Model):
        source: bytes | str = _serialized(model)
    else:
        source = os.fspath(model)
        model = load(source)
    if inputs is None:
        inputs = random_inputs(model, max(batches, default=2) if batches is not None else 2)
    by_name = inputs if isinstance(inputs, Mapping) else {model.input_names[0]: inputs}
    arrays = {name: np.asarray(value) for name, value in by_name.items()}
    feeds = [arrays] if batches is None else [at_batch(model, arrays, size) for size in batches]
    if not feeds:
        raise ValueRangeError(explain("batches", "names at least one size", "none"))
    expected = []
    for values in feeds:
        result = _ours(model, inputs if batches is None else values)
        expected.append(result if isinstance(result, Mapping) else {model.output_names[0]: result})

    runs: list[Run] = []
    divergences: list[Divergence] = []
    for target in wanted:
        target_divergences: list[Divergence] = []
        for level in at_levels:
            done = _at_level(source, target, level, feeds, expected, tolerance)
            runs += done
            for run, values in zip(done, feeds):
                if nodes and not run.ok and run.comparisons:
                    _trace(model, run, values, target, target_divergences)
        divergences += target_divergences
    packages = versions()
    return Report(
        runs=runs,
        tolerance=tolerance,
        versions={**{name: packages[name] for name in ("cconv", "onnx")}, "onnxruntime": _onnxruntime()},
        divergences=divergences,
    )


def _ours(model: Model, inputs: Any) -> Any:
    """Run the model in cconv; in batches of PART examples, if the examples do not depend on each other."""
    arrays = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    if max((len(array) for array in map(np.asarray, arrays) if array.ndim), default=0) > PART:
        with contextlib.suppress(ValueRangeError):
            return model.run(inputs, batch_size=PART)
    return model.run(inputs)


def _at_level(
    source: bytes | str,
    target: Target,
    level: str,
    feeds: Sequence[Mapping[str, np.ndarray]],
    expected: Sequence[Mapping[str, np.ndarray]],
    tolerance: float,
) -> list[Run]:
    """Run and compare each batch on one provider at one level of optimization, all in one session."""
    limit = max(tolerance, target.tolerance)
    runs = []
    session: Running | None = None
    for values, ours in zip(feeds, expected):
        batch = max((len(value) for value in values.values() if value.ndim), default=1)
        run = Run(target.name, target.label, level, batch, limit)
        try:
            session = session or Running(source, target, level)
            theirs = session.run(values)
        except NotAvailable as error:
            run.not_available = str(error)
        except Refused as error:
            run.refused = str(error)
        else:
            run.comparisons = [compare(target.name, key, ours[key], value, limit) for key, value in theirs.items()]
        runs.append(run)
    return runs


def _trace(model: Model, run: Run, feeds: Mapping[str, np.ndarray], target: Target, found: list[Divergence]) -> None:
    """Find the first node at which a run differs from cconv's, and add it to `found`.

    Most runs differ first at a node that is already in `found`. This is tested before the slower search.
    """
    bisector = Bisector(model, feeds, target, run.optimization, run.tolerance)
    same = next((divergence for divergence in found if bisector.starts_at(divergence)), None)
    if same is None:
        same = bisector.search([c.output for c in run.comparisons if not c.ok])
        if same is None:
            run.untraced = True
            return
        found.append(same)
    same.runs.append(run.title)


def _onnxruntime() -> str:
    """The version of onnxruntime, read from the module: its package may have another name (onnxruntime-openvino)."""
    return str(runtime.onnxruntime().__version__)


def _serialized(model: Model) -> bytes:
    """Serialize the graph as cconv runs it, without the edits that `Model.save` applies."""
    proto = model.proto(finished=False)
    try:
        return proto.SerializeToString()
    except ValueError as error:  # protobuf raises ValueError if a message exceeds 2 GiB
        raise ModelError(
            explain(
                "check",
                "a model with its weights takes at most 2 GiB",
                "a larger one",
                "Save the model, which writes the weights to a separate file, and check it by its path.",
            )
        ) from error
