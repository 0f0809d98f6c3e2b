"""One network, one exporter: what cconv makes of it. Prints one line of JSON; tools/coverage.py starts it.

    cd tools && python -m exported.measure resnet18 dynamo

Two files are exported, both with a free batch axis where the exporter can:

    default     as the exporter makes it when nothing is asked for: BatchNorm is folded into convolutions
    trainable   BatchNorm kept: legacy with do_constant_folding=False, dynamo with optimize=False, tf2onnx without its
                optimizer remove_back_to_back

Of both: it loads; its outputs in float64 equal the framework's; `cconv.check` at batches of 2 and 3; three steps of
SGD; `cconv.check` again. Where the check finds more than its tolerance, float64 says whose rounding it is. Of the
second file also all gradients, against PyTorch's of the same loss. PyTorch computes them in float64, cconv twice: as
`Trainer` does, in float32, with BatchNorm frozen; and with the same plan in float64, where a wrong rule cannot hide
behind rounding, with BatchNorm frozen and by the batch. Networks of Keras: see keras_side.py.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from exported.networks import OPSETS, Network, find, images
from exported.table import CHECK, LEAST, NOISIER, TOLERANCE

import cconv
from cconv import optim
from cconv.ops.tensor import Spec
from cconv.plan.plan import Plan, inference_plan, training_plan
from cconv.train.losses import CrossEntropy

BATCH = 2

# Batches of images that may be tried: where a value lies within rounding of a kink (Relu's, HardSwish's, a maximum),
# two right computations find different gradients. A wrong rule, or a wrong kernel, is wrong on all of them. In float64
# rounding is that of the constants in the file, so that one batch in a hundred networks meets a kink.
TRIES = {"float64": 3, "float32": 8, "differences": 4}

# Batches on which float64 tells whose rounding it is: the errors of one image's logits are as good as one number.
JUDGED = 8

# A weight's gradient counts as at least this share of the largest one: that of a bias before a BatchNorm is nothing but
# rounding.
SMALLEST = {"float32": 1e-3, "float64": 1e-6, "differences": 1e-3}

# Step of finite differences, relative to a weight's largest value: rounding of the loss, 1e-16, over it, and the
# curvature times it, are both small then.
DIFFERENCE = 1e-6

Gradients = dict[str, np.ndarray]


def targets(logits: np.ndarray) -> np.ndarray:
    """The classes that are least likely: where the softmax is sure and right, the gradient is nothing but rounding."""
    return logits.argmin(axis=1).astype(np.int64)


def run(model: cconv.Model, network: Network, side: Any, free: bool, tolerance: float) -> dict[str, Any]:
    """Forward against the framework in float64 and against onnxruntime, three steps, and forward again.

    Args:
        tolerance: for what float64 gives and the framework does.
    """
    inputs = [images(network, batch) for batch in ((BATCH, BATCH + 1) if free else (BATCH,))]
    exact = side.outputs(inputs[0])
    found: dict[str, Any] = {"float64": _apart(float64_outputs(model, inputs[0]), exact)}
    if not found["float64"] <= tolerance:
        raise AssertionError(f"in float64 the outputs differ from the framework's: {found['float64']:.1e}")
    found["forward"], found["roundings"] = checked(model, network, inputs)
    y = targets(model.run(inputs[0]))
    found["losses"] = three_steps(model, inputs[0], y)
    if not np.isfinite(found["losses"]).all() or not found["losses"][2] < found["losses"][0]:
        raise AssertionError(f"losses of three steps: {found['losses']}")
    found["after"], roundings = checked(model, network, inputs[:1])
    found["roundings"] += roundings
    return found


def checked(model: cconv.Model, network: Network, inputs: list[np.ndarray]) -> tuple[float, list[tuple[float, float]]]:
    """The largest relative difference from onnxruntime; and if `cconv.check` is not content with it, how far both are
    from float64, on images enough to tell.

    Raises:
        AssertionError: cconv is further from it than table.NOISIER says.
    """
    (name,) = model.input_names
    reports = [cconv.check(model, {name: x}, tolerance=CHECK) for x in inputs]
    largest = max(report.max_relative_error for report in reports)
    if all(report.ok for report in reports):
        return largest, []
    many = [images(network, BATCH, seed) for seed in range(JUDGED)]
    exact = np.stack([float64_outputs(model, x) for x in many])
    ours = np.stack([model.run(x) for x in many])
    theirs = np.stack([onnxruntime_outputs(model, x) for x in many])
    errors = tuple(float(_rms(y - exact) / np.abs(exact).max()) for y in (ours, theirs))
    if not errors[0] <= NOISIER * errors[1] + LEAST:
        raise AssertionError(
            f"the outputs differ from onnxruntime's by {largest:.1e}; from float64 cconv's are {errors[0]:.1e} away, "
            f"onnxruntime's {errors[1]:.1e}"
        )
    return largest, [(errors[0], errors[1])]


def float64_outputs(model: cconv.Model, x: np.ndarray) -> np.ndarray:
    """What the model gives, computed by cconv in float64."""
    weights = {name: array.astype(np.float64) for name, array in model.weights.items()}
    inputs = {model.input_names[0]: Spec(x.shape, np.dtype(np.float64))}
    plan = inference_plan(model.nodes, inputs, model.output_names, weights, model.constants, np.float64)
    plan.feed({model.input_names[0]: x})
    plan.run()
    return np.array(plan.outputs[model.output_names[0]])


def onnxruntime_outputs(model: cconv.Model | bytes, x: np.ndarray) -> np.ndarray:
    data = model if isinstance(model, bytes) else model.proto().SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return found


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference as a share of the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def matched(model: cconv.Model, parameters: dict[str, np.ndarray]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each of the model's weights, the parameter of the same values, and the order of axes it is stored in.

    Exporters rename weights, and store those of linear layers transposed.
    """
    by_size: dict[int, list[str]] = {}
    for name, value in parameters.items():
        by_size.setdefault(value.size, []).append(name)
    found = {}
    for name in model.parameters:
        flat = model.weights[name].reshape(-1)
        likely = [name] if name in parameters else []
        for other in likely + by_size.get(flat.size, []):
            value = parameters[other]
            orders = (
                order
                for order in itertools.permutations(range(value.ndim))
                if np.array_equal(value.transpose(order).reshape(-1), flat)
            )
            if value.size == flat.size and (order := next(orders, None)) is not None:
                found[name] = other, order
                break
    return found


def back(gradient: np.ndarray, shape: tuple[int, ...], order: tuple[int, ...]) -> np.ndarray:
    """A gradient of a weight that is stored with its axes in another order, in the parameter's own."""
    stored = gradient.reshape([shape[axis] for axis in order])
    return stored.transpose(np.argsort(order)) if order else stored


def float64_plan(
    model: cconv.Model, x: np.ndarray, y: np.ndarray, names: list[str], batchnorm: str
) -> tuple[Plan, Gradients]:
    """What Trainer would run, in float64, and the weights that it reads."""
    weights = {name: array.astype(np.float64) for name, array in model.weights.items()}
    plan = training_plan(
        model.nodes,
        {model.input_names[0]: Spec(x.shape, np.dtype(np.float64))},
        {model.output_names[0]: CrossEntropy()},
        weights,
        model.constants,
        names,
        batchnorm=lambda name: batchnorm,
        dtype=np.float64,
    )
    plan.feed({model.input_names[0]: x}, {model.output_names[0]: y})
    return plan, weights


def float64_gradients(model: cconv.Model, x: np.ndarray, y: np.ndarray, names: list[str], batchnorm: str) -> Gradients:
    plan, _ = float64_plan(model, x, y, names, batchnorm)
    loss_of(plan, "update")
    return plan.gradients


def loss_of(plan: Plan, until: str) -> float:
    plan.control["loss"] = 0
    plan.run(until)
    return float(plan.control["loss"][0])


def compare_with_differences(model: cconv.Model, network: Network) -> dict[str, Any]:
    """Each weight's gradient along a random direction against the loss a little further and a little back; along
    others, in smaller steps, where these differ, since a kink may lie between."""
    x = images(network, BATCH)
    names = list(cconv.Trainer(model).trained)
    plan, weights = float64_plan(model, x, targets(model.run(x)), names, "frozen")
    loss_of(plan, "update")
    gradients = {name: array.copy() for name, array in plan.gradients.items()}
    rng = np.random.default_rng(1)
    ours: Gradients = {}
    differences: Gradients = {}
    least = dict.fromkeys(names, np.inf)
    for attempt in range(TRIES["differences"]):
        left = [name for name in names if least[name] > TOLERANCE["differences"]]
        for name in left:
            array = weights[name]
            before, direction = array.copy(), rng.standard_normal(array.shape)
            length = DIFFERENCE / 4**attempt * (np.abs(before).max() or 1) / np.abs(direction).max()
            sides = []
            for sign in (1, -1):
                array[...] = before + sign * length * direction
                sides.append(loss_of(plan, "backward"))
            array[...] = before
            ours[name] = np.array((gradients[name] * direction).sum())
            differences[name] = np.array((sides[0] - sides[1]) / (2 * length))
        found = errors(ours, differences, "differences")
        least.update((name, min(found[name], least[name])) for name in left)
    error, name = worst(least)
    return {"weights": len(names), "unmatched": [], "others": [], "differences": error, "float64_weight": name}


def errors(ours: Gradients, theirs: Gradients, dtype: str) -> dict[str, float]:
    """Of each weight's gradient: the largest difference over the largest value."""
    floor = SMALLEST[dtype] * max(np.abs(value).max() for value in theirs.values())
    found = {
        name: float(np.abs(ours[name] - value).max() / max(np.abs(value).max(), floor)) if name in ours else 1.0
        for name, value in theirs.items()
        if name in ours or np.abs(value).max() > floor
    }
    return {name: error if np.isfinite(error) else np.inf for name, error in found.items()}


def worst(found: dict[str, float]) -> tuple[float, str]:
    """The largest error, and whose it is."""
    name = max(found, key=lambda name: found[name])
    return found[name], name


def three_steps(model: cconv.Model, x: np.ndarray, y: np.ndarray) -> list[float]:
    """Losses of three steps of SGD, each so long that it takes a twentieth off the loss if that were linear."""
    loss, gradients = cconv.Trainer(model).gradients(x, y)
    steepness = sum(float(np.square(value, dtype=np.float64).sum()) for value in gradients.values())
    trainer = cconv.Trainer(model, optimizer=optim.SGD(lr=loss / 20 / steepness))
    return [trainer.step(x, y) for _ in range(3)]


def compare_gradients(model: cconv.Model, side: Any, network: Network) -> dict[str, Any]:
    parameters = side.weights()
    pairs = matched(model, parameters)
    names = list(pairs)

    def by_parameter(gradients: Gradients) -> Gradients:
        total: Gradients = {}
        for name, (parameter, order) in pairs.items():
            value = back(gradients[name].astype(np.float64), parameters[parameter].shape, order)
            total[parameter] = total[parameter] + value if parameter in total else value
        return total

    found: dict[str, Any] = {"others": sorted({*cconv.Trainer(model).trained} - {*names})}
    for mode in ("frozen", "batch"):
        best = (np.inf, "")
        for seed in range(TRIES["float64"]):
            x = images(network, BATCH, seed)
            y = targets(model.run(x))
            theirs = side.gradients(x, y, "float64", mode)
            ours = by_parameter(float64_gradients(model, x, y, names, mode))
            best = min(best, worst(errors(ours, theirs, "float64")))
            if best[0] <= TOLERANCE["float64"]:
                break
        if best[0] > found.get("float64", -1):
            found.update(float64=best[0], float64_weight=best[1], float64_mode=mode)
    found["weights"] = len(theirs)
    found["unmatched"] = sorted({*theirs} - {parameter for parameter, _ in pairs.values()})
    trainer = cconv.Trainer(model, trainable=names, batchnorm="frozen")
    least: dict[str, float] = {}
    noises = []
    for seed in range(TRIES["float32"]):
        x = images(network, BATCH, seed)
        y = targets(model.run(x))
        theirs = side.gradients(x, y, "float64", "frozen")
        noises.append(worst(errors(side.gradients(x, y, "float32", "frozen"), theirs, "float32"))[0])
        ours = by_parameter(trainer.gradients(x, y)[1])
        for name, error in errors(ours, theirs, "float32").items():
            least[name] = min(error, least.get(name, np.inf))
        if max(least.values()) <= TOLERANCE["float32"]:
            break
    error, name = worst(least)
    found.update(float32=error, float32_weight=name, judge_float32=float(np.median(noises)), batches=seed + 1)
    return found


def measure(network: Network, exporter: str) -> dict[str, Any]:
    row: dict[str, Any] = {"opset": OPSETS[exporter], "stage": "build"}
    data = b""
    try:
        library = "keras" if network.library == "keras" else "torch"
        side = importlib.import_module(f"exported.{library}_side").Module(network)
        row["parameters"] = sum(value.size for value in side.weights().values())
        for kind in ("trainable", "default"):
            row["stage"] = f"export ({kind})"
            data, free = side.export(exporter, OPSETS[exporter], kind == "trainable")
            if directory := os.environ.get("COVERAGE_KEEP"):
                Path(directory, f"{network.name}-{exporter}-{kind}.onnx").write_bytes(data)
            row["free_batch"] = free
            row["stage"] = f"load ({kind})"
            model = cconv.load(data)
            row.setdefault("nodes", len(model.nodes))
            row["operators"] = sorted({*row.get("operators", []), *(node.op_type for node in model.nodes)})
            if kind == "trainable":
                row["stage"] = "gradients"
                if library == "torch":
                    row["gradients"] = compare_gradients(model, side, network)
                else:
                    row["gradients"] = compare_with_differences(model, network)
            row["stage"] = f"run ({kind})"
            row[kind] = run(model, network, side, free, TOLERANCE["float64"] if kind == "trainable" else CHECK)
            data = b""
        del row["stage"]
    except Exception as error:  # a row says why, whatever it was
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]
        if data and (why := refused(data, network)):
            row["onnxruntime"] = why
        if os.environ.get("COVERAGE_KEEP"):
            import traceback

            traceback.print_exc()
    return row


def refused(data: bytes, network: Network) -> str:
    """What onnxruntime has against a file; "" if it runs it."""
    try:
        onnxruntime_outputs(data, images(network, BATCH))
    except Exception as error:  # it raises several kinds
        return " ".join(str(error).split())[:300]
    return ""


if __name__ == "__main__":
    print(json.dumps(measure(find(sys.argv[1]), sys.argv[2])))
