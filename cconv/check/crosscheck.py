"""check: every output of a model, computed by cconv and by onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import cconv.plan  # noqa: F401  (gives Model.run its session)
from cconv.check.compare import Comparison, compare
from cconv.check.providers import NotAvailable, Provider, Refused, requested, run
from cconv.check.report import Report
from cconv.errors import ModelError, ValueRangeError, explain
from cconv.graph.load import load
from cconv.graph.model import Model
from cconv.versions import versions

TOLERANCE = 1e-4
"""Default of `tolerance`. Two correct float32 implementations of a network of fifty to a hundred layers add
in different orders and end 1e-6 to 1e-5 apart; a wrong pad, a forgotten update or half precision make 1e-3
and more."""


def check(
    model: Model | str | os.PathLike[str],
    inputs: Any,
    providers: str | Sequence[str | Provider] | None = None,
    tolerance: float = TOLERANCE,
) -> Report:
    """Run a model in cconv and in onnxruntime on the same inputs and compare every output.

    onnxruntime gets the graph that cconv runs, as `model.save` would write it without the edits that wait for that
    (`model.at_save`); or, for a path, the file itself. Each execution provider runs the whole model by itself; one that
    leaves nodes to the CPU is reported as refused.

    Args:
        model: a model, or the path of one.
        inputs: array for the model's one input, or {input name: array}.
        providers: None for the CPU; "all" for every execution provider of this onnxruntime; or names, such
            as ["cpu", "CUDAExecutionProvider"]. One that is not here is listed as such, never as passed.
        tolerance: largest difference that is ok, as a share of the output's largest absolute value.

    Raises:
        ValueRangeError: a negative tolerance, a provider that onnxruntime does not know.
        ModelError: a file that is not ONNX, a model of more than 2 GiB.
        ValueRangeError, ShapeError, DTypeError: inputs that are not the model's.
        UnsupportedOpError: operators that cconv does not have.
    """
    if not tolerance >= 0:
        raise ValueRangeError(explain("tolerance", "is at least 0", repr(tolerance)))
    wanted = requested(providers)
    if isinstance(model, Model):
        source: bytes | str = _serialized(model)
    else:
        source = os.fspath(model)
        model = load(source)
    result = model.run(inputs)
    ours = result if isinstance(result, Mapping) else {model.output_names[0]: result}
    given = inputs if isinstance(inputs, Mapping) else {model.input_names[0]: inputs}
    feeds = {name: np.asarray(value) for name, value in given.items()}

    comparisons: list[Comparison] = []
    not_available: dict[str, str] = {}
    refused: dict[str, str] = {}
    for provider in wanted:
        name = provider[0]
        try:
            theirs = run(source, provider, feeds)
        except NotAvailable as error:
            not_available[name] = str(error)
        except Refused as error:
            refused[name] = str(error)
        else:
            comparisons += [compare(name, key, ours[key], value, tolerance) for key, value in theirs.items()]
    found = versions()
    return Report(
        comparisons=comparisons,
        not_available=not_available,
        refused=refused,
        tolerance=tolerance,
        samples=max((len(value) for value in feeds.values() if value.ndim), default=1),
        versions={name: found[name] for name in ("cconv", "onnxruntime", "onnx")},
    )


def _serialized(model: Model) -> bytes:
    """The graph as it is run."""
    try:
        return model.proto(finished=False).SerializeToString()
    except ValueError as error:  # how protobuf says that a message exceeds 2 GiB
        raise ModelError(
            explain(
                "check",
                "a model with its weights takes at most 2 GiB",
                "a larger one",
                "Save it, which puts the weights in a file of their own, and check the file by its path.",
            )
        ) from error
