"""doctor: what can be trained in a model, what stands in the way, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from cconv.concerns import CONCERNS
from cconv.concerns.case import Case
from cconv.concerns.concern import Options
from cconv.concerns.finding import ERROR, SEVERITIES, Finding
from cconv.errors import CconvError, UnsupportedOpError, ValueRangeError, explain
from cconv.finetune import trial
from cconv.finetune.diagnosis import Diagnosis
from cconv.model import Model, load


def doctor(
    model: Model | str | os.PathLike[str] | bytes | onnx.ModelProto,
    batch: int = 32,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Diagnosis:
    """Examine a model; it stays as it is.

    A model with operators that cconv does not have is diagnosed, not refused. A training step is laid out, not run.

    Args:
        model: a model, or what `cconv.load` takes.
        batch: examples of a training step, where the model leaves that open.
        input_shapes: by input name, for inputs that leave more open than their first axis.

    Raises:
        ModelError, UnsafeModelError, OSError: a file that is no model, damaged, or that cconv cannot vouch for.
        ValueRangeError: a batch of less than one example, or a name that is no input.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueRangeError(explain("doctor", "batch is a whole number of at least 1", repr(batch)))
    name = os.path.basename(model) if isinstance(model, (str, os.PathLike)) else "model"
    if not isinstance(model, Model):
        try:
            model = load(model)
        except UnsupportedOpError as error:  # the opset, before anything else could be looked at
            fix = "Export the model with another opset, or convert it: onnx.version_converter.convert_version."
            return Diagnosis(name, [Finding(ERROR, "", str(error), fix, "opset")])
    elif model.ir.graph.name:
        name = model.ir.graph.name
    if unknown := set(input_shapes or {}) - set(model.input_names):
        inputs = ", ".join(repr(known) for known in model.input_names)
        raise ValueRangeError(explain("input_shapes", f"its names are inputs ({inputs})", f"{sorted(unknown)}"))
    case = Case(model, batch, input_shapes)
    converted = _converted(case)
    findings: list[Finding] = []
    for concern in (*CONCERNS.values(), *trial.CONCERNS):
        errors = [finding for finding in findings if finding.severity == ERROR]
        found = concern.find(converted if concern.of_layers else case)
        if concern.name == "training step" and errors:
            # A step that something named above forbids would be named twice; what it takes once repaired is told.
            if converted is case or not all(finding.automatic for finding in errors):
                continue
            found = concern.find(converted)
            found = [replace(f, meaning=f"{f.meaning} That is after the repair of the errors above.") for f in found]
        findings += [replace(finding, concern=concern.name) for finding in found]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    memory = converted.memory if case.memory is None else case.memory
    return Diagnosis(name, findings, batch=case.fixed_batch or batch, memory=memory)


def _converted(case: Case) -> Case:
    """The same model with its weights as float32 initializers; itself where they are, or cannot be made so."""
    model = case.model.copy()
    try:
        done = [repair(model, Options(case)) for name in ("constants", "dtype") if (repair := CONCERNS[name].repair)]
    except CconvError:
        return case
    return Case(model, case.batch, case.given) if any(done) else case
