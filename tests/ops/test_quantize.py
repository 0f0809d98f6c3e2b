"""Quantised networks: the gradient goes straight through the rounding, and weights stored as integers cost no time."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv.errors import DTypeError, ShapeError, UnsupportedOpError
from harness import forward, model_of, node_model, projection_plan
from ops_cases.case import Case

node = helper.make_node


def network(arrays, nodes, inputs=()):
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    proto.ir_version = 9
    return proto


def pair(source, target, zero="zero", axis=1):
    return [
        node("QuantizeLinear", [source, "scale", zero], [f"{target}.q"], f"{target}.quantize", axis=axis),
        node("DequantizeLinear", [f"{target}.q", "scale", zero], [target], f"{target}.dequantize", axis=axis),
    ]


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("axis, shape", [(None, (4, 5)), (1, (2, 5, 3)), (0, (6, 4)), (1, (2, 7, 3, 4))])
def test_the_gradient_is_pytorchs(kind, axis, shape):
    """torch.fake_quantize passes the gradient on where nothing was clipped."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, dy = (rng.uniform(-4, 4, shape).astype(np.float32) for _ in range(2))
    n = 1 if axis is None else shape[axis]
    scale, zero = np.linspace(0.01, 0.05, n, dtype=np.float32), (np.arange(n) + 3).astype(kind)
    limits = np.iinfo(kind)
    tensor = torch.tensor(x, requires_grad=True)
    if axis is None:
        y = torch.fake_quantize_per_tensor_affine(tensor, float(scale[0]), int(zero[0]), limits.min, limits.max)
        scale, zero = scale[0], zero[0]
    else:
        zeros = torch.tensor(zero.astype(np.int32))
        y = torch.fake_quantize_per_channel_affine(tensor, torch.tensor(scale), zeros, axis, limits.min, limits.max)
    y.backward(torch.tensor(dy))
    model = model_of(network({"x": x, "scale": scale, "zero": zero}, pair("x", "y", axis=axis or 0)))
    plan, _ = projection_plan(model, ["x"], np.float32)
    ((_, target),) = plan.targets.items()
    target[...] = dy
    assert plan.run(until="update") == ("", 0)
    # PyTorch multiplies by 1 / scale, so a value in the middle between two may go the other way.
    assert np.mean(np.abs(plan.outputs["y"] - y.detach().numpy()) > 1e-6) < 0.01
    np.testing.assert_allclose(plan.gradients["x"], tensor.grad.numpy(), rtol=1e-6)
    assert 0 < np.count_nonzero(plan.gradients["x"]) < x.size


def test_a_quantised_convolution_trains():
    """Weights and feature maps quantised on the way, as networks are trained for integer hardware."""
    rng = np.random.default_rng(0)
    nodes = [
        *pair("x", "xq"),
        *pair("w", "wq"),
        node("Conv", ["xq", "wq"], ["c"], "conv", pads=[1, 1, 1, 1]),
        *pair("c", "cq"),
        node("GlobalAveragePool", ["cq"], ["p"], "pool"),
        node("Flatten", ["p"], ["y"], "flatten"),
    ]
    arrays = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32) / 3,
        "scale": np.float32(0.03),
        "zero": np.int8(0),
    }
    model = cconv.load(network(arrays, nodes, [("x", ["N", 3, 8, 8])]))
    trainer = cconv.Trainer(model, loss="mse", optimizer=cconv.optim.SGD(lr=0.5))
    assert trainer.trained == ("w",)
    x = rng.standard_normal((8, 3, 8, 8)).astype(np.float32)
    y = x.mean(axis=(2, 3)) @ rng.standard_normal((3, 4)).astype(np.float32)
    losses = [trainer.step(x, y) for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]


def test_weights_stored_as_integers_are_read_once():
    """They do not change between runs, so their step is in the part that runs once."""
    rng = np.random.default_rng(0)
    arrays = {
        "q": rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8),
        "scale": np.float32(0.01),
        "zero": np.int8(3),
    }
    nodes = [node("DequantizeLinear", ["q", "scale", "zero"], ["w"], "read"), node("Conv", ["x", "w"], ["y"], "conv")]
    model = model_of(network(arrays, nodes, [("x", [1, 3, 5, 5])]))
    from cconv.ops.tensor import Spec
    from cconv.plan.plan import inference_plan

    specs = {"x": Spec((1, 3, 5, 5), np.dtype(np.float32))}
    plan = inference_plan(model.nodes, specs, ["y"], model.weights, model.constants, threads=1)
    assert "read" in plan.memory.labels[: plan.memory.marks["body"]]
    assert "read" not in plan.memory.labels[plan.memory.marks["body"] :]


ONE = np.array(1, np.float32)
REFUSED = [
    (
        Case("QuantizeLinear", [(3, 4), ONE, np.array(0, np.int32)]),
        UnsupportedOpError,
        "or uint16; found float32 to int32",
    ),
    (
        Case("QuantizeLinear", [(3, 4), np.ones(3, np.float32)]),
        ShapeError,
        "one number, or \\(4,\\); found shape \\(3,\\)",
    ),
    (Case("QuantizeLinear", [(3, 4), np.ones(4, np.float32)], opset=10), ShapeError, "the scale is one number; found"),
    (Case("QuantizeLinear", [(3, 4), np.array(1)]), DTypeError, "floating-point numbers; found int64"),
    (
        Case("QuantizeLinear", [(3, 4), np.ones((3, 2), np.float32)], {"block_size": 2}, opset=21),
        UnsupportedOpError,
        "block_size 2",
    ),
    (Case("DequantizeLinear", [np.zeros(3, np.int8), ONE, np.array(0, np.uint8)]), DTypeError, "is int8; found uint8"),
    (
        Case("DequantizeLinear", [np.zeros((3, 2), np.int8), np.ones(2, np.float32), np.array(0, np.int8)]),
        ShapeError,
        "for each scale",
    ),
    (Case("DequantizeLinear", [np.zeros(3, np.int64), ONE]), UnsupportedOpError, "or int32; found int64"),
]


@pytest.mark.parametrize("case, error, message", REFUSED, ids=[case.id for case, _, _ in REFUSED])
def test_refused_with_the_reason(case, error, message):
    feeds = {f"x{i}": value for i, value in enumerate(case.arrays())}
    with pytest.raises(error, match=message) as caught:
        forward(model_of(node_model(case)), feeds)
    assert "'node'" in str(caught.value)
