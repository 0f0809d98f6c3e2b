"""check: every output of a model, computed by cconv and by onnxruntime."""

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
"""Default of `tolerance`. Two correct float32 implementations of a network of fifty to a hundred layers add
in different orders and end 1e-6 to 1e-5 apart; a wrong pad, a forgotten update or half precision make 1e-3
and more."""


# Examples that are computed at a time: the memory of a run is that of so many.
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

    onnxruntime gets the graph that cconv runs, as `model.save` would write it without the edits that wait for that
    (`model.at_save`); or, for a path, the file itself. Each execution provider runs the whole model by itself; one that
    leaves nodes to the CPU is reported as refused.

    Args:
        model: a model, or the path of one.
        inputs: array for the model's one input, or {input name: array}; None: random numbers, see random_inputs.
        providers: None for the CPU; "all" for every execution provider of this onnxruntime; or names, such
            as ["cpu", "CUDAExecutionProvider"]. One that is not here is listed as such, never as passed. CUDA
            runs twice: in float32, and with TF32, for which a relative error of 1e-2 is ok.
        tolerance: largest difference that is ok, as a share of the output's largest absolute value.
        optimization: onnxruntime's graph optimization: None for its default, "full"; "all" for each level; or
            names among "off", "basic", "extended", "layout", "full".
        batches: batch sizes to run: the first examples of the inputs, from the first again where there are too few.
            None for the inputs as they are.
        nodes: where outputs differ, find the first node that does, and say which of the two is wrong.

    Raises:
        ValueRangeError: a negative tolerance, a provider that onnxruntime does not know, an unknown level, batch sizes
            for a model of a fixed one.
        ModelError: a file that is not ONNX, a model of more than 2 GiB.
        ValueRangeError, ShapeError, DTypeError: inputs that are not the model's.
        UnsupportedOpError: operators that cconv does not have.
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
    given = inputs if isinstance(inputs, Mapping) else {model.input_names[0]: inputs}
    arrays = {name: np.asarray(value) for name, value in given.items()}
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
        found: list[Divergence] = []
        for level in at_levels:
            done = _at_level(source, target, level, feeds, expected, tolerance)
            runs += done
            for run, values in zip(done, feeds):
                if nodes and not run.ok and run.comparisons:
                    _trace(model, run, values, target, found)
        divergences += found
    packages = versions()
    return Report(
        runs=runs,
        tolerance=tolerance,
        versions={**{name: packages[name] for name in ("cconv", "onnx")}, "onnxruntime": _onnxruntime()},
        divergences=divergences,
    )


def _ours(model: Model, inputs: Any) -> Any:
    """What cconv computes; many examples in batches of PART, if they do not depend on each other."""
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
    """One run for each batch, in one session."""
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
    """Find where a run parts from cconv's; most part where another one did, which is quickly seen."""
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
    """Its version. The package may have another name, such as onnxruntime-openvino."""
    return str(runtime.onnxruntime().__version__)


def _serialized(model: Model) -> bytes:
    """The graph as it is run."""
    proto = model.proto(finished=False)
    try:
        return proto.SerializeToString()
    except ValueError as error:  # how protobuf says that a message exceeds 2 GiB
        raise ModelError(
            explain(
                "check",
                "a model with its weights takes at most 2 GiB",
                "a larger one",
                "Save it, which puts the weights in a file of their own, and check the file by its path.",
            )
        ) from error
