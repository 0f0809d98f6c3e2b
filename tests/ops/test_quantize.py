"""Quantised networks: the gradient goes straight through the rounding, and weights stored as integers cost no time."""

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv.errors import DTypeError, ModelError, ShapeError, TrainingError, UnsupportedOpError
from harness import forward, model_of, node_model, projection_plan
from ops_cases.case import Case

node = helper.make_node


def network(arrays, nodes, inputs=(), opset=13):
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = 10
    return proto


def pair(source, target, zero="zero", axis=1, **attributes):
    attributes["axis"] = axis
    return [
        node("QuantizeLinear", [source, "scale", zero], [f"{target}.q"], f"{target}.quantize", **attributes),
        node("DequantizeLinear", [f"{target}.q", "scale", zero], [target], f"{target}.dequantize", **attributes),
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
    plan.run(until="update")
    # PyTorch multiplies by 1 / scale, so a value in the middle between two may go the other way.
    assert np.mean(np.abs(plan.outputs["y"] - y.detach().numpy()) > 1e-6) < 0.01
    np.testing.assert_allclose(plan.gradients["x"], tensor.grad.numpy(), rtol=1e-6)
    assert 0 < np.count_nonzero(plan.gradients["x"]) < x.size


def gradients(arrays, nodes, dy, dtype, opset=21):
    """Of x and of the scale, where y's is dy."""
    plan, _ = projection_plan(model_of(network(arrays, nodes, opset=opset)), ["x", "scale"], dtype)
    ((_, target),) = plan.targets.items()
    target[...] = dy
    plan.run(until="update")
    return plan.gradients["x"], plan.gradients["scale"]


# Shapes of x and of the scale, attributes.
GRANULARITIES = [
    ((4, 5), (), {}),
    ((70, 500), (1,), {}),
    ((2, 5, 3), (5,), {"axis": 1}),
    ((6, 4), (6,), {"axis": 0}),
    ((2, 7, 3, 4), (7,), {"axis": 1}),
    ((4, 7), (4, 3), {"axis": 1, "block_size": 3}),
    ((2, 5, 3, 4), (2, 3, 3, 4), {"axis": 1, "block_size": 2}),
]


def quantised(kind, shape, scales):
    """x of which some is clipped, dy, a scale, zero points; and these two at each element of x."""
    rng, limits = np.random.default_rng(0), ml_dtypes.iinfo(kind)
    scale = rng.uniform(0.01, 0.05, scales).astype(np.float32)
    zero = rng.integers(max(limits.min // 2, -9), min(limits.max // 2, 9), scales, endpoint=True).astype(kind)
    reach = 0.03 * max(abs(limits.min), limits.max) * 1.3
    return rng.uniform(-reach, reach, shape).astype(np.float32), rng.standard_normal(shape), scale, zero


def per_element(array, shape, attributes):
    """A scale's index, or what belongs to it, at each element of x."""
    if array.size == 1:
        return np.broadcast_to(array.reshape(()), shape)
    axis = attributes["axis"]
    if "block_size" in attributes:
        return np.take(array, np.arange(shape[axis]) // attributes["block_size"], axis)
    return np.broadcast_to(array.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)


KINDS = (np.int8, np.uint8, np.int16, ml_dtypes.int4, ml_dtypes.uint4)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: np.dtype(kind).name)
@pytest.mark.parametrize("shape, scales, attributes", GRANULARITIES)
def test_the_scales_gradient_is_that_of_learned_step_size_quantization(kind, shape, scales, attributes):
    """Esser et al. 2020, equation 3, with a zero point, in float64: round(x / s) - x / s where nothing is clipped, else
    the number clipped to, without the zero point."""
    x, dy, scale, zero = quantised(kind, shape, scales)
    limits = ml_dtypes.iinfo(kind)
    s, z = (per_element(a.astype(np.float64), shape, attributes) for a in (scale, zero))
    ratio = x / s
    whole = np.rint(ratio) + z
    inside = (whole >= limits.min) & (whole <= limits.max)
    slope = np.where(inside, np.rint(ratio) - ratio, np.clip(whole, limits.min, limits.max) - z)
    of = per_element(np.arange(scale.size).reshape(scale.shape), shape, attributes).reshape(-1)
    wanted = np.bincount(of, (dy * slope).reshape(-1), scale.size).reshape(scale.shape)
    arrays = {"x": x, "scale": scale, "zero": zero}
    dx, ds = gradients(arrays, pair("x", "y", **attributes), dy, np.float64)
    assert 0 < np.count_nonzero(inside) < x.size
    np.testing.assert_allclose(dx, np.where(inside, dy, 0), rtol=1e-12)
    assert ds.shape == scale.shape
    # The two sums cancel: each of them is as large as the whole numbers are.
    size = np.bincount(of, np.abs(dy * ratio).reshape(-1), scale.size).reshape(scale.shape)
    assert np.all(np.abs(ds - wanted) <= 1e-13 * size)
    _, single = gradients(arrays, pair("x", "y", **attributes), dy, np.float32)
    assert np.all(np.abs(single - wanted) <= 1e-6 * size)


@pytest.mark.parametrize("axis, shape", [(None, (40, 5)), (1, (2, 5, 3)), (0, (6, 4))])
def test_the_scales_gradient_is_pytorchs(axis, shape):
    torch = pytest.importorskip("torch")
    n = 1 if axis is None else shape[axis]
    x, dy, scale, zero = quantised(np.int8, shape, (n,))
    tensor, scales = torch.tensor(x, requires_grad=True), torch.tensor(scale, requires_grad=True)
    zeros, limits = torch.tensor(zero.astype(np.float32)), (-128, 127)
    if axis is None:
        y = torch._fake_quantize_learnable_per_tensor_affine(tensor, scales, zeros, *limits, 1.0)
    else:
        y = torch._fake_quantize_learnable_per_channel_affine(tensor, scales, zeros, axis, *limits, 1.0)
    y.backward(torch.tensor(dy.astype(np.float32)))
    dx, ds = gradients({"x": x, "scale": scale, "zero": zero}, pair("x", "y", axis=axis or 0), dy, np.float32)
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-5)
    np.testing.assert_allclose(ds, scales.grad.numpy().reshape(ds.shape), rtol=1e-4, atol=1e-4)


def test_a_scale_is_trained_where_it_is_named_and_learns():
    """From a scale that clips most of the numbers to one that does not."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 8)).astype(np.float32)
    arrays = {"scale": np.float32(0.002), "zero": np.int8(0), "w": np.eye(8, dtype=np.float32)}
    nodes = [*pair("x", "xq"), node("MatMul", ["xq", "w"], ["y"], "matmul")]
    model = cconv.load(network(arrays, nodes, [("x", ["N", 8])]))
    assert cconv.Trainer(model, "mse").trained == ("w",)
    trainer = cconv.Trainer(model, "mse", cconv.optim.SGD(lr=1e-6), trainable="scale")
    assert trainer.trained == ("scale",)
    losses = [trainer.step(x, x) for _ in range(1500)]
    assert losses[-1] < 0.05 * losses[0]
    assert 0.01 < model.weights["scale"] < 0.05  # 128 * 0.025 are 3.2 standard deviations


def test_only_scales_to_train_is_an_error_that_says_so():
    arrays = {"scale": np.float32(0.1), "zero": np.int8(0)}
    model = cconv.load(network(arrays, pair("x", "y"), [("x", ["N", 8])]))
    with pytest.raises(TrainingError, match="scales of quantisation, which are trained if they are named"):
        cconv.Trainer(model, "mse")
    cconv.Trainer(model, "mse", trainable="scale")


@pytest.mark.parametrize("kind", [ml_dtypes.int4, ml_dtypes.uint4], ids=lambda k: np.dtype(k).name)
def test_four_bits_in_a_file_as_onnxruntime_has_them(kind, tmp_path):
    """Packed weights and a pair on the feature map; saved and loaded again."""
    rng, limits = np.random.default_rng(0), ml_dtypes.iinfo(kind)
    arrays = {
        "w": rng.integers(limits.min, limits.max, (7, 5), endpoint=True).astype(kind),
        "scale": np.float32(0.1), "zero": np.array(3).astype(kind),
        "scales": rng.uniform(0.1, 0.3, (4, 5)).astype(np.float32),
    }  # fmt: skip
    nodes = [
        *pair("x", "xq"),
        node("DequantizeLinear", ["w", "scales"], ["wf"], "weights", axis=0, block_size=2),
        node("MatMul", ["xq", "wf"], ["y"], "matmul"),
    ]
    cconv.load(network(arrays, nodes, [("x", ["N", 7])], opset=21)).save(tmp_path / "net.onnx")
    report = cconv.check(tmp_path / "net.onnx", rng.standard_normal((6, 7)).astype(np.float32))
    assert report.ok, str(report)


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
        "whole numbers of 2, 4, 8 or 16; found float32 to int32",
    ),
    (
        Case("QuantizeLinear", [(3, 4), np.ones(3, np.float32)]),
        ShapeError,
        "one number, or \\(4,\\); found shape \\(3,\\)",
    ),
    (Case("QuantizeLinear", [(3, 4), np.ones(4, np.float32)], opset=10), ShapeError, "the scale is one number; found"),
    (Case("QuantizeLinear", [(3, 4), np.array(1)]), DTypeError, "floating-point numbers of 16 to 64 bits; found int64"),
    (
        Case("QuantizeLinear", [(3, 4), np.ones((3, 4), np.float32)], {"block_size": 2}, opset=21),
        ShapeError,
        "block_size 2 along axis 1 of shape \\(3, 4\\), the scale has shape \\(3, 2\\); found shape \\(3, 4\\)",
    ),
    (Case("QuantizeLinear", [(3, 4), ONE], {"block_size": -2}, opset=21), ModelError, "not negative; found -2"),
    (
        Case("DequantizeLinear", [np.zeros((3, 4), np.int8), ONE], {"block_size": 2}, opset=21),
        ShapeError,
        "the scale has shape \\(3, 2\\); found shape \\(\\)",
    ),
    (Case("QuantizeLinear", [(3,), ONE, np.array(0, np.int8)], {"output_dtype": 2}, opset=21), ModelError, "uint8 and"),
    (Case("QuantizeLinear", [(3,), ONE], {"output_dtype": 17}, opset=23), UnsupportedOpError, "to float8_e4m3fn"),
    (Case("DequantizeLinear", [np.zeros(3, ml_dtypes.float4_e2m1fn), ONE], opset=23), UnsupportedOpError, "float4"),
    (
        Case("DequantizeLinear", [np.zeros(3, np.int8), ONE], {"output_dtype": 17}, opset=23),
        UnsupportedOpError,
        "output_dtype is a float of 16 to 64 bits; found float8_e4m3fn",
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
