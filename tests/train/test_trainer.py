"""One step: what it computes, what it leaves alone, what it refuses."""

import threading
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from benchmark import networks
from onnx import TensorProto, helper

from cconv.errors import DTypeError, ShapeError, TrainingError, UnsupportedOpError, ValueRangeError
from cconv.model import load
from cconv.train import registry
from cconv.train.losses import CrossEntropy
from cconv.train.optim import SGD, Adam
from cconv.train.trainer import Trainer
from networks import CLASSES, HIDDEN, changed, convolutional, copies, examples, images, perceptron, same


def state_of(trainer: Trainer) -> dict[str, np.ndarray]:
    """All that a step may change."""
    result = copies(trainer.model.weights)
    for slot, arrays in trainer.state.slots.items():
        result.update((f"{slot}:{name}", array.copy()) for name, array in arrays.items())
    return {**result, "steps": trainer.state.steps.copy()}


def test_steps_of_a_convolutional_network_equal_pytorch():
    """Losses of 20 steps to 1e-5, and the running statistics after them."""
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    model = convolutional()
    trainer = Trainer(model, optimizer=SGD(0.05, momentum=0.9))
    w = {name: torch.tensor(array.copy()) for name, array in model.weights.items()}
    trained = [w[name].requires_grad_() for name in trainer.trained]
    assert len(trained) == 7
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
    x, y = images(60)
    for i in range(20):
        batch = slice(2 * i, 2 * i + 9)
        loss = trainer.step(x[batch], y[batch])
        h = F.conv2d(torch.tensor(x[batch]), w["conv1.weight"], padding=1)
        # ONNX keeps a share of 0.9 of the running mean, which PyTorch calls momentum 0.1.
        h = F.batch_norm(h, w["bn.mean"], w["bn.var"], w["bn.scale"], w["bn.bias"], True, 0.1, 1e-5)
        h = F.max_pool2d(torch.relu(h), 2)
        h = torch.relu(F.conv2d(h, w["conv2.weight"], w["conv2.bias"]))
        expected = F.cross_entropy(h.flatten(1) @ w["head.weight"].T + w["head.bias"], torch.tensor(y[batch]))
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        assert loss == pytest.approx(expected.item(), rel=1e-5), i
    assert np.allclose(model.weights["bn.mean"], w["bn.mean"].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_equal_bits_at_any_number_of_threads(clip):
    results = []
    for threads in (1, 2, 3):
        trainer = Trainer(
            convolutional(), optimizer=Adam(0.01), threads=threads, max_gradient_norm=clip, batchnorm="batch"
        )
        losses = [trainer.step(*images(11, seed)) for seed in range(5)]
        results.append((losses, state_of(trainer)))
    for losses, state in results[1:]:
        assert losses == results[0][0]
        assert same(state, results[0][1])


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
def test_whole_networks_have_equal_bits_at_any_number_of_threads(name):
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((3, 3, 64, 64), np.float32), rng.integers(0, 10, 3)) for _ in range(3)]
    results = []
    for threads in (1, 2, 3, 8):
        trainer = Trainer(networks.build(name, size=64, classes=10), optimizer=SGD(0.01, momentum=0.9), threads=threads)
        results.append(([trainer.step(x, y) for x, y in batches], state_of(trainer)))
    for losses, state in results[1:]:
        assert losses == results[0][0]
        assert same(state, results[0][1])


def test_gradients_change_nothing_and_are_what_a_step_follows():
    trainer = Trainer(convolutional(), optimizer=SGD(0.5))
    x, y = images()
    before = state_of(trainer)
    loss, gradients = trainer.gradients(x, y)
    assert same(state_of(trainer), before)
    assert set(gradients) == set(trainer.trained)
    kept = copies(gradients)
    assert trainer.step(x, y) == loss
    assert same(gradients, kept)  # copies, not the plan's memory
    for name, gradient in gradients.items():
        expected = before[name] - np.float32(0.5) * gradient
        assert np.allclose(trainer.model.weights[name], expected, rtol=1e-6, atol=1e-7)
    assert not np.array_equal(trainer.model.weights["bn.mean"], before["bn.mean"])


def test_clipping_bounds_the_norm_of_the_step():
    trainer = Trainer(perceptron(), optimizer=SGD(1.0), max_gradient_norm=0.01)
    before = copies(trainer.model.weights)
    _, gradients = trainer.gradients(*examples())
    assert np.sqrt(sum(np.sum(g.astype(float) ** 2) for g in gradients.values())) > 0.1
    trainer.step(*examples())
    moved = [before[name].astype(float) - array for name, array in trainer.model.weights.items()]
    # Differences of weights near 1 in float32 are good to 1e-7 each.
    assert np.sqrt(sum(np.sum(m**2) for m in moved)) == pytest.approx(0.01, rel=1e-3)


def test_batches_of_any_size_share_the_optimizer_state():
    """Twenty sizes, more than plans are kept, against one plan built anew for each step."""
    one, many = Trainer(perceptron(), optimizer=SGD(0.1, 0.9)), Trainer(perceptron(), optimizer=SGD(0.1, 0.9))
    for size in [5, 6, 7, 8, 9, 10, 5, 1, 2, 5]:
        x, y = examples(size)
        many._network.plans.clear()
        assert one.step(x, y) == many.step(x, y)
        assert len(one._network.plans) <= 4
    assert same(state_of(one), state_of(many))


def test_weights_changed_by_hand_are_seen():
    trainer = Trainer(convolutional(), trainable="head.*", batchnorm="frozen")
    x, y = images()
    first = trainer.gradients(x, y)[0]
    trainer.model.weights["conv1.weight"][...] = 0
    assert trainer.gradients(x, y)[0] != first


# What is trained.


def test_trainable():
    model = perceptron()
    everything = ("first.weight", "first.bias", "second.weight", "second.bias")
    assert Trainer(model).trained == everything
    assert Trainer(model, trainable="second.*").trained == everything[2:]
    assert Trainer(model, trainable=["second.bias", "first.b*"]).trained == ("first.bias", "second.bias")
    assert Trainer(model, trainable=lambda name: "weight" in name).trained == everything[::2]
    with pytest.raises(TrainingError, match=r"'secnd.weight'.*no match.*Closest: 'second.weight'"):
        Trainer(model, trainable=["first.*", "secnd.weight"])
    with pytest.raises(TrainingError, match="at least one weight; found none"):
        Trainer(model, trainable=lambda name: False)
    with pytest.raises(TrainingError, match="at least one weight"):
        Trainer(model, trainable=[])


def test_running_statistics_are_no_weights_to_train():
    model = convolutional()
    assert not {"bn.mean", "bn.var"} & set(Trainer(model).trained)
    with pytest.raises(TrainingError, match=r"'bn\.mean'.*running statistics"):
        Trainer(model, trainable="bn.mean")


def test_weights_behind_the_trained_output_are_left_out():
    model = perceptron(outputs=("logits", "hidden"))
    assert Trainer(model, loss={"hidden": "mse"}).trained == ("first.weight", "first.bias")
    with pytest.raises(TrainingError, match=r"'second\.bias'.*the loss does not depend on it"):
        Trainer(model, loss={"hidden": "mse"}, trainable="second.bias")


@pytest.mark.parametrize("mode", ["batch", "frozen", "statistics"])
@pytest.mark.parametrize("per_layer", [False, True])
def test_batchnorm_modes(mode, per_layer):
    trainer = Trainer(convolutional(), batchnorm={"b*": mode} if per_layer else mode)
    before = copies(trainer.model.weights)
    trainer.step(*images())
    expected = {"conv1.weight", "conv2.weight", "conv2.bias", "head.weight", "head.bias"}
    expected |= {"bn.mean", "bn.var"} if mode != "frozen" else set()
    expected |= {"bn.scale", "bn.bias"} if mode != "statistics" else set()
    assert changed(before, trainer.model.weights) == expected


def test_batchnorm_options_are_checked():
    with pytest.raises(ValueRangeError, match="'batch', 'frozen', 'statistics'; found 'train'"):
        Trainer(convolutional(), batchnorm="train")
    with pytest.raises(ValueRangeError, match=r"'nb'.*no match.*Closest: 'bn'"):
        Trainer(convolutional(), batchnorm={"nb": "frozen"})
    assert Trainer(convolutional(), batchnorm={"bn": "frozen", "*": "batch"}).batchnorm == {"bn": "frozen"}


def test_two_outputs_add_their_losses():
    model = perceptron(outputs=("logits", "hidden"))
    x, y = examples()
    values = np.zeros((len(x), HIDDEN), np.float32)
    losses = {"logits": "cross_entropy", "hidden": "mse"}
    both = Trainer(model, loss=losses).gradients({"x": x}, {"logits": y, "hidden": values})
    one = Trainer(model, loss={"logits": "cross_entropy"}).gradients(x, y)
    other = Trainer(model, loss={"hidden": "mse"}).gradients(x, values)
    assert both[0] == pytest.approx(one[0] + other[0], rel=1e-12)
    expected = one[1]["first.weight"] + other[1]["first.weight"]
    assert np.allclose(both[1]["first.weight"], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(TrainingError, match="several outputs"):
        Trainer(model)
    with pytest.raises(ShapeError, match="'logits', 'hidden'; found one ndarray"):
        Trainer(model, loss=losses).step(x, y)
    with pytest.raises(ShapeError, match=r"y.*no 'hidden'"):
        Trainer(model, loss=losses).step(x, {"logits": y})


# What is refused, and that nothing has changed then.


def refused(trainer, x, y, error, *words):
    before = state_of(trainer)
    for word in words:
        with pytest.raises(error, match=word):
            trainer.step(x, y)
    assert same(state_of(trainer), before)
    trainer.step(*examples())  # still of use


@pytest.mark.parametrize("check_inputs", [False, True])
def test_bad_batches(check_inputs):
    """After a batch that was good, too, whose like is not checked again."""
    trainer = Trainer(perceptron(), check_inputs=check_inputs)
    x, y = examples()
    refused(trainer, x[:, :5], y, ShapeError, "input 'x'", r"\(N, 6\)", "5 on axis 1")
    refused(trainer, x[0], y[:1], ShapeError, r"\(N, 6\); found 1 axes, shape \(6,\)", r"x\[None\]")
    refused(trainer, x, y[:-1], ShapeError, "x and y hold as many", "37 in x 'x', 36 in y 'logits'")
    refused(trainer, x[:0], y[:0], ShapeError, "at least one example")
    refused(trainer, x.astype(complex), y, DTypeError, "input 'x'.*float32.*complex128")
    refused(trainer, x.astype(str), y, DTypeError, "float32")
    refused(trainer, x.astype(float) * 1e300, y, ValueRangeError, "float64 is converted to float32")
    refused(trainer, (x * 1e9).astype(np.int64), y, ValueRangeError, "int64.*float32")
    refused(trainer, {"z": x}, y, ShapeError, "no 'x'")
    refused(trainer, {"x": x, "xx": x}, y, ShapeError, "nothing else; found 'xx'.*Closest: 'x'")
    refused(trainer, x, y + 0.5, DTypeError, "target of 'logits'", "integers")
    refused(trainer, x, y + 1, ValueRangeError, r"0\.\.3 \(4 classes\)", r"4 at \[\d+\]")
    bad = x.copy()
    bad[3, 2] = np.nan
    error, words = (ValueRangeError, "input 'x'.*finite.*nan at \\[3, 2\\]") if check_inputs else (TrainingError, "nan")
    refused(trainer, bad, y, error, words)


def test_a_loss_of_ones_own_sees_every_target():
    """Unlike cconv's, whose steps look at the values: nothing is known of what this one refuses."""

    @dataclass(frozen=True)
    class Even(CrossEntropy):
        name: ClassVar[str] = "even"

        def check_target(self, output, target, place):
            if (target % 2).any():
                raise ValueRangeError("odd")
            return super().check_target(output, target, place)

    registry.register("loss", Even)
    trainer = Trainer(perceptron(), loss=Even())
    x, y = examples()
    for _ in range(2):
        trainer.step(x, y // 2 * 2)
        with pytest.raises(ValueRangeError, match="odd"):
            trainer.step(x, y)


def test_a_batch_like_the_last_one_is_trained_on_alike():
    """Whether it is given as an array, which is checked once, or by name, which is checked every time."""
    results = []
    for by_name in (False, True):
        trainer = Trainer(convolutional(), optimizer=Adam(0.01))
        x, y = images(60)
        for i in range(6):
            part = slice(9 * i, 9 * i + (9 if i < 5 else 5))
            trainer.step(*(({"x": x[part]}, {"logits": y[part]}) if by_name else (x[part], y[part])))
            if i % 2:  # a plan of another kind comes between
                trainer.evaluate((x[:9], y[:9]), 9)
        results.append(state_of(trainer))
    assert same(*results)


def test_what_converts_is_converted():
    x, y = examples()
    whole = np.round(x * 10)
    reference = Trainer(perceptron()).gradients(whole, y)[0]
    for dtype in (np.float64, np.float16, np.int8, np.int64):
        assert Trainer(perceptron()).gradients(whole.astype(dtype), y.astype(np.uint8))[0] == reference
    assert Trainer(perceptron()).gradients(whole.tolist(), y.tolist())[0] == reference


def test_a_fixed_batch_size():
    trainer = Trainer(perceptron(batch=5))
    x, y = examples(5)
    trainer.step(x, y)
    with pytest.raises(ShapeError, match=r"4 on axis 0.*batch size is fixed"):
        trainer.step(x[:4], y[:4])


def test_a_loss_that_is_not_finite_changes_nothing():
    trainer = Trainer(convolutional(), optimizer=SGD(0.25, momentum=0.9))
    x, y = images()
    trainer.step(x, y)
    trainer.step(x, y)
    before = state_of(trainer)
    bad = x.copy()
    bad[0, 0, 3, 3] = np.inf
    words = ("step 3", "learning rate 0.25", "a loss of nan", "max_gradient_norm", "as before this step")
    for word in words:
        with pytest.raises(TrainingError, match=word):
            trainer.step(bad, y)
    with pytest.raises(TrainingError, match=r"step 3: .*nan"):
        trainer.gradients(bad, y)
    assert same(state_of(trainer), before)
    trainer.step(x, y)
    assert trainer.steps == 3


@pytest.mark.parametrize("mode", ["batch", "statistics"])
def test_a_batch_whose_variance_overflows_changes_nothing(mode):
    """The loss stays finite, as the normalised values of an infinite variance are 0."""
    trainer = Trainer(convolutional(), optimizer=SGD(0.1, momentum=0.9), batchnorm=mode)
    x, y = images(8)
    trainer.step(x, y)
    before = state_of(trainer)
    with pytest.raises(TrainingError, match=r"(?s)step 2 .*node '.*bn.*mean and variance.*finite.*as before this step"):
        trainer.step(x * np.float32(1e20), y)
    assert same(state_of(trainer), before)
    trainer.step(x, y)
    assert trainer.steps == 2


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_changes_nothing(max_norm):
    """The loss fits float32 but its gradient by a weight does not: sums of 37 products near 1e38."""
    model = perceptron()
    trainer = Trainer(model, loss="mse", optimizer=SGD(0.1), max_gradient_norm=max_norm)
    x, _ = examples()
    y = np.full((37, CLASSES), 1e37, np.float32)
    before = state_of(trainer)
    with pytest.raises(TrainingError, match="whose gradient is not"):
        trainer.step(x * 1e3, y)
    assert same(state_of(trainer), before)


def test_unsupported_operators_are_all_named():
    nodes = [
        helper.make_node("Mystery", ["x", "w"], ["a"], name="first", domain="elsewhere"),
        helper.make_node("Riddle", ["a"], ["y"], name="second", domain="elsewhere"),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2])
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], [weight])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    proto = helper.make_model(graph, opset_imports=opsets)
    proto.ir_version = 9
    with pytest.raises(UnsupportedOpError, match=r"(?s)Mystery at 'first'.*Riddle at 'second'"):
        Trainer(load(proto))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"threads": 0}, "threads"),
        ({"max_gradient_norm": 0}, "max_gradient_norm is a finite number > 0; found 0"),
        ({"max_gradient_norm": np.inf}, "max_gradient_norm"),
        ({"optimizer": "sgd"}, "optimizer.*SGD"),
        ({"loss": "hinge"}, "'hinge'"),
        ({"loss": CrossEntropy([1, 2, 3])}, None),
    ],
)
def test_options_are_checked(options, words):
    if words is None:  # only a batch tells how many classes there are
        with pytest.raises(ShapeError, match="4 classes; found 3"):
            Trainer(perceptron(), **options).step(*examples())
        return
    with pytest.raises(ValueRangeError, match=words):
        Trainer(perceptron(), **options)


def test_plan_bytes():
    trainer = Trainer(convolutional())
    small, large = trainer.plan_bytes(1), trainer.plan_bytes(64)
    # At least the input and the first feature map of 64 images.
    assert large > 64 * (2 + 5) * 64 * 4 > small
    assert trainer.plan_bytes({"x": (64, 2, 8, 8)}) == large
    assert trainer.steps == 0
    with pytest.raises(ShapeError, match="9 on axis 2"):
        trainer.plan_bytes({"x": (64, 2, 9, 8)})
    with pytest.raises(ValueRangeError, match="number of examples"):
        trainer.plan_bytes(0)


# Threads.


def test_a_trainer_in_use_by_another_thread_refuses():
    trainer = Trainer(perceptron())
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with trainer._exclusive:
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert inside.wait(30)
        for use in (trainer.step, trainer.gradients):
            with pytest.raises(TrainingError, match="one thread at a time"):
                use(*examples())
        for use in (lambda: trainer.evaluate(examples()), lambda: trainer.fit(examples(), 1)):
            with pytest.raises(TrainingError, match="one thread at a time"):
                use()
    finally:
        leave.set()
        thread.join()
    trainer.step(*examples())


def test_two_trainers_in_two_threads():
    alone = Trainer(convolutional(), threads=2)
    expected = [alone.step(*images(9, seed)) for seed in range(10)]
    found = {}

    def work(key):
        trainer = Trainer(convolutional(), threads=2)
        found[key] = [trainer.step(*images(9, seed)) for seed in range(10)]

    threads = [threading.Thread(target=work, args=(key,)) for key in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: expected, 1: expected}


def test_two_metrics_of_one_column_are_refused():
    with pytest.raises(ValueRangeError, match="a column of its own; found 'accuracy' twice"):
        Trainer(perceptron(), metrics=["accuracy", "accuracy"])
