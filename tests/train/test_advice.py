"""What a Trainer warns of when it is made."""

import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv import nn
from cconv.errors import TrainingWarning
from networks import perceptron

RNG = np.random.default_rng(0)


def proto(nodes, arrays, batch="N", shape=(3, 8, 8)):
    value = helper.make_tensor_value_info
    x, y = value("x", TensorProto.FLOAT, [batch, *shape]), value("y", TensorProto.FLOAT, [batch, 8])
    weights = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], name=f"n_{output}", **attributes)


CONV = [
    node("Conv", "x w", "c"),
    node("Relu", "c", "r"),
    node("GlobalAveragePool", "r", "p"),
    node("Flatten", "p", "f"),
]
W = {"w": RNG.standard_normal((8, 3, 3, 3))}
HEAD = [node("Gemm", "f v b", "h", transB=1)]
V = {"v": RNG.standard_normal((8, 8)), "b": np.zeros(8)}


def deep(scale):
    """Six convolutions with the names that folding leaves, each followed by Relu."""
    nodes, arrays, x = [], {}, "x"
    for i in range(6):
        arrays[f"onnx::Conv_{100 + 2 * i}"] = scale * RNG.standard_normal((8, 3 if i == 0 else 8, 3, 3))
        arrays[f"onnx::Conv_{101 + 2 * i}"] = np.zeros(8)
        nodes += [
            node("Conv", f"{x} onnx::Conv_{100 + 2 * i} onnx::Conv_{101 + 2 * i}", f"c{i}", pads=[1] * 4),
            node("Relu", f"c{i}", f"r{i}"),
        ]
        x = f"r{i}"
    nodes += [node("GlobalAveragePool", x, "p"), node("Flatten", "p", "f"), node("Gemm", "f v b", "y", transB=1)]
    return proto(nodes, {**arrays, **V})


MODELS = {
    "softmax": (proto([*CONV, *HEAD, node("Softmax", "h", "y")], {**W, **V}), {}, "Softmax"),
    "one example": (proto([*CONV, node("Gemm", "f v b", "y", transB=1)], {**W, **V}, batch=1), {}, "fixed at 1"),
    "tied": (
        proto(
            [
                node("Identity", "b", "shift"),
                *CONV,
                *HEAD,
                node("Add", "h shift", "y"),
            ],
            {**W, **V},
        ),
        {},
        "'shift'.*share one array",
    ),
    "folded": (deep(0.2), {}, "BatchNormalization was folded"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_warning_names_what_was_found_and_the_call(name):
    message, options, words = MODELS[name]
    with pytest.warns(TrainingWarning, match=f"(?s)({words}).*cconv.finetune.repair") as caught:
        cconv.Trainer(cconv.load(message), **options)
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_softmax_before_another_loss_is_no_fault():
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        cconv.Trainer(cconv.load(MODELS["softmax"][0]), loss="mse")


def test_a_sound_network_gets_no_warning():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.GlobalAvgPool(), nn.Flatten())
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        cconv.Trainer(layers.build((3, 8, 8)))
        cconv.Trainer(perceptron())


def test_the_doctor_says_it_in_its_table_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        assert "Softmax" in str(cconv.doctor(cconv.load(MODELS["softmax"][0])))


def test_a_repaired_model_gets_no_warning():
    repaired = cconv.finetune.repair(cconv.load(MODELS["softmax"][0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        cconv.Trainer(repaired)


def test_resuming_does_not_warn_twice(tmp_path):
    with pytest.warns(TrainingWarning):
        trainer = cconv.Trainer(cconv.load(MODELS["softmax"][0]))
    trainer.save(tmp_path / "run.ckpt")
    with pytest.warns(TrainingWarning) as caught:
        cconv.Trainer.resume(tmp_path / "run.ckpt")
    assert len(caught) == 1
