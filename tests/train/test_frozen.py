"""What `fit` keeps of the frozen part: the same bits as without, computed once, and never out of date."""

import weakref

import numpy as np
import pytest
from onnx import TensorProto, helper

from cconv import nn
from cconv.data import Arrays, Batches
from cconv.errors import ShapeError, TrainingError, ValueRangeError
from cconv.train import frozen
from cconv.train.batch import Checked
from cconv.train.callbacks import Callback, EarlyStopping
from cconv.train.optim import SGD, Adam
from cconv.train.trainer import Trainer
from networks import _model, convolutional, copies, examples, images, perceptron, same

HEAD = {"trainable": "head.*", "batchnorm": "frozen"}


@pytest.fixture
def computed(monkeypatch):
    """Sizes of the batches that frozen parts were computed for."""
    sizes = []
    original = frozen.Kept._computed

    def spy(self, inputs):
        sizes.append(len(next(iter(inputs.values()))))
        return original(self, inputs)

    monkeypatch.setattr(frozen.Kept, "_computed", spy)
    return sizes


def run(model, data, epochs=4, cached=True, validation=None, callbacks=(), batch_size=8, shuffle=True, **options):
    """(losses and accuracies, weights and optimizer state) after training."""
    trainer = Trainer(model, **{**HEAD, "optimizer": SGD(0.1, momentum=0.9), "seed": 3, **options})
    history = trainer.fit(data, epochs, validation, batch_size, shuffle, callbacks, progress=False, cache_frozen=cached)
    figures = [history[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")]
    return figures, {**copies(model.weights), **copies(trainer.state.slots.get("momentum", {}))}


def assert_same(a, b):
    assert a[0] == b[0]
    assert same(a[1], b[1])


# The same bits.


@pytest.mark.parametrize("count", [3, 8, 20, 24])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_head(count, shuffle, computed):
    results = [
        run(convolutional(), images(count), cached=cached, validation=images(11, 9), shuffle=shuffle)
        for cached in (True, False)
    ]
    assert_same(*results)
    # Once for each example; and once in a full batch for those of a smaller last one.
    tail = count % 8 if count > 8 and shuffle else 0
    assert sum(computed) == count + 11 + (8 if tail else 0)


def test_as_arrays_as_a_pair_and_by_name():
    x, y = images(20)
    expected = run(convolutional(), (x, y), cached=False)
    for data in ((x, y), Arrays(x, y), Arrays({"x": x}, {"logits": y}), ({"x": x}, {"logits": y}), (x, list(y))):
        assert_same(run(convolutional(), data), expected)
    assert_same(run(convolutional(), (x.astype(np.float64), y)), expected)


def winograd():
    """A tile of Winograd's for each image, too few in a small batch to be worth it, so that the bits are others."""
    net = nn.Sequential(
        nn.Conv2d(2, 64, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    return net.build((2, 4, 4), seed=4)


def test_kernels_that_depend_on_the_size_of_the_batch(computed):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((37, 2, 4, 4)).astype(np.float32), rng.integers(0, 3, 37)
    model = winograd()
    features = [model.run(x[:n])[:5] for n in (16, 5)]
    assert not np.array_equal(*features), "the premise"
    results = [
        run(winograd(), (x, y), cached=cached, trainable="7.*", batch_size=16, validation=(x[:21], y[:21]))
        for cached in (True, False)
    ]
    assert_same(*results)
    # In the last batch of each epoch, and of the first one in a full batch too; validation has one order only.
    assert computed == [16, 16, 5, 16, 16, 5, 5, 5, 5]


def tuned_in_part():
    """x -> Conv, Relu -> [3x3 Conv (frozen) + 1x1 Conv (trained)] -> Relu, MaxPool -> Dropout -> Gemm (trained).

    The shape of the sum is read from two sides, a channels-last value crosses over, dropout is drawn of one.
    """
    rng = np.random.default_rng(5)
    arrays = {
        "w": rng.standard_normal((16, 2, 3, 3)) / 4,
        "b": rng.standard_normal(16) / 4,
        "frozen": rng.standard_normal((16, 16, 3, 3)) / 12,
        "trained.adapter": rng.standard_normal((16, 16, 1, 1)) / 4,
        "ratio": np.array(0.5),
        "trained.head": rng.standard_normal((3, 16 * 16)) / 16,
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w", "b"], ["a"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["r"], name="relu"),
        node("Dropout", ["r", "ratio"], ["dropped"], name="dropout"),
        node("Conv", ["r", "frozen"], ["c"], name="body", pads=[1, 1, 1, 1]),
        node("Conv", ["dropped", "trained.adapter"], ["d"], name="adapter"),
        node("Add", ["c", "d"], ["s"], name="sum"),
        node("Relu", ["s"], ["t"], name="relu2"),
        node("MaxPool", ["t"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], name="flatten"),
        node("Gemm", ["f", "trained.head"], ["logits"], name="head", transB=1),
    ]
    return _model(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        arrays,
    )


@pytest.mark.parametrize("optimizer", [SGD(0.05, momentum=0.9), Adam(0.01)], ids=["sgd", "adam"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_adapter_dropout_and_a_boundary_in_the_layout_of_the_kernels(optimizer, threads, computed):
    results = [
        run(
            tuned_in_part(), images(20), cached=cached, validation=images(9, 7), trainable="trained.*",
            optimizer=optimizer, threads=threads, max_gradient_norm=1.0,
        )
        for cached in (True, False)
    ]  # fmt: skip
    assert_same(*results)
    assert sum(computed) == 20 + 9 + 8


def test_two_inputs_two_outputs_one_of_them_frozen():
    rng = np.random.default_rng(6)
    arrays = {"wa": rng.standard_normal((5, 4)), "wb": rng.standard_normal((3, 4)), "head": rng.standard_normal((4, 2))}
    node = helper.make_node
    nodes = [
        node("Gemm", ["a", "wa"], ["ha"], name="ga"),
        node("Gemm", ["b", "wb"], ["hb"], name="gb"),
        node("Add", ["ha", "hb"], ["s"], name="add"),
        node("Relu", ["s"], ["h"], name="relu"),
        node("Gemm", ["h", "head"], ["y"], name="gh"),
    ]
    value = helper.make_tensor_value_info
    data = (
        {"a": rng.standard_normal((13, 5), np.float32), "b": rng.standard_normal((13, 3), np.float32)},
        {"y": rng.integers(0, 2, 13), "h": rng.standard_normal((13, 4), np.float32)},
    )
    results = []
    for cached in (True, False):
        model = _model(
            nodes,
            [value("a", TensorProto.FLOAT, ["N", 5]), value("b", TensorProto.FLOAT, ["N", 3])],
            [value("y", TensorProto.FLOAT, ["N", 2]), value("h", TensorProto.FLOAT, ["N", 4])],
            arrays,
        )
        losses = {"y": "cross_entropy", "h": "mse"}
        results.append(run(model, data, cached=cached, trainable="head", loss=losses, validation=data, batch_size=5))
    assert_same(*results)


def test_resumed_is_not_interrupted(tmp_path):
    data, validation = images(20), images(9, 9)
    options = {**HEAD, "optimizer": Adam(0.02), "seed": 5}
    once, first = Trainer(convolutional(), **options), Trainer(convolutional(), **options)
    once.fit(data, 5, validation, batch_size=8, progress=False)
    first.fit(data, 2, validation, batch_size=8, progress=False)
    first.save(tmp_path / "run.ckpt")
    resumed = Trainer.resume(tmp_path / "run.ckpt")
    resumed.fit(data, 3, validation, batch_size=8, progress=False)
    assert resumed.history["loss"] == once.history["loss"]
    assert resumed.history["val_loss"] == once.history["val_loss"]
    assert same(copies(resumed.model.weights), copies(once.model.weights))


# Never out of date.


class Each(Callback):
    def __init__(self, act):
        self.act = act

    def on_epoch_end(self, trainer, row):
        self.act(trainer, row)


def other_trainer(trainer, row):
    Trainer(trainer.model, trainable="conv1.*", batchnorm="frozen", optimizer=SGD(0.5)).step(*images(6))


WRITES = {
    "assignment": lambda trainer, row: trainer.model.weights.__setitem__("conv2.bias", np.full(7, row["epoch"])),
    "array": lambda trainer, row: trainer.model.weights["conv1.weight"].__imul__(-1),
    "ir": lambda trainer, row: trainer.model.ir.graph.initializers["bn.mean"].const_value.raw.fill(row["epoch"]),
    "another trainer": other_trainer,
    "nothing": lambda trainer, row: trainer.model.weights["conv1.weight"].sum(),
}


@pytest.mark.parametrize("write", WRITES)
def test_frozen_weights_that_are_written_to_between_epochs(write, computed):
    results = [
        run(convolutional(), images(20), cached=cached, validation=images(9, 9), callbacks=[Each(WRITES[write])])
        for cached in (True, False)
    ]
    assert_same(*results)
    assert sum(computed) == 4 * (20 + 8 + 9)


def test_frozen_weights_that_are_written_to_between_two_fits(computed):
    trainers = [Trainer(convolutional(), **HEAD) for _ in range(2)]
    for trainer, cached in zip(trainers, (True, False)):
        for _ in range(2):
            trainer.fit(images(16), 2, batch_size=8, progress=False, cache_frozen=cached)
            trainer.model.weights["conv1.weight"][...] *= -1
    assert trainers[0].history["loss"] == trainers[1].history["loss"]
    assert sum(computed) == 2 * 16


def test_frozen_weights_that_are_held(capfd, computed):
    model = convolutional()
    held = [model.weights["conv1.weight"]]
    act = Each(lambda trainer, row: held[0].__imul__(-1))
    trainer = Trainer(model, **HEAD)
    trainer.fit(images(20), 3, callbacks=[act])
    assert "anew in every epoch: an array of its weight 'conv1.weight' is held" in capfd.readouterr().err
    assert computed == []
    held.clear()
    # Taken while a fit is under way: from then on nothing is kept any more.
    taken = []
    act = Each(lambda trainer, row: taken or taken.append(trainer.model.weights["conv2.weight"]))
    assert_same(*(run(convolutional(), images(16), cached=cached, callbacks=[act]) for cached in (True, False)))


def test_early_stopping_and_checkpoints_cost_nothing(computed, tmp_path):
    callbacks = [EarlyStopping(50), Each(lambda trainer, row: trainer.save(tmp_path / "run.ckpt"))]
    run(convolutional(), images(16), callbacks=callbacks[:1])
    assert sum(computed) == 16
    computed.clear()
    run(convolutional(), images(16), callbacks=[Each(lambda trainer, row: trainer.model.run(images(3)[0]))])
    assert sum(computed) == 16


def test_labels_that_change_between_epochs_are_seen():
    """Self-training writes to the labels, which the frozen part does not see."""
    results = []
    for cached in (True, False):
        x, y = images(16)
        act = Each(lambda trainer, row, x=x, y=y: y.__setitem__(..., trainer.model.run(x).argmax(axis=1)))
        results.append(run(convolutional(), (x, y), cached=cached, callbacks=[act]))
    assert_same(*results)


# What is kept, and what is said.


def said(capfd, model, data, epochs=2, fit=(), **options):
    Trainer(model, **{**HEAD, **options}).fit(data, epochs, batch_size=8, **dict(fit))
    return [line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if "frozen part" in line]


def test_lines(capfd, computed):
    (line,) = said(capfd, convolutional(), images(20), fit={"validation": images(4)})
    # 28 numbers an example.
    assert line.startswith("The frozen part, 99% of the forward pass, is computed once for each example;")
    assert line.endswith("kept for training and validation: 0.003 MB.")
    (line,) = said(capfd, convolutional(), images(20))
    assert line.endswith("kept for training: 0.002 MB.")
    # Both together would be too much; then training alone is too much.
    limit = {"cache_limit": 20 * 28 * 4, "validation": images(4)}
    (line,) = said(capfd, convolutional(), images(20), fit=limit)
    assert line.endswith("kept for training: 0.002 MB.")
    computed.clear()
    (line,) = said(capfd, convolutional(), images(20), fit={"cache_limit": 20 * 28 * 4 - 1})
    assert line.endswith("computed anew in every epoch: its outputs take 0.002 MB, cache_limit is 0.002 MB.")
    (line,) = said(capfd, perceptron(dropout=0.5), examples(20), trainable="second.*")
    assert "is computed once" in line
    assert computed
    computed.clear()
    (line,) = said(capfd, tuned_in_part(), images(20), trainable="trained.head")
    assert "is computed once" in line and not line.startswith("The frozen part, 100%")
    # Nothing to say: one epoch, nothing frozen, not wanted, no progress shown.
    computed.clear()
    assert said(capfd, convolutional(), images(20), epochs=1) == []
    assert said(capfd, convolutional(), images(20), trainable=None) == []
    assert said(capfd, convolutional(), images(20), fit={"cache_frozen": False}) == []
    assert computed == []
    assert said(capfd, convolutional(), images(20), fit={"progress": False}) == []
    assert computed


def deep(first):
    return nn.Sequential(
        first, nn.Conv2d(2, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 3)
    ).build((2, 8, 8))  # fmt: skip


def test_lines_about_what_cannot_be_kept(capfd, computed):
    (line,) = said(capfd, deep(nn.BatchNorm2d(2)), images(20), trainable="4.*", batchnorm="batch")
    assert "anew in every epoch: batch statistics" in line and "'0.BatchNormalization'" in line
    (line,) = said(capfd, deep(nn.Dropout(0.5)), images(20), trainable="4.*")
    assert "anew in every epoch: dropout at node '0.Dropout' (Dropout)" in line
    assert computed == []
    (line,) = said(capfd, deep(nn.BatchNorm2d(2)), images(20), trainable="4.*")
    assert "is computed once" in line


class Augmented(Arrays):
    """Examples that are others every time; `order`, which it inherits, says otherwise."""

    def batches(self, batch_size, shuffle=False, seed=0, epoch=0):
        for x, y in super().batches(batch_size, shuffle, seed, epoch):
            yield x + np.float32(epoch), y


class Plain:
    """The least that a dataset is."""

    def __init__(self, x, y):
        self.data = Arrays(x, y)

    def __len__(self):
        return len(self.data)

    def batches(self, *args, **options):
        return self.data.batches(*args, **options)


class Says(Plain):
    """A dataset of the user's that says that its examples are the same every time."""

    deterministic = True

    def __init__(self, x, y):
        super().__init__(x, y)
        self.y = self.data.y

    def batches(self, *args, **options):
        return self.data.batches(*args, **options)

    def order(self, shuffle, seed, epoch):
        return self.data.order(shuffle, seed, epoch)

    def take(self, indices):
        return self.data.take(indices)


@pytest.mark.parametrize("kind", [Augmented, Plain])
def test_examples_that_may_differ_are_not_kept(kind, capfd, computed):
    (line,) = said(capfd, convolutional(), kind(*images(20)))
    assert "does not say that its examples are the same every time" in line
    assert_same(*(run(convolutional(), kind(*images(20)), cached=cached) for cached in (True, False)))
    assert computed == []
    # Validation data is no hindrance.
    assert_same(
        *(run(convolutional(), images(16), cached=cached, validation=kind(*images(9, 9))) for cached in (True, False))
    )
    assert sum(computed) == 16


def test_a_dataset_says_that_its_examples_are_the_same():
    def repeats(loader):
        return frozen.can_be_kept(Checked(loader, {}, []))

    x, y = images(20)
    assert repeats(Arrays(x, y)) and repeats(Says(x, y)) and repeats(Batches(Arrays(x, y)))
    assert not repeats(Augmented(x, y)) and not repeats(Plain(x, y))
    assert not repeats(Batches(Augmented(x, y))) and not repeats(Batches(Arrays(x, y), transform=Brighter()))
    assert not repeats(type("Sub", (Says,), {"deterministic": False})(x, y))
    unlabelled = Says(x, y)
    unlabelled.y = None
    assert not repeats(unlabelled)
    assert_same(run(convolutional(), Says(x, y)), run(convolutional(), (x, y), cached=False))


class Brighter:
    """A transform that depends on the epoch."""

    deterministic = False

    def __call__(self, x, y, indices, seed, epoch):
        return x + np.float32(epoch), y


def test_order_is_that_of_the_batches():
    x, y = np.arange(23), np.arange(23)
    for dataset in (Arrays(x, y),):
        for shuffle in (False, True):
            order = dataset.order(shuffle, 3, 2)
            found = np.concatenate([x for x, _ in dataset.batches(5, shuffle=shuffle, seed=3, epoch=2)])
            assert np.array_equal(order, found)
    with pytest.raises(ValueRangeError, match="seed"):
        Arrays(x, y).order(True, -1)


@pytest.mark.parametrize(
    "order, batches, says",
    [
        (lambda n: np.zeros(n, int), None, "holds each index from 0 to 19 once; found 20 others"),
        (lambda n: np.arange(n - 1), None, "holds each index from 0 to 19 once; found 19 others"),
        (None, slice(0, 1), "20 examples, and batches with 8 of them"),
        (None, slice(0, 3, 2), "8 each; found a batch of 4"),
    ],
)
def test_an_order_that_is_not_that_of_the_batches(order, batches, says):
    class Wrong(Says):
        def order(self, *args):
            return order(len(self)) if order else super().order(*args)

        def batches(self, *args, **options):
            found = list(super().batches(*args, **options))
            return iter(found[batches] if batches else found)

    with pytest.raises(TrainingError, match=says):
        run(convolutional(), Wrong(*images(20)))


def test_images_of_several_sizes_one_at_a_time():
    """Batches of one, as such data needs; the head sees a mean of each image."""

    class Sizes(Says):
        def __init__(self, x, y):
            self.x, self.y = x, y

        def __len__(self):
            return len(self.y)

        def order(self, shuffle, seed, epoch):
            return Arrays(self.y, self.y).order(shuffle, seed, epoch)

        def take(self, indices):
            (i,) = indices
            return self.x[i][None], self.y[i : i + 1]

        def batches(self, batch_size, shuffle, seed, epoch):
            assert batch_size == 1
            return (self.take([i]) for i in self.order(shuffle, seed, epoch))

    rng = np.random.default_rng(8)
    x = [rng.standard_normal((2, 8 + i % 3, 9 + i % 2)).astype(np.float32) for i in range(11)]
    results = []
    for cached in (True, False):
        model = winograd()
        for axis in (2, 3):
            model.ir.graph.inputs[0].shape[axis] = None
        model.edited()
        results.append(run(model, Sizes(x, rng.integers(0, 3, 11) * 0), cached=cached, trainable="7.*", batch_size=1))
    assert_same(*results)


def test_the_whole_network_is_not_laid_out(monkeypatch):
    """The memory of a plan for all of it is not taken beside that of its parts, and the frozen part's is given back."""
    plans, alive = [], []
    original = frozen.Kept._plan

    def spy(self, shapes):
        plan = original(self, shapes)
        plans.append(weakref.ref(plan))
        return plan

    monkeypatch.setattr(frozen.Kept, "_plan", spy)

    def count(trainer, row):
        alive.append((len(trainer._network.plans), sum(ref() is not None for ref in plans)))

    act = Each(count)
    Trainer(convolutional(), **HEAD).fit(images(16), 3, images(8), 8, progress=False, callbacks=[act])
    assert alive == [(0, 0)] * 3
    assert len(plans) == 5  # one asked for at first and one for each batch, of both datasets


def test_errors_are_those_of_the_whole_network():
    x, y = images(20)
    with pytest.raises(ValueRangeError, match="cache_limit is a finite number >= 0"):
        Trainer(convolutional(), **HEAD).fit((x, y), 2, cache_limit=-1)
    for cached in (True, False):
        trainer = Trainer(convolutional(), **HEAD)
        with pytest.raises(ShapeError, match="input 'x': the model declares shape"):
            trainer.fit((x[:, :1], y), 2, cache_frozen=cached, progress=False)
        with pytest.raises(ValueRangeError, match="target of 'logits'"):
            trainer.fit((x, y + 3), 2, cache_frozen=cached, progress=False)
        assert trainer.steps == 0
        trainer.fit((x, y), 2, cache_frozen=cached, progress=False)
