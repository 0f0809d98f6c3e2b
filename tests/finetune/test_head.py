"""replace_head on each form that exporters give the last layer, checked by onnx and onnxruntime."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cconv import finetune
from cconv.errors import ModelError, ValueRangeError
from cconv.model import Model, load
from graph import models

RNG = np.random.default_rng(0)


def weight(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32), name)


def node(op_type: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], name=f"n_{output}", **attributes)


def network(nodes, initializers, shape, classes_shape, middle=()) -> onnx.ModelProto:
    proto = models.model(nodes, [models.value("x", ["N", *shape])], [models.value("y", classes_shape)], initializers)
    proto.graph.value_info.extend(middle)
    return proto


VECTOR = [node("Relu", "x", "f")]
IMAGE = [node("Conv", "x k", "c"), node("Relu", "c", "f")]
KERNEL = weight("k", 6, 2, 3, 3)
SHAPE = numpy_helper.from_array(np.array([-1, 5]), "shape")

# id: (model, names of the head's weights). All have 5 classes.
FORMS = {
    "gemm": (
        network([*VECTOR, node("Gemm", "f w b", "y")], [weight("w", 7, 5), weight("b", 5)], (7,), ["N", 5]),
        ["w", "b"],
    ),
    "gemm transB": (
        network(
            [*VECTOR, node("Gemm", "f w b", "y", transB=1)],
            [weight("w", 5, 7), weight("b", 5)],
            (7,),
            ["N", 5],
        ),
        ["w", "b"],
    ),
    "gemm without bias": (
        network([*VECTOR, node("Gemm", "f w", "y", transB=1)], [weight("w", 5, 7)], (7,), ["N", 5]),
        ["w"],
    ),
    "gemm, softmax": (
        network(
            [*VECTOR, node("Gemm", "f w b", "h"), node("Softmax", "h", "y")],
            [weight("w", 7, 5), weight("b", 1, 5)],
            (7,),
            ["N", 5],
            [models.value("h", ["N", 5]), models.value("f", ["N", 7])],
        ),
        ["w", "b"],
    ),
    "matmul": (network([*VECTOR, node("MatMul", "f w", "y")], [weight("w", 7, 5)], (7,), ["N", 5]), ["w"]),
    "matmul, add": (
        network(
            [
                *VECTOR,
                node("MatMul", "f w", "h"),
                node("Add", "h b", "s"),
                node("LogSoftmax", "s", "y", axis=-1),
            ],
            [weight("w", 7, 5), weight("b", 5)],
            (7,),
            ["N", 5],
            [models.value("h", ["N", 5]), models.value("s", ["N", 5])],
        ),
        ["w", "b"],
    ),
    "add with the bias first": (
        network(
            [*VECTOR, node("MatMul", "f w", "h"), node("Add", "b h", "y")],
            [weight("w", 7, 5), weight("b", 5)],
            (7,),
            ["N", 5],
        ),
        ["w", "b"],
    ),
    "matmul on sequences": (
        network([*VECTOR, node("MatMul", "f w", "y")], [weight("w", 7, 5)], (3, 7), ["N", 3, 5]),
        ["w"],
    ),
    "conv, flatten": (
        network(
            [
                *IMAGE,
                node("GlobalAveragePool", "f", "p"),
                node("Conv", "p w b", "h"),
                node("Flatten", "h", "y"),
            ],
            [KERNEL, weight("w", 5, 6, 1, 1), weight("b", 5)],
            (2, 6, 6),
            ["N", 5],
            [models.value("h", ["N", 5, 1, 1])],
        ),
        ["w", "b"],
    ),
    "conv, reshape to a constant": (
        network(
            [
                *IMAGE,
                node("GlobalAveragePool", "f", "p"),
                node("Conv", "p w b", "h"),
                node("Reshape", "h shape", "y"),
            ],
            [KERNEL, weight("w", 5, 6, 1, 1), weight("b", 5), SHAPE],
            (2, 6, 6),
            ["N", 5],
        ),
        ["w", "b"],
    ),
    "gemm, reshape by a Constant node": (
        network(
            [
                *VECTOR,
                helper.make_node(
                    "Constant", [], ["s"], name="const", value=numpy_helper.from_array(np.array([-1, 1, 5]))
                ),
                node("Gemm", "f w", "h"),
                node("Reshape", "h s", "y"),
            ],
            [weight("w", 7, 5)],
            (7,),
            ["N", 1, 5],
        ),
        ["w"],
    ),
    "squeezenet": (
        network(
            [
                *IMAGE,
                node("Dropout", "f", "d"),
                node("Conv", "d w b", "h"),
                node("Relu", "h", "r"),
                node("GlobalAveragePool", "r", "g"),
                node("Flatten", "g", "s"),
                node("Softmax", "s", "y"),
            ],
            [KERNEL, weight("w", 5, 6, 1, 1), weight("b", 5)],
            (2, 6, 6),
            ["N", 5],
        ),
        ["w", "b"],
    ),
    "matmul on sequences, flatten": (
        network(
            [*VECTOR, node("MatMul", "f w", "h"), node("Flatten", "h", "y")],
            [weight("w", 7, 5)],
            (3, 7),
            ["N", 15],
        ),
        ["w"],
    ),
    "segmentation": (
        network([*IMAGE, node("Conv", "f w", "y")], [KERNEL, weight("w", 5, 6, 1, 1)], (2, 6, 6), ["N", 5, 4, 4]),
        ["w"],
    ),
    "5 features, 5 classes": (
        network([*VECTOR, node("Gemm", "f w b", "y")], [weight("w", 5, 5), weight("b", 5)], (5,), [5, 5]),
        ["w", "b"],
    ),
}


def outputs(model: Model, seed: int = 1) -> np.ndarray:
    proto = model.proto()
    onnx.checker.check_model(proto, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shape = [n if isinstance(n, int) else 5 for n in session.get_inputs()[0].shape]
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    (y,) = session.run(None, {"x": x})
    declared = session.get_outputs()[0].shape
    assert len(declared) == y.ndim
    assert all(not isinstance(n, int) or n == m for n, m in zip(declared, y.shape))
    return y


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [3, 11])
def test_every_form_of_a_head(form, count):
    proto, names = FORMS[form]
    model = load(proto)
    before = model.proto().SerializeToString()
    old = outputs(model)
    changed = finetune.replace_head(model, [f"class {i}" for i in range(count)])
    new = outputs(changed)
    axis = old.ndim - 1 if form.startswith(("gemm", "matmul")) else 1
    assert new.shape == (*old.shape[:axis], old.shape[axis] // 5 * count, *old.shape[axis + 1 :])
    assert np.isfinite(new).all() and new.std() > 0
    assert finetune.head_weights(changed) == names
    assert finetune.head_weights(model) == names
    assert model.proto().SerializeToString() == before  # the given model is as it was
    others = set(model.weights) - set(names)
    assert set(changed.weights) - set(names) == others
    assert all(np.array_equal(changed.weights[name], model.weights[name]) for name in others)
    assert [n.name for n in changed.nodes if n.op_type != "Constant"] == [
        n.name for n in model.nodes if n.op_type != "Constant"
    ]
    assert json.loads(changed.ir.metadata_props["cconv.classes"])[2] == "class 2"
    again = finetune.replace_head(changed, 5)
    assert outputs(again).shape == old.shape
    assert "cconv.classes" not in again.ir.metadata_props


def test_the_fresh_weights():
    model = load(FORMS["gemm transB"][0])
    a, b, c = (finetune.replace_head(model, 400, seed=seed).weights for seed in (1, 1, 2))
    assert np.array_equal(a["w"], b["w"]) and not np.array_equal(a["w"], c["w"])
    # The deviation of a standard deviation over n draws is 1/sqrt(2n) of it; five of them.
    assert abs(a["w"].std() * np.sqrt(7) - 1) < 5 / np.sqrt(2 * a["w"].size)
    assert not a["b"].any()
    a["w"][...] = 0  # live


def test_fresh_weights_are_saved(tmp_path):
    model = finetune.replace_head(load(FORMS["gemm"][0]), ["cat", "dög"])
    model.weights["b"][...] = [1, 2]
    model.save(tmp_path / "net.onnx")
    again = load(tmp_path / "net.onnx")
    assert again.weights["b"].tolist() == [1, 2]
    assert json.loads(again.ir.metadata_props["cconv.classes"]) == ["cat", "dög"]


def test_weights_that_others_use_too_stay():
    nodes = [node("Gemm", "x w b", "f"), node("Relu", "f", "g"), node("Gemm", "g w b", "y")]
    model = load(network(nodes, [weight("w", 5, 5), weight("b", 5)], (5,), ["N", 5]))
    changed = finetune.replace_head(model, 3)
    assert outputs(changed).shape == (5, 3)
    assert np.array_equal(changed.weights["w"], model.weights["w"])
    assert finetune.head_weights(changed) == ["w.1", "b.1"]


def test_initializers_among_the_inputs():
    proto = onnx.ModelProto.FromString(FORMS["gemm"][0].SerializeToString())
    proto.ir_version = 3
    proto.graph.input.extend([models.value("w", [7, 5]), models.value("b", [5])])
    changed = finetune.replace_head(load(proto), 3)
    assert outputs(changed).shape == (5, 3)
    assert changed.input_names == ["x"]


def test_several_outputs_need_a_name():
    nodes = [*VECTOR, node("Gemm", "f w", "y"), node("Gemm", "f v", "z")]
    proto = network(nodes, [weight("w", 7, 5), weight("v", 7, 4)], (7,), ["N", 5])
    proto.graph.output.append(models.value("z", ["N", 4]))
    model = load(proto)
    with pytest.raises(ModelError, match=r"needs output=.*y, z"):
        finetune.replace_head(model, 3)
    with pytest.raises(ModelError, match="the outputs are y, z; found 'q'"):
        finetune.replace_head(model, 3, output="q")
    changed = finetune.replace_head(model, 3, output="z")
    assert changed.weights["v"].shape == (7, 3) and changed.weights["w"].shape == (7, 5)
    assert finetune.head_weights(changed, output="y") == ["w"]


@pytest.mark.parametrize(
    "nodes, initializers, says",
    [
        ([node("Relu", "x", "y")], [], "Relu at node 'n_y'|the input 'x', behind Relu"),
        ([node("Gemm", "x w", "h"), node("Relu", "h", "y")], [weight("w", 7, 5)], "Gemm.*behind Relu"),
        ([node("Exp", "x", "h"), node("Softmax", "h", "y")], [], "Exp at node 'n_h', behind Softmax"),
        ([node("MatMul", "x x", "y")], [], "MatMul at node 'n_y'"),
        ([node("Gemm", "x w", "h"), node("Mul", "h h", "y")], [weight("w", 7, 5)], "Mul at node 'n_y'"),
    ],
)
def test_no_head(nodes, initializers, says):
    model = load(network(nodes, initializers, (7,), ["N", None]))
    with pytest.raises(ModelError, match=says):
        finetune.replace_head(model, 3)
    with pytest.raises(ModelError, match="output 'y'"):
        finetune.head_weights(model)


def test_a_reshape_that_cannot_follow_is_named():
    nodes = [*VECTOR, node("Gemm", "f w", "h"), node("Shape", "h", "s"), node("Reshape", "h s", "y")]
    model = load(network(nodes, [weight("w", 7, 5)], (7,), ["N", 5]))
    with pytest.raises(ModelError, match=r"node 'n_y' .Reshape.*the model computes"):
        finetune.replace_head(model, 3)
    target = numpy_helper.from_array(np.array([-1, 15]), "s")
    nodes = [*VECTOR, node("MatMul", "f w", "h"), node("Reshape", "h s", "y")]
    model = load(network(nodes, [weight("w", 7, 5), target], (3, 7), ["N", 15]))
    with pytest.raises(ModelError, match=r"node 'n_y' .Reshape.*found \[-1, 15\]"):
        finetune.replace_head(model, 3)


@pytest.mark.parametrize(
    "classes, says",
    [
        (0, "at least one; found 0"),
        (True, "at least one"),
        ([], "found none"),
        (["a", "b", "a"], "found a twice"),
        ("cat", "list of names"),
        (["a", 1], "list of names"),
    ],
)
def test_wrong_classes(classes, says):
    with pytest.raises(ValueRangeError, match=says):
        finetune.replace_head(load(FORMS["gemm"][0]), classes)


@pytest.mark.parametrize("last", ["gemm", "matmul and add", "1x1 conv"])
def test_a_head_in_constant_nodes_names_the_repair(last):
    constants = {"w": (7, 5), "b": (5,)} if last != "1x1 conv" else {"w": (5, 7, 1, 1), "b": (5,)}
    nodes = [helper.make_node("Constant", [], [name], value=weight(name, *shape)) for name, shape in constants.items()]
    shape = (7,) if last != "1x1 conv" else (7, 1, 1)
    layers = {
        "gemm": [node("Gemm", "x w b", "y")],
        "matmul and add": [node("MatMul", "x w", "h"), node("Add", "h b", "y")],
        "1x1 conv": [node("Conv", "x w b", "h"), node("Flatten", "h", "y")],
    }
    proto = network([*nodes, *layers[last]], [], shape, ["N", 5])
    with pytest.raises(ModelError, match=r"Constant node; cconv\.finetune\.repair"):
        finetune.replace_head(load(proto), 3)
    changed = finetune.replace_head(finetune.repair(load(proto)), 3)
    assert changed.run(np.zeros((2, *shape), np.float32)).shape == (2, 3)
