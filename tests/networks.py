"""Small models for the tests of training."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cconv.model import Model, load
from cconv.train.trainer import Trainer

FEATURES, HIDDEN, CLASSES = 6, 9, 4


def perceptron(seed=0, batch="N", outputs=("logits",), dropout=0.0) -> Model:
    """x (N, 6) -> Gemm -> Relu [-> Dropout] -> Gemm -> logits (N, 4); "hidden" is what Relu gives."""
    rng = np.random.default_rng(seed)
    arrays = {
        "first.weight": rng.standard_normal((HIDDEN, FEATURES)) / 2,
        "first.bias": rng.standard_normal(HIDDEN) / 10,
        "second.weight": rng.standard_normal((CLASSES, HIDDEN)) / 2,
        "second.bias": rng.standard_normal(CLASSES) / 10,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "first.weight", "first.bias"], ["a"], name="first", transB=1),
        helper.make_node("Relu", ["a"], ["hidden"], name="relu"),
        helper.make_node("Gemm", ["hidden", "second.weight", "second.bias"], ["logits"], "second", transB=1),
    ]
    if dropout:
        arrays["ratio"] = np.array(dropout)
        nodes.insert(2, helper.make_node("Dropout", ["hidden", "ratio"], ["dropped"], name="dropout"))
        nodes[3].input[0] = "dropped"
    sizes = {"logits": CLASSES, "hidden": HIDDEN}
    return _model(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, FEATURES])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, sizes[name]]) for name in outputs],
        arrays,
    )


def _model(nodes, inputs, outputs, arrays) -> Model:
    initializers = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 9
    onnx.checker.check_model(proto)
    return load(proto)


def examples(count=37, seed=1) -> tuple[np.ndarray, np.ndarray]:
    """Inputs whose class a perceptron can learn."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, FEATURES)).astype(np.float32)
    return x, np.argmax(x[:, :CLASSES] + 0.3 * x[:, 1 : CLASSES + 1], axis=1)


def copies(weights) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in weights.items()}


def same(a, b) -> bool:
    """Equal names, equal bits."""
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def convolutional(seed=0) -> Model:
    """x (N, 2, 8, 8) -> Conv, BatchNormalization, Relu, MaxPool, Conv, Relu, Gemm -> logits (N, 3)."""
    rng = np.random.default_rng(seed)
    arrays = {
        "conv1.weight": rng.standard_normal((5, 2, 3, 3)) / 4,
        "bn.scale": rng.uniform(0.5, 1.5, 5),
        "bn.bias": rng.standard_normal(5) / 10,
        "bn.mean": np.zeros(5),
        "bn.var": np.ones(5),
        "conv2.weight": rng.standard_normal((7, 5, 3, 3)) / 7,
        "conv2.bias": rng.standard_normal(7) / 10,
        "head.weight": rng.standard_normal((3, 28)) / 5,
        "head.bias": np.zeros(3),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "conv1.weight"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["b1"], name="bn"),
        node("Relu", ["b1"], ["r1"], name="relu1"),
        node("MaxPool", ["r1"], ["p1"], name="pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "conv2.weight", "conv2.bias"], ["c2"], name="conv2", pads=[0, 0, 0, 0]),
        node("Relu", ["c2"], ["r2"], name="relu2"),
        node("Flatten", ["r2"], ["f"], name="flatten"),
        node("Gemm", ["f", "head.weight", "head.bias"], ["logits"], name="head", transB=1),
    ]
    return _model(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        arrays,
    )


def images(count=20, seed=2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 2, 8, 8)).astype(np.float32), rng.integers(0, 3, count)


def changed(before, after) -> set[str]:
    """Names of the arrays that are not what they were."""
    return {name for name, array in before.items() if not np.array_equal(array, after[name])}


def run_and_step(model, x, y, results) -> None:
    """What a spawned process does with a model. Here, as a child process cannot import a test module by its name."""
    results.put((model.run(x), Trainer(model).step(x, y)))
