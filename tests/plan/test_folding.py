"""Shape arithmetic vanishes when the plan is made, for any batch size; what depends on weights stays live."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cconv.errors import UnsupportedOpError
from cconv.graph.walk import Values, calls_of
from cconv.ops.tensor import Spec
from cconv.plan.plan import inference_plan
from harness import model_of

node = helper.make_node


def model(nodes, arrays=None, outputs=("y",), inputs=("x",), opset=17):
    graph = helper.make_graph(
        nodes,
        "shapes",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (arrays or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = 9
    return model_of(proto)


def plan_of(network, x):
    plan = inference_plan(
        network.nodes,
        {"x": Spec(x.shape, x.dtype)},
        network.output_names,
        network.weights,
        network.constants,
        threads=1,
    )
    plan.inputs["x"][...] = x
    return plan


def steps(plan):
    return [type(step).__name__ for step in plan.memory.program.steps]


# How exporters of PyTorch (Gather) and of TensorFlow (Slice, Cast) write x.reshape(x.shape[0], -1).
FLATTEN = {
    "gather": [
        node("Shape", ["x"], ["shape"]),
        node("Constant", [], ["zero"], value_int=0),
        node("Gather", ["shape", "zero"], ["batch"]),
        node("Constant", [], ["axes"], value_ints=[0]),
        node("Unsqueeze", ["batch", "axes"], ["first"]),
        node("Constant", [], ["rest"], value_ints=[-1]),
        node("Concat", ["first", "rest"], ["wish"], axis=0),
        node("Reshape", ["x", "wish"], ["y"]),
    ],
    "slice": [
        node("Shape", ["x"], ["shape"]),
        node("Cast", ["shape"], ["shape32"], to=TensorProto.INT32),
        node("Slice", ["shape32", "from", "to"], ["first"]),
        node("Concat", ["first", "minus"], ["wish"], axis=0),
        node("Cast", ["wish"], ["wish64"], to=TensorProto.INT64),
        node("Reshape", ["x", "wish64"], ["y"]),
    ],
    "product": [
        node("Shape", ["x"], ["sizes"], start=1),
        node("ReduceProd", ["sizes"], ["count"], keepdims=1),
        node("Shape", ["x"], ["first"], end=1),
        node("Concat", ["first", "count"], ["wish"], axis=0),
        node("Reshape", ["x", "wish"], ["y"]),
    ],
}
ARRAYS = {"from": np.array([0]), "to": np.array([1]), "minus": np.array([-1], np.int32)}


@pytest.mark.parametrize("nodes", FLATTEN.values(), ids=FLATTEN)
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_reshape_by_computed_sizes_costs_nothing(nodes, batch):
    x = np.random.default_rng(0).standard_normal((batch, 3, 2, 2)).astype(np.float32)
    plan = plan_of(model(nodes, ARRAYS), x)
    plan.run()
    assert np.array_equal(plan.outputs["y"], x.reshape(batch, -1))
    assert steps(plan) == []


def test_what_only_its_shape_is_asked_of_is_not_computed():
    """y has the shape of x's convolution and of nothing else."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        node("Shape", ["c"], ["shape"]),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    plan = plan_of(model(nodes, {"w": np.zeros((3, 3, 3, 3), np.float32)}), x)
    plan.run()
    assert np.array_equal(plan.outputs["y"], x)
    assert steps(plan) == []


def test_an_operator_that_cconv_has_not_is_evaluated_where_its_inputs_are_known():
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("BitwiseXor", ["shape", "mask"], ["wish"]),
        node("Reshape", ["x", "wish"], ["y"]),
    ]
    plan = plan_of(model(nodes, {"mask": np.array([2, 2])}, opset=18), np.zeros((4, 6), np.float32))
    assert plan.outputs["y"].shape == (6, 4)
    assert steps(plan) == []


def test_nothing_is_left_to_chance():
    """What is drawn at random does not follow from constants."""
    nodes = [node("RandomNormal", [], ["r"], shape=[2]), node("Add", ["x", "r"], ["y"])]
    with pytest.raises(UnsupportedOpError, match="RandomNormal"):
        plan_of(model(nodes), np.zeros(2, np.float32))


def test_an_output_that_is_known_is_there():
    x = np.zeros((2, 3), np.float32)
    plan = plan_of(model([node("Shape", ["x"], ["y"])]), x)
    plan.run()
    assert plan.outputs["y"].dtype == np.int64
    assert plan.outputs["y"].tolist() == [2, 3]


def test_what_follows_from_weights_follows_them():
    """The sum of two weights is known, yet computed at every run."""
    nodes = [node("Add", ["a", "b"], ["sum"]), node("Mul", ["x", "sum"], ["y"])]
    network = model(nodes, {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)})
    x = np.ones((2, 3), np.float32)
    plan = plan_of(network, x)
    plan.run()
    assert np.array_equal(plan.outputs["y"], 2 * x)
    network.weights["a"][...] = 4
    plan.run()
    assert np.array_equal(plan.outputs["y"], 5 * x)


def test_sizes_told_from_weights_are_taken_and_cost_nothing():
    """TensorFlow's exporter stores the ones in front of the scales as a float initializer."""
    nodes = [
        node("Concat", ["ones", "scales"], ["all"], axis=0),
        node("Upsample", ["x", "all"], ["y"], mode="nearest"),
    ]
    arrays = {"ones": np.ones(2, np.float32), "scales": np.full(2, 2, np.float32)}
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    plan = plan_of(model(nodes, arrays, opset=9), x)
    plan.run()
    assert np.array_equal(plan.outputs["y"], x.repeat(2, axis=2).repeat(2, axis=3))
    assert steps(plan) == ["Copy", "Resample", "Copy"]  # channels-last, and back


def test_scales_that_change_make_a_new_plan():
    """What the plan was made with came from weights by way of a node that was folded."""
    nodes = [
        node("Concat", ["ones", "scales"], ["all"], axis=0),
        node("Upsample", ["x", "all"], ["y"], mode="nearest"),
    ]
    network = model(nodes, {"ones": np.ones(2, np.float32), "scales": np.full(2, 2, np.float32)}, opset=9)
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    assert network.run(x).shape == (1, 1, 4, 4)
    network.weights["scales"] = np.full(2, 3)
    assert network.run(x).shape == (1, 1, 6, 6)


def test_a_table_beyond_the_bound_is_computed_by_steps():
    nodes = [
        node("ConstantOfShape", ["shape"], ["table"]),
        node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        node("Mul", ["turned", "x"], ["y"]),
    ]
    network = model(nodes, {"shape": np.array([1100, 1000])})
    plan = plan_of(network, np.ones((1000, 1), np.float32))
    plan.run()
    assert plan.outputs["y"].shape == (1000, 1100)
    assert not plan.outputs["y"].any()


def test_the_walk_tells_values_that_need_no_run():
    network = model(FLATTEN["gather"])
    values = Values({"x": Spec((5, 2), np.dtype(np.float32))}, network.constants)
    left = [each.op_type for each, _ in calls_of(network.nodes, values)]
    assert left == ["Reshape"]
    assert values.known["wish"].tolist() == [5, -1]


def test_a_value_whose_rule_disagrees_with_its_evaluation_is_not_folded():
    """Whole numbers divided by 0 are an error, not what NumPy makes of them."""
    nodes = [node("Div", ["a", "b"], ["wish"]), node("Reshape", ["x", "wish"], ["y"])]
    network = model(nodes, {"a": np.array([4]), "b": np.array([0])})
    with pytest.raises(ValueError, match="the divisor of integers is not 0"):
        plan_of(network, np.zeros((2, 2), np.float32))


def test_of_a_value_only_the_dtype_is_asked():
    """What computes it is left out, and with it what it was computed from."""
    nodes = [
        node("Constant", [], ["two"], value_float=2.0),
        node("Exp", ["x"], ["exponential"]),
        node("CastLike", ["w", "exponential"], ["weight"]),
        node("Shape", ["exponential"], ["shape"]),
        node("Expand", ["weight", "shape"], ["wide"]),
        node("Add", ["x", "wide"], ["y"]),
    ]
    x = np.ones((2, 3), np.float32)
    network = model(nodes, {"w": np.array([1, 2, 3], np.float32)})
    plan = plan_of(network, x)
    plan.run()
    np.testing.assert_array_equal(plan.outputs["y"], [[2, 3, 4]] * 2)
    assert "Unary" not in steps(plan), steps(plan)
