"""BatchNormalization that an exporter folded into the convolution before it, and its way back.

A convolution z = w * x + c followed by (z - mean) / sqrt(variance + epsilon) * scale + bias is one convolution, and
that is what an exporter in eval mode writes. What it had learnt is in w and c; what is lost is that training kept the
channels' mean and variance in hand, which deep networks need to be trained at usual learning rates.

Put back is a BatchNormalization that does nothing at inference. On the given examples each channel's mean m and
population variance v of z are measured, over all examples and positions; then

    mean = m    variance = v    scale = sqrt(v + epsilon)    bias = m
    (z - m) / sqrt(v + epsilon) * sqrt(v + epsilon) + m = z

so the repaired network computes what it did, but for rounding. In training with batch statistics the same node gives
each channel the batch's values normalised and then spread to mean m and deviation sqrt(v): what the next layer has
learnt to expect, as far as the examples are like those that it was trained on. Random inputs are not, so none are
made up.
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

# Examples of one run over which statistics are taken.
PART = 8

# Convolutions of a network without any normalisation from which on one is likely to have been there.
MANY = 3

_NORMS = ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization")

# What exporters call what they have folded: PyTorch's first exporter numbers weight and bias anew, its second calls the
# bias it makes after the weight, tf2onnx and others keep the name of the normalisation.
_FOLDED_WEIGHT = re.compile(r"^onnx::Conv(Transpose)?_\d+$")
_FOLDED_NAME = re.compile(r"(fused|folded)_?(bn|batch_?norm)|_bn_fused|FusedBatchNorm|batch_?norm", re.IGNORECASE)


def find(case: Case) -> Iterator[Finding]:
    nodes, sure = folded(case)
    if not nodes:
        return
    told = (
        "BatchNormalization was folded into them (their weights are named so)"
        if sure
        else "No layer normalises anything; if the network was trained with BatchNormalization, it was folded in here"
    )
    yield Finding(
        WARNING if sure else INFO,
        listed(map(name_of, nodes)),
        f"{counted(len(nodes), 'convolution')}. {told}. Deep networks train badly without it.",
        "Put it back, calibrated on your examples: repair(model, data). *",
        automatic=True,
    )


def repair(model: Model, options: Options) -> Done | Skipped | None:
    case = Case(model, PART, options.case.given)
    nodes, _ = folded(case)
    if not nodes:
        return None
    if options.data is None:
        return Skipped(f"{counted(len(nodes), 'convolution')}: give examples to calibrate it on, repair(model, data)")
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
    """The convolutions that a BatchNormalization seems to be folded into, and whether their names say so.

    Not those that another layer with weights does not follow (a classifier, the heads of a detector), nor those whose
    result is a single number for each channel (squeeze and excitation), which networks have without normalisation.
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
    found = [node for node in named or convolutions if node not in last and not _single(case, node)]
    return (found, bool(named)) if named or len(found) >= MANY else ([], False)


def _named_folded(node: ir.Node) -> bool:
    weight, bias = (value.name or "" if (value := input_of(node, i)) is not None else "" for i in (1, 2))
    return bool(
        (bias and _FOLDED_WEIGHT.match(weight))
        or (bias == f"{weight}_bias")
        or _FOLDED_NAME.search(weight)
        or _FOLDED_NAME.search(bias)
    )


def _without_layer_behind(graph: ir.Graph) -> set[ir.Node]:
    """The nodes from which no way leads to a layer with weights."""
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
    """Mean and population variance of each channel of some values over all examples, in float64.

    Args:
        names: of values (N, C, ...).
        data: examples by input name.
    """
    batched = set(Case(model).batched)
    count = min(len(array) for name, array in data.items() if name in batched)
    nodes = needed_for(model.nodes, names)
    sums: dict[str, tuple[float, np.ndarray, np.ndarray]] = {}  # numbers, mean, sum of squared differences from it
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
    """Statistics of two parts as those of the whole (Chan, Golub and LeVeque, 1983)."""
    if a is None:
        return b
    size, difference = a[0] + b[0], b[1] - a[1]
    return size, a[1] + difference * (b[0] / size), a[2] + b[2] + difference**2 * (a[0] * b[0] / size)


def insert(model: Model, node: ir.Node, mean: np.ndarray, variance: np.ndarray) -> None:
    """Put a BatchNormalization behind a convolution that changes nothing at inference; `mean` and `variance` (C,)."""
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
