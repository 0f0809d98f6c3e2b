"""BatchNormalization in training plans: its three modes, the running averages, and PyTorch beside it."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper, numpy_helper

from cconv.errors import DTypeError, ShapeError, TrainingError, UnsupportedOpError, ValueRangeError
from cconv.ops.tensor import Spec
from cconv.plan.plan import inference_plan
from cconv.train.selection import batchnorm_modes, reached_weights
from harness import forward, model_of, node_model, projection_plan
from ops_cases.case import Case

SHAPE = (4, 5, 6, 3)
MOMENTUM, EPSILON = 0.75, 1e-3


def model(shape=SHAPE, opset=15, outputs=1, dynamic=False, **attributes):
    rng = np.random.default_rng(7)
    parameters = [rng.standard_normal(shape[1]).astype(np.float32) for _ in range(3)]
    variance = rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    attributes = {"momentum": MOMENTUM, "epsilon": EPSILON, **attributes}
    x = rng.standard_normal(shape).astype(np.float32)
    inputs = [x, *parameters, variance]
    case = Case("BatchNormalization", inputs, attributes, opset=opset, outputs=outputs)
    return model_of(node_model(case, dynamic=dynamic))


def run(mode, dtype=np.float64, trained=("x0", "x1", "x2"), until=None):
    """(plan, weights before, weights after) of one run with a random gradient of the output."""
    plan, weights = projection_plan(model(), list(trained), dtype, threads=2, batchnorm=mode)
    ((_, target),) = plan.targets.items()
    target[...] = np.random.default_rng(8).standard_normal(target.shape)
    before = {name: value.copy() for name, value in weights.items()}
    plan.run(until=until)
    return plan, before, weights


def torch_run(torch, mode, before, target):
    """(module, x, output) after forward and backward in PyTorch, float64."""
    norm = torch.nn.BatchNorm2d(SHAPE[1], eps=np.float32(EPSILON).item(), momentum=1 - MOMENTUM)
    norm = norm.double().train(mode != "frozen")
    x, *parameters = (torch.from_numpy(before[f"x{i}"].astype(np.float64)) for i in range(5))
    with torch.no_grad():
        for own, value in zip((norm.weight, norm.bias, norm.running_mean, norm.running_var), parameters):
            own.copy_(value)
    x.requires_grad_(True)
    y = norm(x)
    y.backward(torch.from_numpy(target.astype(np.float64)))
    return norm, x, y


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 3e-6)])
@pytest.mark.parametrize("mode", ["batch", "frozen", "statistics"])
def test_equals_pytorch(mode, dtype, tolerance):
    """Tolerances: some tens of roundings of the plan's dtype, values are of order one to ten."""
    torch = pytest.importorskip("torch")
    trained = ("x0",) if mode == "statistics" else ("x0", "x1", "x2")
    plan, before, after = run(mode, dtype, trained)
    ((output, target),) = plan.targets.items()
    norm, x, y = torch_run(torch, mode, before, np.asarray(target))
    expected = {"x0": x.grad, "x1": norm.weight.grad, "x2": norm.bias.grad}
    assert set(plan.gradients) == set(trained)
    for name in trained:
        theirs = expected[name].numpy()
        assert np.max(np.abs(plan.gradients[name] - theirs)) <= tolerance * np.max(np.abs(theirs))
    assert np.max(np.abs(plan.outputs[output] - y.detach().numpy())) <= tolerance * 10
    assert np.allclose(after["x3"], norm.running_mean.numpy(), rtol=0, atol=tolerance)
    # PyTorch averages the sample variance, ONNX the population variance.
    n = x.numel() // SHAPE[1]
    ours, theirs = after["x4"] - MOMENTUM * before["x4"], norm.running_var.numpy() - MOMENTUM * before["x4"]
    ratio = 1 if mode == "frozen" else (n - 1) / n
    assert np.allclose(ours, theirs * ratio, rtol=0, atol=tolerance * 4)


@pytest.mark.parametrize("mode, moves", [("batch", True), ("statistics", True), ("frozen", False)])
def test_running_averages_follow_onnx(mode, moves):
    _, before, after = run(mode, trained=("x0",))
    x = before["x0"].transpose(1, 0, 2, 3).reshape(SHAPE[1], -1)
    for name, batch in (("x3", x.mean(axis=1)), ("x4", x.var(axis=1))):
        expected = before[name] * MOMENTUM + batch * (1 - MOMENTUM) if moves else before[name]
        assert np.allclose(after[name], expected, rtol=1e-13, atol=1e-15)
        assert moves or np.array_equal(after[name], before[name])
    for name in ("x0", "x1", "x2"):
        assert np.array_equal(after[name], before[name])


def test_running_averages_stay_until_the_loss_is_known_to_be_finite():
    _, before, after = run("batch", until="late")
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_statistics_mode_gives_scale_and_bias_no_gradient():
    with pytest.raises(TrainingError, match="x1"):
        run("statistics", trained=("x0", "x1"))


@pytest.mark.parametrize("trained", [("x0",), ("x1",), ("x2",), ("x0", "x2")])
@pytest.mark.parametrize("mode", ["batch", "frozen"])
def test_gradients_do_not_depend_on_which_are_wanted(mode, trained):
    everything, *_ = run(mode)
    some, *_ = run(mode, trained=trained)
    for name in trained:
        assert np.array_equal(some.gradients[name], everything.gradients[name])


def given_statistics(training_mode, relu):
    """A node whose running mean and variance other nodes compute: of x itself with training_mode=0; with 1 they are
    something that must not matter. Both normalise with the statistics of x, as exporters write it of weights."""
    arrays = [np.zeros(s, np.float32) for s in (SHAPE, 5, 5, 5, 5)]
    x = node_model(Case("BatchNormalization", arrays, {}, opset=15, outputs=3 if training_mode else 1))
    (node,) = x.graph.node
    attributes = {"training_mode": training_mode, "momentum": 1.0}
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    rng = np.random.default_rng(3)
    arrays = {name: rng.uniform(-1, 2, SHAPE if name == "x0" else 5).astype(np.float32) for name in node.input[:3]}
    mean, wide = (helper.make_node("ReduceMean", ["x0"], [f"mean{k}"], axes=[0, 2, 3], keepdims=k) for k in (0, 1))
    apart, square = helper.make_node("Sub", ["x0", "mean1"], ["d"]), helper.make_node("Mul", ["d", "d"], ["dd"])
    variance = helper.make_node("ReduceMean", ["dd"], ["variance"], axes=[0, 2, 3], keepdims=0)
    node.input[3], node.input[4] = ("mean0", "mean0") if training_mode else ("mean0", "variance")
    before = [mean] if training_mode else [mean, wide, apart, square, variance]
    for each in reversed(before):
        x.graph.node.insert(0, each)
    if relu:
        y = x.graph.output[0].name
        node.output[0] = "z"
        x.graph.node.append(helper.make_node("Relu", ["z"], [y]))
    del x.graph.initializer[:], x.graph.input[:]
    x.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model_of(x)


def ran(model, mode, dtype, trained=("x0", "x1", "x2")):
    plan, weights = projection_plan(model, list(trained), dtype, batchnorm=mode, output="y0")
    plan.targets["y0"][...] = np.random.default_rng(8).standard_normal(SHAPE)
    before = {name: value.copy() for name, value in weights.items()}
    plan.run()
    for name, array in weights.items():
        assert name in trained or np.array_equal(array, before[name])
    return plan, before


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("training_mode", [0, 1])
@pytest.mark.parametrize("mode", ["batch", "frozen", "statistics"])
def test_given_statistics_are_the_nodes_own_matter(mode, training_mode, relu):
    """Whatever the mode: there are no running averages. The gradient goes through the statistics too."""
    model = given_statistics(training_mode, relu)
    plan, before = ran(model, mode, np.float64)
    x, scale, bias = before["x0"], *(before[name].reshape(1, 5, 1, 1) for name in ("x1", "x2"))
    inverse = 1 / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    normal = (x - x.mean((0, 2, 3), keepdims=True)) * inverse
    z = normal * scale + bias
    np.testing.assert_allclose(plan.outputs["y0"], np.maximum(z, 0) if relu else z, rtol=1e-9, atol=1e-12)
    dz = np.asarray(plan.targets["y0"]) * (z > 0 if relu else 1)
    average = dz.mean((0, 2, 3), keepdims=True) + normal * (dz * normal).mean((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(plan.gradients["x0"], scale * inverse * (dz - average), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(plan.gradients["x1"], (dz * normal).sum((0, 2, 3)), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(plan.gradients["x2"], dz.sum((0, 2, 3)), rtol=1e-8, atol=1e-10)
    alone, _ = ran(model, mode, np.float64, ("x0",))
    np.testing.assert_array_equal(alone.gradients["x0"], plan.gradients["x0"])
    single, _ = ran(model, mode, np.float32)
    for name in plan.gradients:
        np.testing.assert_allclose(single.gradients[name], plan.gradients[name], rtol=1e-4, atol=1e-4)


def test_given_statistics_that_do_not_matter_have_no_gradient():
    """Exporters that fold constants leave weights behind of which nothing but such statistics are computed."""
    model = given_statistics(1, relu=False)
    mean, *others = model.nodes
    (given,) = (node for node in others if node.op_type == "BatchNormalization")
    nodes = [replace(mean, inputs=("copy",)), *others]
    weights = [*model.weights, "copy"]
    assert reached_weights(nodes, given.outputs[:1], weights, {}) == ["x0", "x1", "x2"]
    nodes[-1] = replace(given, attributes={**given.attributes, "training_mode": 0}, outputs=given.outputs[:1])
    assert reached_weights(nodes, given.outputs[:1], weights, {}) == weights


def test_given_statistics_have_no_mode_to_choose():
    model = given_statistics(0, relu=False)
    assert batchnorm_modes("frozen", model.nodes) == {}
    with pytest.raises(ValueRangeError, match="no match"):
        batchnorm_modes({"node": "frozen"}, model.nodes)


def test_exported_in_training_mode_trains_as_the_plan_says():
    """The node's own training_mode does not matter; its running-average outputs are there nonetheless."""
    node = model(training_mode=1, outputs=3)
    for mode in ("batch", "frozen"):
        plan, weights = projection_plan(node, ["x0", "x1"], batchnorm=mode, output="y0")
        plan.targets["y0"][...] = 1
        before = {name: value.copy() for name, value in weights.items()}
        plan.run()
        reference, *_ = run(mode, trained=("x0", "x1"))
        assert np.array_equal(plan.outputs["y0"], next(iter(reference.outputs.values())))
        assert (mode == "frozen") == np.array_equal(weights["x3"], before["x3"])


def test_parameters_that_are_inputs_are_read_at_every_run():
    """Nothing that changes between runs may be folded once."""
    proto = model(dynamic=True)
    shapes = {name: SHAPE if name == "x0" else SHAPE[1:2] for name in proto.input_names}
    specs = {name: Spec(shape, np.dtype(np.float32)) for name, shape in shapes.items()}
    plan = inference_plan(proto.nodes, specs, proto.output_names, {}, {})
    rng = np.random.default_rng(0)
    for _ in range(2):
        feeds = {name: rng.uniform(1, 2, spec.shape).astype(np.float32) for name, spec in specs.items()}
        for name, value in feeds.items():
            plan.inputs[name][...] = value
        plan.run()
        assert np.array_equal(plan.outputs["y0"], forward(proto, feeds)["y0"])


@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (1, 5)])
def test_one_value_per_channel_has_no_statistics(shape):
    with pytest.raises(ShapeError, match=r"'node'.*two values per channel.*frozen"):
        projection_plan(model(shape), ["x0"])
    projection_plan(model(shape), ["x0"], batchnorm="frozen")


def refused(error, match, **changes):
    with pytest.raises(error, match=match):
        projection_plan(model(**changes), ["x0"])


def test_bad_attributes_are_refused():
    refused(UnsupportedOpError, "spatial=0", opset=7, spatial=0)
    refused(UnsupportedOpError, "one output up to opset 13", opset=9, outputs=3)
    refused(ValueError, "epsilon", epsilon=-1.0)
    refused(ValueError, "at most 1 outputs", outputs=3)


def test_parameters_of_another_size_are_refused():
    inputs = [SHAPE, (5,), (5,), (4,), (5,)]
    node = model_of(node_model(Case("BatchNormalization", inputs), dynamic=False))
    with pytest.raises(ShapeError, match=r"input 3 \(running mean\).*\(5,\); found shape \(4,\)"):
        projection_plan(node, ["x0"])


def test_integers_are_refused():
    inputs = [SHAPE, (5,), np.ones(5, np.int32), (5,), (5,)]
    node = model_of(node_model(Case("BatchNormalization", inputs), dynamic=False))
    with pytest.raises(DTypeError, match="input 2 holds floating-point numbers; found int32"):
        projection_plan(node, ["x0"])
