"""Find convolutions into which an exporter folded a BatchNormalization, and put a BatchNormalization back.

A convolution z = w * x + c followed by (z - mean) / sqrt(variance + epsilon) * scale + bias equals one convolution, and
an exporter in eval mode writes that one convolution. The learnt values survive in w and c. The normalisation itself is
lost: without it, training no longer controls each channel's mean and variance, which deep networks need at usual
learning rates.

The repair inserts a BatchNormalization that changes nothing at inference. It measures each channel's mean m and
population variance v of z on the given examples, over all examples and positions, and sets

    mean = m    variance = v    scale = sqrt(v + epsilon)    bias = m
    (z - m) / sqrt(v + epsilon) * sqrt(v + epsilon) + m = z

so the repaired network computes the same outputs, except for rounding. In training with batch statistics the node
normalises each channel over the batch, then scales it to mean m and standard deviation sqrt(v). The next layer was
trained on this distribution, as long as the examples resemble the original training data. Random inputs do not
resemble it, so without examples this repair is not made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern, Done, Options, Skipped
from cconv.concerns.edit import add_initializer, counted, follow, free_name, input_of, listed, name_of, plain
from cconv.concerns.finding import INFO, WARNING, Finding
from cconv.errors import CconvError
from cconv.graph.nodes import needed_for
from cconv.model import Model
from cconv.ops.tensor import Spec
from cconv.plan.plan import inference_plan

EPSILON, MOMENTUM = 1e-5, 0.9

# Number of examples in each run of the model that measures statistics.
PART = 8

# A network without any normalisation layer and with at least this many convolutions was probably trained with
# BatchNormalization.
MANY = 3

_NORMS = ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization")

# Names that exporters give to a folded convolution's weight and bias. PyTorch's TorchScript exporter numbers both
# (onnx::Conv_81). Its newer exporter names the new bias after the weight (conv.weight_bias). tf2onnx and others keep
# the name of the normalisation layer.
_FOLDED_WEIGHT = re.compile(r"^onnx::Conv(Transpose)?_\d+$")
_FOLDED_NAME = re.compile(r"(fused|folded)_?(bn|batch_?norm)|_bn_fused|FusedBatchNorm|batch_?norm", re.IGNORECASE)


def find(case: Case) -> Iterator[Finding]:
    nodes, sure = folded(case)
    if not nodes:
        return
    convolutions = counted(len(nodes), "convolution")
    meaning = (
        f"BatchNormalization was folded into {convolutions}, as the weights' names show."
        if sure
        else f"{convolutions} and no normalisation layer. If the network was trained with BatchNormalization, it was "
        "folded into these convolutions."
    )
    yield Finding(
        WARNING if sure else INFO,
        listed(map(name_of, nodes)),
        f"{meaning} Deep networks train badly without BatchNormalization.",
        "Put it back and calibrate it on your examples: repair(model, data). *",
        automatic=True,
    )


def repair(model: Model, options: Options) -> Done | Skipped | None:
    case = Case(model, PART, options.case.given)
    nodes, _ = folded(case)
    if not nodes:
        return None
    if options.data is None:
        convolutions = counted(len(nodes), "convolution")
        return Skipped(f"BatchNormalization after {convolutions} needs calibration: give examples, repair(model, data)")
    try:
        statistics = measured(model, [node.outputs[0].name or "" for node in nodes], options.data)
    except CconvError as error:
        return Skipped(f"the model does not run on the given examples: {error}")
    for node in nodes:
        insert(model, node, *statistics[node.outputs[0].name or ""])
    model.edited()
    examples = len(next(array for name, array in options.data.items() if name in options.case.batched))
    return Done(f"{counted(len(nodes), 'BatchNormalization')} put back, calibrated on {counted(examples, 'example')}")


def folded(case: Case) -> tuple[list[ir.Node], bool]:
    """The convolutions that seem to contain a folded BatchNormalization, and whether their weights' names show it.

    Two kinds of convolution usually have no normalisation and are left out: those that no further layer with weights
    follows (a classifier, the heads of a detector), and those whose output has one number per channel (squeeze and
    excitation).
    """
    graph = case.model.ir.graph
    convolutions = [
        node
        for node in graph
        if plain(node, "Conv", "ConvTranspose")
        and (weight := input_of(node, 1)) is not None
        and weight.name in case.model.weights
        and not node.outputs[0].is_graph_output()
        and not any(plain(user, *_NORMS) for user, _ in node.outputs[0].uses())
    ]
    named = [node for node in convolutions if _named_folded(node)]
    if not named and any(plain(node, *_NORMS) for node in graph):
        return [], False
    last = _without_layer_behind(graph)
    candidates = [node for node in named or convolutions if node not in last and not _single(case, node)]
    return (candidates, bool(named)) if named or len(candidates) >= MANY else ([], False)


def _named_folded(node: ir.Node) -> bool:
    weight, bias = (value.name or "" if (value := input_of(node, i)) is not None else "" for i in (1, 2))
    return bool(
        (bias and _FOLDED_WEIGHT.match(weight))
        or (bias == f"{weight}_bias")
        or _FOLDED_NAME.search(weight)
        or _FOLDED_NAME.search(bias)
    )


def _without_layer_behind(graph: ir.Graph) -> set[ir.Node]:
    """The nodes after which no layer with weights follows on any path."""
    reaches: set[ir.Node] = set()
    for node in reversed(list(graph)):
        users = {user for output in node.outputs for user, _ in output.uses()}
        if any(user in reaches or plain(user, "Conv", "ConvTranspose", "Gemm", "MatMul") for user in users):
            reaches.add(node)
    return {node for node in graph if node not in reaches}


def _single(case: Case, node: ir.Node) -> bool:
    spec = case.shapes.get(node.outputs[0].name or "")
    return spec is not None and all(n == 1 for n in spec.shape[2:])


def measured(
    model: Model, names: Sequence[str], data: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Measure the mean and the population variance of each channel of some values, over all examples and positions.

    Args:
        names: names of the values to measure, each (N, C, ...).
        data: input name -> array (N, ...) of examples.

    Returns:
        Value name -> mean (C,) float64, variance (C,) float64.
    """
    batched = set(Case(model).batched)
    count = min(len(array) for name, array in data.items() if name in batched)
    nodes = needed_for(model.nodes, names)
    # value name -> count of numbers per channel, their mean, the sum of their squared differences from the mean
    sums: dict[str, tuple[float, np.ndarray, np.ndarray]] = {}
    for begin in range(0, count, PART):
        end = min(begin + PART, count)
        part = {name: array[begin:end] if name in batched else array for name, array in data.items()}
        specs = {name: Spec(array.shape, model.input_specs[name].dtype) for name, array in part.items()}
        plan = inference_plan(nodes, specs, names, model.weights, model.constants, limits=model.limits)
        plan.feed(part)
        plan.run()
        for name in names:
            values = plan.outputs[name].astype(np.float64)
            axes = (0, *range(2, values.ndim))
            size, mean = values.size / values.shape[1], values.mean(axis=axes)
            squares = ((values - mean.reshape(-1, *[1] * (values.ndim - 2))) ** 2).sum(axis=axes)
            sums[name] = _together(sums.get(name), (size, mean, squares))
    return {name: (mean, squares / size) for name, (size, mean, squares) in sums.items()}


def _together(
    a: tuple[float, np.ndarray, np.ndarray] | None, b: tuple[float, np.ndarray, np.ndarray]
) -> tuple[float, np.ndarray, np.ndarray]:
    """Combine (count, mean, sum of squared differences) of two parts of the data (Chan, Golub and LeVeque, 1983)."""
    if a is None:
        return b
    size, difference = a[0] + b[0], b[1] - a[1]
    return size, a[1] + difference * (b[0] / size), a[2] + b[2] + difference**2 * (a[0] * b[0] / size)


def insert(model: Model, node: ir.Node, mean: np.ndarray, variance: np.ndarray) -> None:
    """Insert a BatchNormalization after a convolution; the new node changes nothing at inference.

    Args:
        mean, variance: measured statistics of the convolution's output, each (C,).
    """
    graph, value = model.ir.graph, node.outputs[0]
    name = free_name(graph, f"{name_of(node)}.batchnorm")
    variance = variance.astype(np.float32)
    arrays = {
        "scale": np.sqrt(variance.astype(np.float64) + EPSILON).astype(np.float32),
        "bias": mean.astype(np.float32),
        "mean": mean.astype(np.float32),
        "variance": variance,
    }
    inputs = [value, *(add_initializer(model, f"{name}.{key}", array) for key, array in arrays.items())]
    norm = ir.node("BatchNormalization", inputs, {"epsilon": EPSILON, "momentum": MOMENTUM}, name=name)
    output = norm.outputs[0]
    output.name, output.type, output.shape = free_name(graph, f"{value.name}.batchnorm"), value.type, value.shape
    graph.insert_after(node, norm)
    follow(value, norm, output)


CONCERNS = [Concern("batchnorm", find, repair, of_layers=True)]
