"""Inputs whose values shape rules read: the plan is made for these values, and anew when they change. Also the dtypes
of inputs and outputs."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv.errors import DTypeError, ShapeError, UnsupportedOpError


def model(nodes, inputs, kind=TensorProto.FLOAT, weights=None, outputs=("y",), opset=18):
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        for name, (dtype, shape) in inputs.items()
    ]
    results = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    arrays = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    made = [helper.make_node(*node[:3], **node[3]) for node in nodes]
    graph = helper.make_graph(made, "net", declared, results, arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = 10
    return cconv.load(proto)


X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
RESHAPE = [("Reshape", ["x", "shape"], ["r"], {}), ("Neg", ["r"], ["y"], {})]


def test_a_shape_that_is_an_input():
    loaded = model(RESHAPE, {"x": (np.float32, [2, 3, 4]), "shape": (np.int64, [2])})
    for shape in ([6, 4], [4, 6], [4, 6], [-1, 2], [6, 4]):
        found = loaded.run({"x": X, "shape": np.array(shape)})
        assert np.array_equal(found, -X.reshape(shape))


def test_a_shape_that_follows_from_an_input():
    """One more row than the input says."""
    nodes = [("Add", ["n", "one"], ["m"], {}), ("ConstantOfShape", ["m"], ["y"], {})]
    loaded = model(nodes, {"n": (np.int64, [1])}, weights={"one": np.array([1])})
    for n in (2, 5, 2):
        assert loaded.run(np.array([n])).shape == (n + 1,)


def test_a_plan_is_kept_while_the_values_stay():
    loaded = model(RESHAPE, {"x": (np.float32, [2, 3, 4]), "shape": (np.int64, [2])})
    feeds = {"x": X, "shape": np.array([6, 4])}
    loaded.run(feeds)
    (plan,) = loaded._session._plans.values()
    loaded.run(feeds)
    assert loaded._session._plans.latest is plan
    loaded._session._plans.clear()


def test_a_value_that_no_rule_asks_for_makes_no_plan():
    loaded = model([("Mul", ["x", "factor"], ["y"], {})], {"x": (np.float32, [2, 3, 4]), "factor": (np.float32, [])})
    for factor in (1.0, 2.0):
        assert np.array_equal(loaded.run({"x": X, "factor": np.float32(factor)}), factor * X)
    assert len(loaded._session._plans) == 1 and not loaded._session._reads_inputs


def test_what_feature_maps_say_is_not_told():
    loaded = model([("NonZero", ["x"], ["y"], {})], {"x": (np.float32, [2, 2])}, TensorProto.INT64)
    with pytest.raises(UnsupportedOpError, match="must be known before the model runs"):
        loaded.run(np.eye(2, dtype=np.float32))


def test_an_error_at_the_new_values_leaves_the_model_usable():
    loaded = model(RESHAPE, {"x": (np.float32, [2, 3, 4]), "shape": (np.int64, [2])})
    feeds = {"x": X, "shape": np.array([6, 4])}
    loaded.run(feeds)
    with pytest.raises(ShapeError):
        loaded.run({**feeds, "shape": np.array([5, 5])})
    assert np.array_equal(loaded.run(feeds), -X.reshape(6, 4))


def test_a_model_in_double_precision_is_computed_in_it():
    w = np.random.default_rng(0).standard_normal((3, 2))
    nodes = [("MatMul", ["x", "w"], ["h"], {}), ("Tanh", ["h"], ["y"], {})]
    loaded = model(nodes, {"x": (np.float64, [4, 3])}, TensorProto.DOUBLE, {"w": w})
    x = np.random.default_rng(1).standard_normal((4, 3))
    found = loaded.run(x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.tanh(x @ w), rtol=1e-14)


def test_weights_of_float32_in_a_model_of_doubles_stay_live():
    nodes = [("Cast", ["w"], ["v"], {"to": TensorProto.DOUBLE}), ("Mul", ["x", "v"], ["y"], {})]
    loaded = model(nodes, {"x": (np.float64, [2])}, TensorProto.DOUBLE, {"w": np.ones(2, np.float32)})
    x = np.array([1 / 3, 2 / 3])
    assert np.array_equal(loaded.run(x), x)
    loaded.weights["w"][...] = 3
    assert np.array_equal(loaded.run(x), 3 * x)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_narrow_floats_are_computed_in_float32_and_rounded_where_they_leave(dtype):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(dtype)
    w = np.random.default_rng(1).standard_normal((7,)).astype(dtype)
    nodes = [("Mul", ["x", "w"], ["h"], {}), ("Exp", ["h"], ["y"], {})]
    found = model(nodes, {"x": (dtype, [5, 7])}, kind, {"w": w}).run(x)
    assert found.dtype == dtype
    exact = np.exp(x.astype(np.float64) * w.astype(np.float64))
    half = 2.0 ** (-11 if dtype == np.float16 else -8)  # of a unit in the last place
    assert np.max(np.abs(found.astype(np.float64) - exact) / exact) <= 1.001 * half


def test_beyond_the_largest_float16_is_infinity():
    x = np.array([300.0, -300.0], np.float16)
    loaded = model([("Mul", ["x", "x"], ["y"], {})], {"x": (np.float16, [2])}, TensorProto.FLOAT16)
    assert np.array_equal(loaded.run(x), np.array([np.inf, np.inf], np.float16))


@pytest.mark.parametrize(
    "nodes, shape, expected",
    [
        ([("ReduceSum", ["x"], ["y"], {"keepdims": 0})], (0, 3), np.float32(0)),
        ([("ReduceMax", ["x"], ["y"], {"keepdims": 0})], (0, 3), np.float32(-np.inf)),
        ([("Concat", ["x", "w"], ["y"], {"axis": 0})], (0, 3), np.ones((2, 3), np.float32)),
        ([("MatMul", ["x", "v"], ["y"], {})], (2, 0), np.zeros((2, 3), np.float32)),
        ([("Relu", ["x"], ["r"], {}), ("Add", ["r", "w"], ["y"], {})], (1, 0), None),
    ],
    ids=lambda value: value[0][0] if isinstance(value, list) else "",
)
def test_inputs_without_elements(nodes, shape, expected):
    weights = {"w": np.ones((2, 3), np.float32), "v": np.ones((0, 3), np.float32)}
    loaded = model(nodes, {"x": (np.float32, [None, None])}, weights=weights)
    if expected is None:
        with pytest.raises(ShapeError):
            loaded.run(np.zeros(shape, np.float32))
    else:
        found = loaded.run(np.zeros(shape, np.float32))
        assert found.shape == expected.shape and np.array_equal(found, expected)


def test_the_message_that_a_value_is_computed_names_the_node():
    nodes = [("Cast", ["x"], ["n"], {"to": TensorProto.INT64}), ("Expand", ["w", "n"], ["y"], {})]
    loaded = model(nodes, {"x": (np.float32, [1, 2])}, weights={"w": np.ones(1, np.float32)})
    assert isinstance(loaded.proto(), onnx.ModelProto)
    with pytest.raises(UnsupportedOpError, match="Expand"):
        loaded.run(np.ones((1, 2), np.float32))


def test_strings_are_refused_before_kernels_move_their_references():
    text = np.array([["a", "b"]], object)
    node = [helper.make_node("Transpose", ["x"], ["y"])]
    declared = [[helper.make_tensor_value_info(name, TensorProto.STRING, None)] for name in "xy"]
    proto = helper.make_model(helper.make_graph(node, "net", *declared), ir_version=10)
    with pytest.raises(DTypeError, match="'x': holds numbers or bools; found strings"):
        cconv.load(proto).run(text)
