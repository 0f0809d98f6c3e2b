"""Functions of the model's own, and branches of an If: what runs, and that the model keeps them."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv.errors import ModelError, UnsafeModelError, UnsupportedOpError
from cconv.graph.limits import Limits
from cconv.model import load

node = helper.make_node


def tensor(name, shape=None, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, arrays=None, functions=(), outputs=("y",), inputs=None, opset=17):
    inputs = [tensor("x", ["N", 3])] if inputs is None else inputs
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in (arrays or {}).items()]
    graph = helper.make_graph(nodes, "net", inputs, [tensor(name) for name in outputs], arrays)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)]
    proto = helper.make_model(graph, opset_imports=imports, functions=list(functions))
    proto.ir_version = 9
    return proto


def function(name, inputs, outputs, nodes, attributes=(), opset=17):
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)]
    return helper.make_function("my", name, inputs, outputs, nodes, imports, list(attributes))


def call(name, inputs, outputs, **attributes):
    return node(name, inputs, outputs, f"{name} to {outputs[0]}", domain="my", **attributes)


X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32)


def agrees(proto, feeds=None):
    """cconv's outputs equal onnxruntime's; returns the model."""
    feeds = {"x": X} if feeds is None else feeds
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    loaded = load(proto)
    found = loaded.run(feeds)
    found = list(found.values()) if isinstance(found, dict) else [found]
    for ours, theirs in zip(found, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    return loaded


LINEAR = function("Linear", ["a", "w"], ["b"], [node("MatMul", ["a", "w"], ["t"]), node("Relu", ["t"], ["b"])])
LEAK = node("LeakyRelu", ["a"], ["b"])
LEAK.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))


def test_functions_run_and_stay(tmp_path):
    twice = function("Twice", ["a", "w"], ["c"], [call("Linear", ["a", "w"], ["t"]), call("Linear", ["t", "w"], ["c"])])
    nodes = [call("Twice", ["x", "w"], ["h"]), call("Linear", ["h", "w"], ["t"]), node("Add", ["t", "x"], ["y"])]
    proto = model(nodes, {"w": W}, [LINEAR, twice])
    loaded = agrees(proto)
    assert [each.op_type for each in loaded.nodes] == ["MatMul", "Relu"] * 3 + ["Add"]
    loaded.save(tmp_path / "saved.onnx")
    saved = onnx.load(tmp_path / "saved.onnx")
    assert [f.name for f in saved.functions] == ["Linear", "Twice"]
    assert [n.op_type for n in saved.graph.node] == ["Twice", "Linear", "Add"]


def test_weights_within_functions_train_and_are_the_models_own():
    loaded = load(model([call("Linear", ["x", "w"], ["y"])], {"w": W}, [LINEAR]))
    trainer = cconv.Trainer(loaded, loss="mse", optimizer=cconv.optim.SGD(lr=0.1))
    before = trainer.step(X, np.zeros((2, 3), np.float32))
    assert trainer.step(X, np.zeros((2, 3), np.float32)) < before
    assert not np.array_equal(loaded.weights["w"], W)
    written = {t.name: numpy_helper.to_array(t) for t in loaded.proto().graph.initializer}
    assert np.array_equal(written["w"], loaded.weights["w"])


def test_attributes_of_a_call_reach_the_function():
    leaky = function("Leaky", ["a"], ["b"], [LEAK], ["slope"])
    agrees(model([call("Leaky", ["x"], ["y"], slope=0.25)], functions=[leaky]))


def test_an_input_that_a_function_passes_through_keeps_its_name():
    both = function("Both", ["a"], ["b", "a"], [node("Relu", ["a"], ["b"])])
    proto = model([call("Both", ["x"], ["p", "q"]), node("Concat", ["p", "q"], ["y"], axis=0)], functions=[both])
    loaded = load(proto)
    assert np.array_equal(loaded.run(X), np.concatenate([np.maximum(X, 0), X]))
    assert loaded.input_names == ["x"]


def test_functions_that_cannot_be_inlined_say_so():
    circle = [
        function("A", ["a"], ["b"], [call("B", ["a"], ["b"])]),
        function("B", ["a"], ["b"], [call("A", ["a"], ["b"])]),
    ]
    with pytest.raises(ModelError, match="circle of calls"):
        load(model([call("A", ["x"], ["y"])], functions=circle)).run(X)
    older = function("Linear", ["a", "w"], ["b"], LINEAR.node, opset=13)
    with pytest.raises(ModelError, match=r"can be inlined; found Opset mismatch"):
        load(model([call("Linear", ["x", "w"], ["y"])], {"w": W}, [older])).run(X)


def test_functions_that_grow_beyond_the_limit_are_refused():
    """30 functions, each of which calls the next one twice: a thousand million nodes out of sixty."""
    functions = [
        function(f"F{i}", ["a"], ["b"], [call(f"F{i + 1}", ["a"], ["t"]), call(f"F{i + 1}", ["t"], ["b"])])
        for i in range(30)
    ]
    functions.append(function("F30", ["a"], ["b"], [node("Relu", ["a"], ["b"])]))
    with pytest.raises(UnsafeModelError, match=f"at most 100000 nodes.*found {2**30}"):
        load(model([call("F0", ["x"], ["y"])], functions=functions)).run(X)
    loaded = load(model([call("F20", ["x"], ["y"])], functions=functions), limits=Limits(nodes=1023))
    with pytest.raises(UnsafeModelError, match="at most 1023 nodes"):
        loaded.run(X)


def branch(name, nodes, outputs, arrays=None):
    arrays = [numpy_helper.from_array(array, key) for key, array in (arrays or {}).items()]
    return helper.make_graph(nodes, name, [], [tensor(value) for value in outputs], arrays)


THEN = branch("then", [node("MatMul", ["x", "w"], ["t"]), node("Relu", ["t"], ["u"])], ["u"])
ELSE = branch("else", [node("Mul", ["x", "two"], ["t2"])], ["t2"], {"two": np.array(2, np.float32)})


def choose(condition, then=THEN, other=ELSE, outputs=("y",)):
    return node("If", [condition], list(outputs), "if", then_branch=then, else_branch=other)


@pytest.mark.parametrize("flag", [True, False])
def test_the_branch_that_a_constant_chooses_runs(flag):
    agrees(model([choose("flag")], {"flag": np.array(flag), "w": W}))


@pytest.mark.parametrize("columns, squeezes", [(1, True), (3, False)])
def test_a_condition_on_shapes_is_known(columns, squeezes):
    """How PyTorch's exporter writes x.squeeze(1)."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Constant", [], ["one"], value_ints=[1]),
        node("Gather", ["shape", "one"], ["size"]),
        node("Equal", ["size", "one"], ["flag"]),
        choose(
            "flag",
            branch("then", [node("Squeeze", ["x", "one"], ["a"])], ["a"]),
            branch("else", [node("Identity", ["x"], ["b"])], ["b"]),
        ),
    ]
    loaded = load(model(nodes, inputs=[tensor("x", ["N", "C"])]))
    assert loaded.run(np.zeros((2, columns), np.float32)).shape == ((2,) if squeezes else (2, columns))


def test_values_of_outside_pass_through_and_names_may_repeat():
    """Ifs whose branches use the same names, one within another; outputs that are values of outside, or constants."""
    inner = branch("inner", [node("Add", ["t", "x"], ["i"])], ["i"])
    first = branch("then", [node("Relu", ["x"], ["t"]), choose("flag", inner, inner, ("u",))], ["u", "x"])
    second = branch("then", [node("Mul", ["x", "x"], ["t"])], ["t", "k"], {"k": np.full(3, 5, np.float32)})
    nodes = [
        choose("flag", first, first, ("a", "b")),
        choose("flag", second, second, ("c", "d")),
        node("Concat", ["a", "b", "c"], ["s"], axis=0),
        node("Add", ["s", "d"], ["y"]),
    ]
    loaded = load(model(nodes, {"flag": np.array([True])}))
    expected = np.concatenate([np.maximum(X, 0) + X, X, X * X]) + 5
    assert np.array_equal(loaded.run(X), expected)


def test_weights_that_a_branch_takes_train():
    loaded = load(model([choose("flag")], {"flag": np.array(True), "w": W}))
    assert loaded.parameters == ["w"]
    trainer = cconv.Trainer(loaded, loss="mse", optimizer=cconv.optim.SGD(lr=0.1))
    before = trainer.step(X, np.zeros((2, 3), np.float32))
    assert trainer.step(X, np.zeros((2, 3), np.float32)) < before


def test_a_network_between_branches_is_fused_as_one():
    """Conv and Relu in a branch run as one step: names are given back, no Identity stands between them."""
    weights = np.random.default_rng(2).standard_normal((4, 3, 3, 3)).astype(np.float32)
    then = branch("then", [node("Conv", ["x", "w"], ["t"])], ["t"])
    other = branch("else", [node("Identity", ["x"], ["e"])], ["e"])
    nodes = [choose("flag", then, other, ("c",)), node("Relu", ["c"], ["y"])]
    proto = model(nodes, {"flag": np.array(True), "w": weights}, inputs=[tensor("x", [1, 3, 6, 6])])
    agrees(proto, {"x": np.random.default_rng(3).standard_normal((1, 3, 6, 6)).astype(np.float32)})


def test_the_round_trip_keeps_the_if():
    proto = model([choose("flag", THEN, THEN)], {"flag": np.array(True), "w": W})
    loaded = load(proto)
    loaded.run(X)
    assert loaded.proto().graph.node[0] == proto.graph.node[0]


def test_a_condition_that_the_model_computes_is_refused():
    nodes = [node("Equal", ["x", "x"], ["same"]), node("ReduceMin", ["same"], ["flag"], keepdims=0), choose("flag")]
    loaded = load(model(nodes, {"w": W}))
    with pytest.raises(UnsupportedOpError, match=r"'if'.*the condition.*before the model runs"):
        loaded.run(X)
    assert "if" in loaded.summary()


def test_a_condition_that_is_an_input_is_taken_as_it_is_given():
    inputs = [tensor("x", ["N", 3]), tensor("flag", [], TensorProto.BOOL)]
    proto = model([choose("flag")], {"w": W}, inputs=inputs)
    for flag in (True, False, True):
        agrees(proto, {"x": X, "flag": np.array(flag)})


def test_a_branch_that_is_missing_or_has_other_outputs_is_refused():
    lacking = node("If", ["flag"], ["y"], "if")
    half = node("If", ["flag"], ["y"], "if", else_branch=ELSE)
    other = choose("flag", outputs=("y", "z"))
    for bad, message in (
        (lacking, "names the graphs then_branch and else_branch; found none"),
        (half, "then_branch is a graph with 1 outputs; found no such graph"),
        (other, "then_branch is a graph with 2 outputs; found 1"),
    ):
        with pytest.raises(ModelError, match=message):
            load(model([bad], {"flag": np.array(True), "w": W})).run(X)
