"""certify: right gradients pass, wrong ones are named, and an element that sits on a kink is said to."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
import cconv.kernels.elementwise.elementwise as elementwise
from cconv import cli, nn
from cconv.errors import TrainingError, ValueRangeError
from cconv.model import load
from cconv.prove import certify
from networks import copies, same


@pytest.fixture(scope="module")
def net():
    """Residual, depthwise, grouped, pooled: all BatchNorms moved off their neutral values."""
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Residual(
            nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 1),
                nn.BatchNorm2d(8),
            )
        ),
        nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5),
    ).build((2, 8, 8), seed=0)  # fmt: skip
    rng = np.random.default_rng(5)
    for name, array in model.weights.items():
        if array.ndim == 1:
            model.weights[name] = (array + rng.uniform(0.05, 0.5, array.shape)).astype(np.float32)
    return model


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    return rng.standard_normal((6, 2, 8, 8)).astype(np.float32), rng.integers(0, 5, 6)


@pytest.mark.parametrize("batchnorm", ["batch", "frozen", "statistics"])
def test_right_gradients_pass(net, batch, batchnorm):
    before = copies(net.weights)
    report = certify(net, *batch, batchnorm=batchnorm)
    assert report.ok, str(report)
    assert same(net.weights, before)
    trained = cconv.Trainer(net, batchnorm=batchnorm).trained
    assert [weight.weight for weight in report.weights] == list(trained)
    assert report.max_rule_error < 1e-5
    assert 0 < report.max_error < 1e-3
    assert "ok" in str(report).splitlines()[0]
    assert certify(net, *batch, batchnorm=batchnorm).weights == report.weights  # the same seed, the same numbers


def test_other_losses_and_some_weights(net, batch):
    x, _ = batch
    y = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    report = certify(net, x, y, "mse", trainable="*.weight", samples=1)
    assert report.ok, str(report)
    assert all(len(weight.entries) == 2 for weight in report.weights)
    assert all(weight.weight.endswith(".weight") for weight in report.weights)


def test_dropout_drops_the_same_in_both(batch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 5))
    assert certify(model.build((2, 8, 8), seed=0), *batch).ok


WRONG = 0.01


def spoil(monkeypatch, net, name, dtypes):
    """Let the gradient that comes out of a node's first input be 1 % too large, in plans of these dtypes."""
    node = next(node for node in net.nodes if node.name == name)
    kind = type(node.operator)
    right = kind.gradient

    def gradient(self, lower, call, grads):
        results = list(right(self, lower, call, grads))
        if call.name == name and lower.dtype in dtypes and results[0] is not None:
            wrong = lower.tensor(results[0].shape, results[0].layout)
            factor = lower.external(np.full(wrong.size, 1 + WRONG, lower.dtype), "wrong")
            step = elementwise.Binary(lower.build, "mul", wrong.size)
            lower.emit(step, reads=[results[0], factor], writes=[wrong])
            results[0] = wrong
        return results

    monkeypatch.setattr(kind, "gradient", gradient)
    return node


def test_a_wrong_rule_is_seen_in_all_weights_behind_it(net, batch, monkeypatch):
    """And in no other: the table tells where it is."""
    assert spoil(monkeypatch, net, net.nodes[-2].name, [np.float32, np.float64]).op_type == "Flatten"
    report = certify(net, *batch)
    assert not report.ok
    bad = {weight.weight for weight in report.weights if not weight.ok}
    head = {name for name in net.nodes[-1].inputs if name in net.weights}
    before_norm = {"4.body.0.bias", "4.body.3.bias"}  # BatchNorm takes them out again: their gradient is 0
    assert bad == {weight.weight for weight in report.weights} - head - before_norm
    assert not any(weight.kinks for weight in report.weights)
    assert report.max_rule_error == pytest.approx(WRONG, rel=0.05)
    text = str(report)
    assert "FAILED" in text
    assert "along a random direction: finite difference" in text or "at [" in text


def test_an_error_of_float32_alone_is_seen_in_its_column(net, batch, monkeypatch):
    spoil(monkeypatch, net, net.nodes[-2].name, [np.float32])
    report = certify(net, *batch)
    assert not report.ok
    assert report.max_rule_error < 1e-5
    assert report.max_error == pytest.approx(WRONG, rel=0.05)


def affine_then(op_type, **attributes):
    """logits = op(x w), where w is such that some of x w is exactly 0 or tied."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="gemm"),
        helper.make_node(op_type, ["h"], ["y"], name="kinked", **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "kinked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [
            numpy_helper.from_array(np.array([[1, -1, 2], [1, 1, 0.5]], np.float32), "w"),
            numpy_helper.from_array(np.array([-2, 0, 0.25], np.float32), "b"),
        ],
    )
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


X, Y = np.array([[1, 1], [2, 0]], np.float32), np.ones((2, 3), np.float32)


def test_an_element_on_a_kink_is_said_to_be():
    """Both examples give exactly 0 for the first class, one for the second."""
    report = certify(affine_then("Relu"), X, Y, "mse", samples=6)
    kinks = {entry.element for weight in report.weights for entry in weight.entries if entry.kink}
    assert kinks == {(0, 0), (1, 0), (0, 1), (1, 1), (0,), (1,), None}
    assert "on a kink" in str(report)
    w = report.weights[0]
    assert all(not entry.kink and entry.error < 1e-5 for entry in w.entries if entry.element in ((0, 2), (1, 2)))
    assert report.ok


def test_a_smooth_function_has_no_kinks_there():
    report = certify(affine_then("Sigmoid"), X, Y, "mse", samples=6)
    assert report.ok and not any(weight.kinks for weight in report.weights)


def test_a_wrong_rule_is_no_kink(monkeypatch):
    net = affine_then("Relu")
    spoil(monkeypatch, net, "kinked", [np.float32, np.float64])
    report = certify(net, X, Y, "mse", samples=6)
    assert not report.ok
    smooth = [e for weight in report.weights for e in weight.entries if e.element and e.element[-1] == 2]
    assert len(smooth) == 3
    assert not any(entry.kink for entry in smooth)
    assert all(entry.rule_error == pytest.approx(WRONG, rel=0.5) for entry in smooth)


def test_a_loss_that_is_not_finite(net, batch):
    x, y = batch
    with pytest.raises(TrainingError, match="finite"):
        certify(net, np.full_like(x, np.inf), y)


@pytest.mark.parametrize("options", [{"samples": 0}, {"tolerance": 0}, {"seed": -1}, {"batchnorm": "melted"}])
def test_bad_options(net, batch, options):
    with pytest.raises(ValueRangeError):
        certify(net, *batch, **options)


def test_the_command(net, batch, tmp_path, capsys, monkeypatch):
    path = tmp_path / "net.onnx"
    net.save(path)
    np.save(tmp_path / "x.npy", batch[0])
    np.save(tmp_path / "y.npy", batch[1])
    given = ["--inputs", str(tmp_path / "x.npy"), "--targets", str(tmp_path / "y.npy")]
    for arguments in ([], given, ["--loss", "mse", "--batchnorm", "frozen", "--samples", "1"]):
        assert cli.main(["certify", str(path), "--no-progress", *arguments]) == 0
        out, err = capsys.readouterr()
        assert "gradients against finite differences of the loss in float64" in out and not err
    spoil(monkeypatch, net, net.nodes[-2].name, [np.float32])
    assert cli.main(["certify", str(path), "--no-progress"]) == 1
    assert "FAILED" in capsys.readouterr().out
