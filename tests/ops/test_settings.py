"""Inputs that set an operator's behaviour and have a gradient, such as the bounds of a Clip: trained where named.

And what PyTorch gives at ties, of bounds and of scattered extremes.
"""

import numpy as np
import pytest
from onnx import helper, numpy_helper

import cconv
from cconv import optim
from cconv.errors import TrainingError
from harness import model_of, node_model, projection_plan
from ops_cases.case import Case

torch = pytest.importorskip("torch")


def gradients(case, names):
    """Of the sum of the output, weighted by 1, 2, ..."""
    plan, _ = projection_plan(model_of(node_model(case, dynamic=False)), names)
    ((_, target),) = plan.targets.items()
    target[...] = np.arange(1, target.size + 1).reshape(target.shape)
    plan.run(until="update")
    return plan.gradients


def weighted(y):
    (y * torch.arange(1, y.numel() + 1, dtype=y.dtype).reshape(y.shape)).sum().backward()


@pytest.mark.parametrize("low, high", [(-1, 1), (1, -1), (0.5, 0.5), (-1, None), (None, 1)])
def test_clip_at_ties(low, high):
    x = np.array([-2, -1, -0.5, 0, 0.5, 1, 2], np.float32)
    bounds = [None if n is None else np.array(n, np.float32) for n in (low, high)]
    given = [x, *bounds]
    names = [f"x{i}" for i, value in enumerate(given) if value is not None]
    found = gradients(Case("Clip", given), names)
    tensors = [None if n is None else torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in given]
    weighted(torch.clamp(tensors[0], *tensors[1:]))
    for name in names:
        expected = tensors[int(name[1:])].grad.numpy()
        if low is not None and high is not None and name == "x0" and low >= high:
            continue  # nothing follows from x but where it is a bound itself
        assert np.array_equal(found[name], expected), name


@pytest.mark.parametrize("onnx_name, torch_name", [("max", "amax"), ("min", "amin"), ("mul", "prod"), ("add", "sum")])
def test_scattering_with_ties_and_zeros(onnx_name, torch_name):
    x = np.array([[1, 2, 0, 3], [0, -1, 2, 2]], np.float32)
    index = np.array([[0, 0, 2, 2, 3], [1, 1, 1, 0, 0]])
    updates = np.array([[1, 1, 0, 5, 3], [0, 2, 3, 0, 0]], np.float32)
    case = Case("ScatterElements", [x, index, updates], {"axis": 1, "reduction": onnx_name}, (1,), 18)
    found = gradients(case, ["x0", "x2"])
    ours = [torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in (x, updates)]
    weighted(ours[0].scatter_reduce(1, torch.tensor(index), ours[1], torch_name))
    assert np.allclose(found["x0"], ours[0].grad.numpy())
    assert np.allclose(found["x2"], ours[1].grad.numpy())


def clipped_line():
    """A product, clipped from 0 to a weight `top`."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="line"),
        helper.make_node("Clip", ["z", "bottom", "top"], ["y"], name="clip"),
    ]
    weights = {"w": np.eye(2, dtype=np.float32), "bottom": np.array(0, np.float32), "top": np.array(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "clipped",
        [helper.make_tensor_value_info("x", 1, ["N", 2])],
        [helper.make_tensor_value_info("y", 1, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return cconv.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9))


def test_settings_are_trained_where_they_are_named():
    x, y = np.array([[3, 0.5], [2, -1]], np.float32), np.array([[3, 0.5], [2, 0]], np.float32)
    for trainable in (None, "*", lambda name: True):
        trainer = cconv.Trainer(clipped_line(), loss="mse", optimizer=optim.SGD(lr=0.1), trainable=trainable)
        assert trainer.trained == ("w",)
    assert clipped_line().parameters == ["w"]
    assert cconv.Trainer(clipped_line(), loss="mse", trainable=["t?p", "w"]).trained == ("w", "top")
    model = clipped_line()
    trainer = cconv.Trainer(model, loss="mse", optimizer=optim.SGD(lr=0.5), trainable=["top"])
    assert trainer.trained == ("top",)
    for _ in range(60):
        trainer.step(x, y)
    assert abs(model.weights["top"] - 3) < 0.001
    assert np.array_equal(model.weights["w"], np.eye(2))
    with pytest.raises(TrainingError, match="'nothing'"):
        cconv.Trainer(model, loss="mse", optimizer=optim.SGD(lr=0.5), trainable=["nothing"])


@pytest.mark.parametrize("kind, more", [("Floor", ()), ("Round", ()), ("ArgMax", ()), ("Equal", ("x",))])
def test_where_the_gradient_ends_is_named(kind, more):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="line"),
        helper.make_node(kind, ["z", *more], ["end"], name="the end"),
        helper.make_node("Cast", ["end"], ["y"], name="float", to=1),
    ]
    graph = helper.make_graph(
        nodes,
        "ending",
        [helper.make_tensor_value_info("x", 1, ["N", 2])],
        [helper.make_tensor_value_info("y", 1, ["N", None])],
        [numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")],
    )
    model = cconv.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9))
    for trainable in (None, "w"):
        with pytest.raises(TrainingError, match=f"ends at node 'the end' \\({kind}\\)"):
            cconv.Trainer(model, loss="mse", optimizer=optim.SGD(lr=0.1), trainable=trainable)
