"""BatchNormalization in training plans: its three modes, the running averages, and PyTorch beside it."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from cconv.errors import DTypeError, ShapeError, TrainingError, UnsupportedOpError
from cconv.ops.tensor import Spec
from cconv.plan.plan import inference_plan
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
    assert plan.run(until=until) == ("", 0)
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


@pytest.mark.parametrize("mode", ["batch", "frozen", "statistics"])
def test_a_node_that_keeps_no_averages_takes_the_batch_own_statistics_always(mode):
    """So PyTorch exports a normalisation of weights, with averages that the graph computes and nobody needs."""
    x = node_model(Case("BatchNormalization", [np.zeros(s, np.float32) for s in (SHAPE, 5, 5, 5, 5)], {}, opset=15))
    (node,) = x.graph.node
    node.attribute.extend([helper.make_attribute("training_mode", 1), helper.make_attribute("momentum", 1.0)])
    rng = np.random.default_rng(3)
    arrays = {name: rng.uniform(1, 2, SHAPE if name == "x0" else 5).astype(np.float32) for name in node.input[:3]}
    x.graph.node.insert(0, helper.make_node("Relu", ["x1"], ["ones"]))  # not 0 and 1, which would hide a mistake
    node.input[3], node.input[4] = "ones", "ones"
    del x.graph.initializer[:], x.graph.input[:]
    x.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    plan, weights = projection_plan(model_of(x), ["x0", "x1", "x2"], np.float64, batchnorm=mode, output=node.output[0])
    before = {name: value.copy() for name, value in weights.items()}
    assert plan.run(until="update") == ("", 0)
    value = before["x0"]
    mean, variance = value.mean((0, 2, 3), keepdims=True), value.var((0, 2, 3), keepdims=True)
    scale, bias = (before[name].reshape(1, 5, 1, 1) for name in ("x1", "x2"))
    expected = (value - mean) / np.sqrt(variance + 1e-5) * scale + bias
    np.testing.assert_allclose(plan.outputs[node.output[0]], expected, rtol=1e-9)
    for name, array in weights.items():
        np.testing.assert_array_equal(array, before[name])
    assert np.abs(plan.gradients["x0"].sum((0, 2, 3))).max() < 1e-9  # a shift of a channel changes nothing


def test_exported_in_training_mode_trains_as_the_plan_says():
    """The node's own training_mode does not matter; its running-average outputs are there nonetheless."""
    node = model(training_mode=1, outputs=3)
    for mode in ("batch", "frozen"):
        plan, weights = projection_plan(node, ["x0", "x1"], batchnorm=mode, output="y0")
        plan.targets["y0"][...] = 1
        before = {name: value.copy() for name, value in weights.items()}
        assert plan.run() == ("", 0)
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
        assert plan.run() == ("", 0)
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
