"""ONNX's test suite against cconv; `python -m pytest tests/onnx_suite` prints the count."""

import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from cconv import onnx_backend
from cconv.ops.catalogue import CATALOGUE
from onnx_suite.left_out import LEFT_OUT, WITHOUT_CASES
from onnx_suite.suite import CASES, DATA, IN_SCOPE, covers

# Every case of these is in scope: what convolutional networks are made of, and what trains them.
WHOLE = [
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "MaxUnpool",
    "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization",
    "LRN", "LpNormalization", "MeanVarianceNormalization", "Gemm", "MatMul", "Resize", "NegativeLogLikelihoodLoss",
    "SoftmaxCrossEntropyLoss", "ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "LeakyRelu", "Elu",
    "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "SwiGLU", "Mish", "Tanh", "Softplus",
    "Softsign", "ThresholdedRelu", "Shrink", "Clip", "PRelu", "Softmax", "LogSoftmax",
]  # fmt: skip


@pytest.mark.parametrize("case", IN_SCOPE, ids=lambda case: case.id)
def test_case(case):
    case.run()


@pytest.mark.parametrize("entry", LEFT_OUT, ids=lambda entry: f"{entry.operator}-{entry.cases}".rstrip("-"))
def test_what_is_left_out_does_not_pass(entry):
    """Else its entry is to go; so must one whose operator or cases are there no more."""
    assert entry.operator in {schema.name for schema in onnx.defs.get_all_schemas()}
    cases = [case for case in CASES if case.left_out is entry]
    assert cases, "no such case"
    passing = []
    for case in cases:
        try:
            case.run()
        except Exception:  # of any kind: it does not pass
            continue
        passing.append(case.name)
    assert not passing


def test_every_operator_of_the_catalogue_is_in_the_suite():
    tried = frozenset().union(*(case.operators for case in IN_SCOPE))
    without = {name for _, name in CATALOGUE} - tried
    assert without == set(WITHOUT_CASES)
    assert all(WITHOUT_CASES.values())


def test_what_is_promised_whole_is_whole():
    assert set(WHOLE) <= {name for case in CASES for name in case.operators}
    nodes = [case for case in CASES if case.kind != "light" and not case.operators.isdisjoint(WHOLE)]
    assert not [case.name for case in nodes if case.left_out]
    training = [case for case in CASES if case.trains]
    assert training and not [case.name for case in training if case.left_out]


def test_the_list_is_not_the_suite():
    assert sum(case.kind == "node" for case in IN_SCOPE) >= 1100


LIGHT = sorted(DATA.joinpath("light").glob("*.onnx"))


def ramp(shape):
    """The input that the suite feeds: 0, 1/n, 2/n, ..."""
    size = math.prod(shape)
    return (np.arange(size).reshape(shape) / size).astype(np.float32)


def input_of(graph):
    stored = {tensor.name for tensor in graph.initializer}
    (value,) = [value for value in graph.input if value.name not in stored]
    return value.name, tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light_model(path):
    """A real architecture whose weights are made of one number each; and the output that the suite stores."""
    model = onnx.load(path)
    _, shape = input_of(model.graph)
    expected = numpy_helper.to_array(onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb")))
    Runner = onnx.backend.test.runner.Runner
    Runner.assert_similar_outputs([expected], onnx_backend.prepare(model).run([ramp(shape)]), rtol=2e-3, atol=1e-7)


def randomized(model):
    """The model with random weights, of a size that keeps the feature maps' from layer to layer."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(1 << 20, dtype=np.float32)
    graph = model.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made = [node for node in graph.node if node.op_type == "ConstantOfShape" and node.input[0] in shapes]
    for node in made:
        shape = tuple(shapes[node.input[0]])
        value = np.resize(noise, shape) * np.float32(math.sqrt(2 / max(1, math.prod(shape[1:]))))
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        graph.node.remove(node)
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    scales = {name for node in norms for name in (node.input[1], node.input[4])}
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.ndim == 1:
            low, high = (0.5, 1.5) if tensor.name in scales else (-0.2, 0.2)
            value = rng.uniform(low, high, value.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light_model_with_random_weights_equals_onnxruntime(path):
    model = randomized(onnx.load(path))
    name, shape = input_of(model.graph)
    x = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {name: x})
    (found,) = onnx_backend.prepare(model).run([x])
    assert np.std(expected) > 1e-6 * np.max(np.abs(expected)), "an output that tells something"
    # Rounding errors of up to 121 layers, Winograd's among them.
    assert np.max(np.abs(found - expected)) <= 1e-3 * np.max(np.abs(expected))


def test_all_entries_are_told_apart():
    """No case is left out for two reasons, so that the one given holds."""
    assert all(len({entry.reason for entry in LEFT_OUT if covers(entry, case)}) <= 1 for case in CASES)
