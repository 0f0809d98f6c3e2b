"""Losses through a plan against PyTorch and against float64; targets refused by name."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from cconv.errors import DTypeError, ShapeError, TrainingError, ValueRangeError
from cconv.model import Model
from cconv.ops.tensor import Spec
from cconv.plan.plan import training_plan
from cconv.train.losses import CrossEntropy, MeanSquaredError
from cconv.train.losses_by_output import loss_of, losses_by_output

SHAPES = [(6, 5), (1, 3), (4, 7, 9), (2, 3, 5, 4), (2, 5, 2, 3, 4)]


def loss_and_gradient(loss, x, y, dtype=np.float32, threads=1):
    """The loss of y = Relu(w) with w > 0, that is of w itself, and its gradient."""
    shape = list(x.shape)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["w"], ["y"], name="relu")],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor("w", TensorProto.FLOAT, shape, x.astype(np.float32).ravel())],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model = Model(ir.from_proto(proto))
    weights = {name: array.astype(dtype) for name, array in model.weights.items()}
    weights["w"][...] = x
    plan = training_plan(model.nodes, {}, {"y": loss}, weights, {}, ["w"], dtype=dtype, threads=threads)
    plan.targets["y"][...] = y
    plan.run(until="update")
    return float(plan.control["loss"][0]), plan.gradients["w"].copy()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_equals_pytorch(shape, weighted, smoothing, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 4, shape).astype(dtype)
    y = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    y[..., ::4] = 1 if y.size < 3 else -7  # ignored
    weights = rng.uniform(0.2, 2, shape[1]).astype(np.float32) if weighted else None
    ours = loss_and_gradient(CrossEntropy(weights, smoothing, ignore_index=-7), x, y, dtype)
    logits = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.CrossEntropyLoss(
        weight=None if weights is None else torch.tensor(weights.astype(dtype)),
        label_smoothing=smoothing,
        ignore_index=-7,
    )(logits, torch.tensor(y))
    theirs.backward()
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    assert abs(ours[0] - theirs.item()) <= tolerance * abs(theirs.item())
    assert np.max(np.abs(ours[1] - logits.grad.numpy())) <= tolerance


@pytest.mark.parametrize("shape", [(7,), (6, 5), (2, 3, 5, 4)], ids=str)
def test_mean_squared_error_equals_pytorch(shape):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.1, 4, shape).astype(np.float32), rng.standard_normal(shape).astype(np.float32)
    loss, gradient = loss_and_gradient(MeanSquaredError(), x, y)
    values = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.MSELoss()(values, torch.tensor(y))
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-6)
    assert np.max(np.abs(gradient - values.grad.numpy())) <= 1e-6


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_the_derivative(shape):
    """float64: central difference along one direction, good to about 1e-9."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0.5, 4, shape)
    y = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    loss = CrossEntropy(rng.uniform(0.2, 2, shape[1]), 0.1)
    along = rng.standard_normal(shape)
    step = 1e-6
    above, below = (loss_and_gradient(loss, x + s * along, y, np.float64)[0] for s in (step, -step))
    exact = np.sum(loss_and_gradient(loss, x, y, np.float64)[1] * along)
    assert (above - below) / (2 * step) == pytest.approx(exact, rel=1e-7, abs=1e-9)


def test_equal_bits_at_any_number_of_threads():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 3, (8, 11, 40, 41)), rng.integers(0, 11, (8, 40, 41))
    loss = CrossEntropy(label_smoothing=0.1)
    one, two, three = (loss_and_gradient(loss, x, y, threads=threads) for threads in (1, 2, 3))
    assert one[0] == two[0] == three[0]
    assert np.array_equal(one[1], two[1])
    assert np.array_equal(one[1], three[1])


def test_all_targets_ignored_is_zero():
    loss, gradient = loss_and_gradient(CrossEntropy(), np.ones((3, 4)), np.full(3, -100))
    assert loss == 0
    assert np.all(gradient == 0)


# What is refused.

OUTPUT = Spec((4, 3), np.dtype(np.float32))


@pytest.mark.parametrize(
    "target, error, words",
    [
        (np.array([0, 1, 3, 0]), ValueRangeError, [r"0\.\.2", "3 classes", "3 at \\[2\\]", "found 3 at \\[2\\]\\."]),
        (np.array([0, -1, 2, -5]), ValueRangeError, [r"-1 at \[1\]", "1 more"]),
        (np.array([0, 1, 2, 2**63], dtype=np.uint64), ValueRangeError, [str(2**63), r"\[3\]"]),
        (np.array([0.0, 1, 2, 0]), DTypeError, ["integers", "float64", "astype"]),
        (np.array(["a", "b", "c", "d"]), DTypeError, ["integers", "<U1"]),
        (np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], DTypeError, ["one-hot", r"argmax\(axis=1\)"]),
        (np.eye(3, dtype=np.int64)[[0, 1, 2, 0]], ShapeError, ["one-hot", r"\(4,\)", r"\(4, 3\)"]),
        (np.zeros((4, 1), int), ShapeError, [r"y\[\.\.\., 0\]"]),
        (np.zeros(5, int), ShapeError, [r"\(4,\)", r"\(5,\)"]),
    ],
)
def test_cross_entropy_refuses(target, error, words):
    for word in words:
        with pytest.raises(error, match=word):
            CrossEntropy().check_target(OUTPUT, target, "target of 'y'")


def test_cross_entropy_takes():
    for target in (np.array([0, 1, 2, -100]), np.array([0, 1, 2, 2], np.uint8), np.array([True] * 4)):
        found = CrossEntropy().check_target(OUTPUT, target, "target")
        assert found.dtype == np.int64
        assert np.array_equal(found, target)
    (accuracy,) = CrossEntropy().metrics()
    assert accuracy.count(np.eye(3)[[0, 1, 2, 0]], np.array([0, 2, -100, 0])) == (2, 3)


def test_position_of_a_bad_pixel():
    target = np.zeros((2, 5, 6), np.int64)
    target[1, 3, 4] = 9
    with pytest.raises(ValueRangeError, match=r"9 at \[1, 3, 4\]"):
        CrossEntropy().check_target(Spec((2, 3, 5, 6), np.dtype(np.float32)), target, "target")


def test_mean_squared_error_refuses():
    with pytest.raises(ShapeError, match=r"\(4, 3\).*\(4,\)"):
        MeanSquaredError().check_target(OUTPUT, np.zeros(4), "target")
    with pytest.raises(DTypeError, match="complex"):
        MeanSquaredError().check_target(OUTPUT, np.zeros((4, 3), complex), "target")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"label_smoothing": 1.5}, "label_smoothing.*1.5"),
        ({"label_smoothing": -0.1}, "label_smoothing.*-0.1"),
        ({"class_weights": [1, -2]}, r"class_weights\[1\].*-2"),
        ({"class_weights": [1, np.nan]}, r"class_weights\[1\].*nan"),
        ({"ignore_index": 0.5}, "ignore_index.*0.5"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueRangeError, match=words):
        CrossEntropy(**options)


def test_class_weights_of_another_number_of_classes():
    with pytest.raises(ShapeError, match="3 classes; found 2"):
        CrossEntropy([1, 2]).target_spec(OUTPUT)
    with pytest.raises(ShapeError, match="logits have axes"):
        CrossEntropy().target_spec(Spec((4,), np.dtype(np.float32)))


def test_loss_of():
    assert loss_of("cross_entropy") == CrossEntropy()
    assert loss_of("mse") == MeanSquaredError()
    with pytest.raises(ValueRangeError, match=r"'cros_entropy'.*Closest: 'cross_entropy'"):
        loss_of("cros_entropy")
    with pytest.raises(ValueRangeError, match="target_spec"):
        loss_of(3)


def test_losses_by_output():
    assert losses_by_output(["a"], "mse") == {"a": MeanSquaredError()}
    assert list(losses_by_output(["a", "b"], {"b": "mse", "a": "mse"})) == ["a", "b"]
    with pytest.raises(TrainingError, match=r"several outputs.*'a', 'b'"):
        losses_by_output(["a", "b"], "mse")
    with pytest.raises(TrainingError, match=r"'logit'.*Closest: 'logits'"):
        losses_by_output(["logits"], {"logit": "mse"})
    with pytest.raises(TrainingError, match="empty"):
        losses_by_output(["a"], {})
