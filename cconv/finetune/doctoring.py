"""doctor: report which weights of a model can be trained, what prevents training, and what to do about it."""

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
    """Examine a model without changing it, and report problems for training.

    A model with operators that cconv does not support is diagnosed too, not rejected. A training step is planned, but
    not run.

    Args:
        model: a model, or anything that `cconv.load` accepts: a path, bytes, or an onnx.ModelProto.
        batch: examples per training step, if the model does not fix the batch size.
        input_shapes: input name -> shape, for inputs with open sizes beside the first axis.

    Raises:
        ModelError, UnsafeModelError, OSError: the file is not an ONNX model, is damaged or is unsafe to load.
        ValueRangeError: `batch` is less than 1, or `input_shapes` names an unknown input.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueRangeError(explain("doctor", "batch is a whole number of at least 1", repr(batch)))
    name = os.path.basename(model) if isinstance(model, (str, os.PathLike)) else "model"
    if not isinstance(model, Model):
        try:
            model = load(model)
        except UnsupportedOpError as error:  # unsupported opset: the rest of the model cannot be examined
            fix = "Export the model with another opset, or convert it: onnx.version_converter.convert_version."
            return Diagnosis(name, [Finding(ERROR, "", str(error), fix, "opset")])
    elif model.ir.graph.name:
        name = model.ir.graph.name
    if unknown := set(input_shapes or {}) - set(model.input_names):
        inputs = ", ".join(repr(known) for known in model.input_names)
        raise ValueRangeError(explain("input_shapes", f"each name is an input ({inputs})", f"{sorted(unknown)}"))
    case = Case(model, batch, input_shapes)
    converted = _converted(case)
    findings: list[Finding] = []
    for concern in (*CONCERNS.values(), *trial.CONCERNS):
        errors = [finding for finding in findings if finding.severity == ERROR]
        reported = concern.find(converted if concern.of_layers else case)
        if concern.name == "training step" and errors:
            # Planning would fail because of errors that are reported already. If `repair` can fix all of them, report
            # the training step of the converted model instead, else nothing.
            if converted is case or not all(finding.automatic for finding in errors):
                continue
            note = "This holds after the repair of the errors above."
            reported = [replace(f, meaning=f"{f.meaning} {note}") for f in concern.find(converted)]
        findings += [replace(finding, concern=concern.name) for finding in reported]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    memory = converted.memory if case.memory is None else case.memory
    return Diagnosis(name, findings, batch=case.fixed_batch or batch, memory=memory)


def _converted(case: Case) -> Case:
    """A case of a copy of the model whose weights are float32 initializers.

    If no weight needs the conversion, or the conversion fails, return `case` itself.
    """
    model = case.model.copy()
    try:
        done = [repair(model, Options(case)) for name in ("constants", "dtype") if (repair := CONCERNS[name].repair)]
    except CconvError:
        return case
    return Case(model, case.batch, case.given) if any(done) else case
