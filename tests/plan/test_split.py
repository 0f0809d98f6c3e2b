"""Where a network that is trained in part is cut, and that the parts together are the whole."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cconv import nn
from cconv.model import load
from cconv.ops.tensor import Layout, Spec
from cconv.plan.plan import inference_plan, training_plan
from cconv.plan.split import split
from cconv.train.losses import MeanSquaredError
from networks import convolutional

RNG = np.random.default_rng(0)
FLOAT = np.dtype(np.float32)


def network(nodes, arrays, shape=("N", 4, 6, 6), outputs=("y",), opset=17):
    """x and "y" (and other outputs) with nodes (type, inputs, outputs, attributes) named after their first output."""
    made = [helper.make_node(kind, ins, outs, name=outs[0], **attributes) for kind, ins, outs, attributes in nodes]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def weights(**shapes):
    return {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def cut(model, trained, batch=3, mode="frozen", size=(4, 6, 6)):
    (name,) = model.input_names
    return split(
        model.nodes,
        {name: Spec((batch, *size), FLOAT)},
        model.output_names,
        model.weights,
        model.constants,
        trained,
        lambda node: mode,
    )


def names(nodes):
    return [node.name for node in nodes]


def test_a_head():
    found = cut(convolutional(), ["head.weight", "head.bias"], size=(2, 8, 8))
    assert names(found.frozen) == ["conv1", "bn", "relu1", "pool1", "conv2", "relu2", "flatten"]
    assert names(found.rest) == ["head"]
    assert found.boundary == ["f"]
    assert set(found.weights) == set(convolutional().weights) - {"head.weight", "head.bias"}
    assert found.share == found.untrained == pytest.approx(0.99, abs=0.01)
    assert found.obstacle == ""


def test_nothing_frozen():
    model = convolutional()
    found = cut(model, ["conv1.weight", "head.weight"], size=(2, 8, 8))
    assert found.frozen == [] and found.boundary == ["x"] and found.weights == []
    assert names(found.rest) == [node.name for node in model.nodes]
    assert found.share == found.untrained == 0 and found.obstacle == ""


@pytest.mark.parametrize("mode", ["batch", "statistics"])
def test_batch_statistics_are_not_kept(mode):
    found = cut(convolutional(), ["head.weight"], mode=mode, size=(2, 8, 8))
    assert names(found.frozen) == ["conv1"]
    assert found.boundary == ["c1"] and names(found.rest)[0] == "bn"
    assert found.share < found.untrained
    assert "batch statistics" in found.obstacle and "'bn' (BatchNormalization)" in found.obstacle


def test_dropout_is_not_kept_what_comes_before_it_is():
    model = network(
        [
            ("Conv", ["x", "w"], ["a"], {}),
            ("Dropout", ["a", "ratio"], ["b"], {}),
            ("Conv", ["b", "w2"], ["c"], {}),
            ("Conv", ["c", "w3"], ["y"], {}),
        ],
        {**weights(w=(8, 4, 3, 3), w2=(8, 8, 1, 1), w3=(2, 8, 1, 1)), "ratio": np.float32(0.5)},
    )
    found = cut(model, ["w3"])
    assert names(found.frozen) == ["a"] and found.boundary == ["a"] and names(found.rest) == ["b", "c", "y"]
    assert found.obstacle == "dropout at node 'b' (Dropout)"
    model.weights["ratio"][...] = 0
    assert names(cut(model, ["w3"]).frozen) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "node",
    [
        ("Softmax", ["a"], ["b"], {"axis": 0}),
        ("Transpose", ["a"], ["b"], {"perm": [1, 0, 2, 3]}),
        ("Reshape", ["a", "shape"], ["b"], {}),
        ("Concat", ["a", "a"], ["b"], {"axis": 0}),
        ("Add", ["a", "batchful"], ["b"], {}),
        ("Pad", ["a", "pads"], ["b"], {}),
        ("MaxPool", ["a"], ["b", "indices"], {"kernel_shape": [1, 1]}),
        ("BatchNormalization", ["a", "s", "s", "s", "s"], ["b", "mean", "variance"], {"training_mode": 1}),
    ],
    ids=lambda node: node[0],
)
def test_what_does_not_tell_examples_apart_is_not_kept(node):
    arrays = {
        **weights(w=(8, 4, 3, 3), t=(1,), s=(8,)),
        "shape": np.array([6, 8, 2, 4]),
        "batchful": np.ones((3, 8, 4, 4), np.float32),
        "pads": np.array([1, 0, 0, 0, 0, 0, 0, 0]),
    }
    first = [("Conv", ["x", "w"], ["c"], {}), ("Sigmoid", ["c"], ["a"], {})]
    found = cut(network([*first, node, ("Mul", ["b", "t"], ["y"], {})], arrays), ["t"])
    assert names(found.frozen) == ["c", "a"] and found.boundary == ["a"]
    assert f"at node 'b' ({node[0]})" in found.obstacle


def test_inputs_without_an_axis_of_examples():
    model = network([("Mul", ["x", "w"], ["a"], {}), ("Mul", ["a", "t"], ["y"], {})], weights(w=(1,), t=(1,)), ())
    (name,) = model.input_names
    found = split(model.nodes, {name: Spec((), FLOAT)}, ["y"], model.weights, {}, ["t"], lambda node: "frozen")
    assert found.frozen == [] and found.boundary == [] and "inputs" in found.obstacle


def test_a_chain_lies_on_one_side():
    """conv(x) + adapter(x) runs as one with the convolution: it stays with what is trained. relu(conv) is kept."""
    model = network(
        [
            ("Conv", ["x", "w"], ["a"], {"pads": [1, 1, 1, 1]}),
            ("Relu", ["a"], ["b"], {}),
            ("Conv", ["b", "w2"], ["c"], {}),
            ("Conv", ["b", "t"], ["d"], {}),
            ("Add", ["c", "d"], ["e"], {}),
            ("Relu", ["e"], ["y"], {}),
        ],
        weights(w=(8, 4, 3, 3), w2=(8, 8, 1, 1), t=(8, 8, 1, 1)),
    )
    found = cut(model, ["t"])
    assert names(found.frozen) == ["a", "b"] and found.boundary == ["b"]
    assert names(found.rest) == ["c", "d", "e", "y"]


def test_several_values_cross():
    """Of an encoder's two scales both are read; an output that nothing trained gives is one too."""
    model = network(
        [
            ("Conv", ["x", "w"], ["a"], {"pads": [1, 1, 1, 1]}),
            ("MaxPool", ["a"], ["b"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("ConvTranspose", ["b", "t"], ["c"], {"strides": [2, 2]}),
            ("Concat", ["c", "a", "x"], ["d"], {"axis": 1}),
            ("Conv", ["d", "t2"], ["y"], {}),
            ("Relu", ["b"], ["z"], {}),
        ],
        weights(w=(8, 4, 3, 3), t=(8, 8, 2, 2), t2=(2, 20, 1, 1)),
        outputs=("y", "z"),
    )
    found = cut(model, ["t", "t2"])
    assert set(found.boundary) == {"a", "b", "x", "z"}
    assert names(found.frozen) == ["a", "b", "z"] and names(found.rest) == ["c", "d", "y"]


def test_constants_go_where_they_are_read():
    """A weight that other weights are computed from, and shape arithmetic."""
    model = network(
        [
            ("Mul", ["w", "s"], ["scaled"], {}),
            ("Conv", ["x", "scaled"], ["a"], {}),
            ("Constant", [], ["shape"], {"value": numpy_helper.from_array(np.array([0, -1]))}),
            ("Reshape", ["a", "shape"], ["b"], {}),
            ("Identity", ["shape"], ["shape2"], {}),
            ("Reshape", ["b", "shape2"], ["c"], {}),
            ("Gemm", ["c", "t"], ["d"], {}),
            ("Reshape", ["d", "shape2"], ["y"], {}),
        ],
        weights(w=(8, 4, 3, 3), s=(1,), t=(128, 2)),
    )
    found = cut(model, ["t"])
    assert names(found.frozen) == ["scaled", "a", "shape", "b", "shape2", "c"]
    assert names(found.rest) == ["shape", "shape2", "d", "y"]
    assert found.boundary == ["c"] and set(found.weights) == {"w", "s"}


def residual():
    """Layers as they are in a ResNet, a depthwise convolution and a stride; a head."""
    body = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
    )
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Residual(body), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    model = net.build((3, 16, 16), seed=1)
    for array in model.weights.values():
        if array.ndim == 1:
            array[...] = RNG.uniform(0.5, 1.5, array.shape)
    return model


def plans(model, trained, spec):
    (x,), (y,) = model.input_names, model.output_names
    whole = training_plan(
        model.nodes, {x: spec}, {y: MeanSquaredError()}, model.weights, model.constants, trained,
        batchnorm=lambda name: "frozen", threads=1,
    )  # fmt: skip
    inference = inference_plan(model.nodes, {x: spec}, [y], model.weights, model.constants, threads=1)
    return whole, inference


def test_before_the_first_trained_weight_training_is_inference():
    """The same steps, no gradient of theirs, the same memory; what follows from the weights is derived before."""
    model = residual()
    spec = Spec((4, 3, 16, 16), FLOAT)
    head = [name for name in model.weights if "11." in name]
    assert len(head) == 2
    whole, inference = plans(model, head, spec)
    steps = [
        [(label, type(step).__name__) for label, step in zip(plan.memory.labels, plan.memory.program.steps)]
        for plan in (whole, inference)
    ]
    assert whole.memory.marks["body"] == inference.memory.marks["body"] > 0
    assert steps[0][: len(steps[1])] == steps[1]
    after = steps[0][len(steps[1]) :]
    assert {label for label, _ in after} == {"loss of 'output'", "loss", "11.Gemm:gradient"}
    assert all("BatchNormalization" not in label or "Conv" in label for label, _ in steps[0]), "all are folded"
    # Beside it the loss needs its target and the gradients of the head.
    extra = sum(model.weights[name].nbytes for name in head) + 4 * 5 * 4
    assert 0 <= whole.memory.arena_bytes - inference.memory.arena_bytes <= extra + 64 * 8
    assert set(whole.sources) == set(inference.sources) and whole.sources
    assert len(whole.memory.program.profile()) == len(steps[0])


@pytest.mark.parametrize("batch", [1, 4])
def test_the_parts_give_the_bits_of_the_whole(batch):
    model = residual()
    spec = Spec((batch, 3, 16, 16), FLOAT)
    (x,), (y,) = model.input_names, model.output_names
    trained = [name for name in model.weights if name.startswith(("6.", "11.")) and "running" not in name]
    whole, _ = plans(model, trained, spec)
    found = split(model.nodes, {x: spec}, [y], model.weights, model.constants, trained, lambda name: "frozen")
    frozen = inference_plan(
        found.frozen, {x: spec}, found.boundary, model.weights, model.constants, threads=1, as_computed=True
    )
    ((value, layout),) = frozen.layouts.items()
    assert layout is Layout.CHANNELS_LAST and frozen.outputs[value].shape == (batch, 8, 8, 8)
    rest = training_plan(
        found.rest, {value: Spec((batch, 8, 8, 8), FLOAT)}, {y: MeanSquaredError()}, model.weights, model.constants,
        trained, batchnorm=lambda name: "frozen", threads=1, layouts=frozen.layouts,
    )  # fmt: skip
    whole.inputs[x][...] = frozen.inputs[x][...] = RNG.standard_normal(spec.shape)
    whole.targets[y][...] = rest.targets[y][...] = RNG.standard_normal((batch, 5))
    frozen.run()
    rest.inputs[value][...] = frozen.outputs[value]
    whole.run()
    rest.run()
    assert np.array_equal(whole.outputs[y], rest.outputs[y])
    for name in trained:
        assert np.array_equal(whole.gradients[name], rest.gradients[name])
        assert whole.gradients[name].any()
