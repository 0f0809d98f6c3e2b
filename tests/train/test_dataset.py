"""Datasets, samplers, transforms and loaders of the user's own, and what `fit` does with them."""

import numpy as np
import pytest

from cconv.errors import DTypeError, ShapeError, TrainingError
from cconv.train.dataset import Arrays, Batches, Dataset, Field, InOrder, Loader, Shuffled, loader_of, shuffled
from cconv.train.trainer import Trainer
from networks import CLASSES, FEATURES, examples, perceptron


class Drawn:
    """A dataset that draws its examples when they are taken, and counts how often."""

    def __init__(self, count=37, deterministic=True):
        self.x, self._y = examples(count)
        self.deterministic, self.taken = deterministic, 0

    @property
    def fields(self):
        return Field((FEATURES,), np.dtype(np.float32)), Field((), np.dtype(np.int64))

    def __len__(self):
        return len(self.x)

    def take(self, indices):
        self.taken += 1
        return self.x[indices], self._y[indices]


class Noise:
    """A transform whose random numbers follow from (seed, epoch, index)."""

    deterministic = False

    def __call__(self, x, y, indices, seed, epoch):
        noise = [
            np.random.Generator(np.random.Philox(key=[seed, epoch * 1000 + i])).normal(size=FEATURES) for i in indices
        ]
        return x + np.array(noise, np.float32), y


class Backwards:
    def order(self, length, seed, epoch):
        return np.arange(length)[::-1]


def losses(train, epochs=3, **options):
    trainer = Trainer(perceptron(), seed=5)
    trainer.fit(train, epochs, progress=False, **options)
    return trainer.history["loss"]


def test_a_dataset_trains_as_its_arrays():
    drawn = Drawn()
    assert isinstance(drawn, Dataset) and not isinstance(drawn, Loader)
    assert losses(drawn) == losses(examples())
    assert losses(Batches(drawn)) == losses(Arrays(*examples()))


def test_no_example_is_drawn_to_learn_shapes():
    drawn = Drawn()
    trainer = Trainer(perceptron())
    trainer.fit(drawn, 1, batch_size=8, progress=False)
    assert drawn.taken == 5  # 37 examples


def test_a_sampler_decides_the_order():
    assert [list(order) for order in (InOrder().order(3, 0, 0), Backwards().order(3, 0, 0))] == [[0, 1, 2], [2, 1, 0]]
    first, second = (Shuffled().order(50, 1, epoch) for epoch in (0, 1))
    assert sorted(first) == list(range(50)) and list(first) != list(second)
    assert np.array_equal(first, shuffled(50, 1, 0))
    x, y = examples()
    batches = list(Batches(Arrays(x, y), sampler=Backwards()).batches(10))
    assert np.array_equal(np.concatenate([batch for batch, _ in batches]), x[::-1])
    assert losses(Batches(Arrays(x, y), sampler=Backwards())) == losses((x[::-1], y[::-1]), shuffle=False)


def test_a_transform_repeats_for_the_same_seed_and_epoch_alone():
    loader = Batches(Drawn(), transform=Noise())
    batch = [next(loader.batches(4, seed=1, epoch=epoch))[0] for epoch in (0, 0, 1)]
    assert np.array_equal(batch[0], batch[1]) and not np.array_equal(batch[0], batch[2])
    assert not loader.deterministic and loader.fields is None
    assert losses(Batches(Drawn(), transform=Noise())) == losses(Batches(Drawn(), transform=Noise()))
    # Example i is the same in whatever batch it comes.
    whole = next(loader.batches(37, shuffle=False, seed=1, epoch=2))[0]
    parts = np.concatenate([x for x, _ in loader.batches(5, shuffle=False, seed=1, epoch=2)])
    assert np.array_equal(whole, parts)


def test_a_resumed_run_draws_what_it_would_have_drawn(tmp_path):
    whole = Trainer(perceptron(), seed=5)
    whole.fit(Batches(Drawn(), transform=Noise()), 4, progress=False)
    part = Trainer(perceptron(), seed=5)
    part.fit(Batches(Drawn(), transform=Noise()), 2, progress=False)
    part.save(tmp_path / "run.ckpt")
    resumed = Trainer.resume(tmp_path / "run.ckpt")
    resumed.fit(Batches(Drawn(), transform=Noise()), 2, progress=False)
    assert resumed.history["loss"] == whole.history["loss"]


@pytest.mark.parametrize("deterministic, kept", [(True, True), (False, False)])
def test_only_examples_that_repeat_are_kept_behind_frozen_layers(deterministic, kept, capsys):
    dataset = Drawn(deterministic=deterministic)
    dataset.y = dataset._y
    Trainer(perceptron(), trainable="second.*").fit(dataset, 3)
    assert ("computed once for each example" in capsys.readouterr().err) == kept


class Torch:
    __module__ = "torch.utils.data.dataloader"

    def __len__(self):
        return 3


@pytest.mark.parametrize(
    "train, error, words",
    [
        (examples()[0], TrainingError, r"fit\(\(x, y\), epochs=...\)"),
        ({"x": 1}, TrainingError, r"fit\(\(x, y\)"),
        ((batch for batch in [examples()]), TrainingError, r"write a class with __len__ and batches\(batch_size"),
        (lambda: examples(), TrainingError, "write a class with __len__"),
        (Torch(), TrainingError, r"np\.concatenate.*fit\(\(x, y\), epochs=...\)"),
        (([], []), ShapeError, "at least one example"),
        (
            (np.zeros((3, FEATURES)), np.array(["a", "b", "a"])),
            DTypeError,
            r"np\.unique\(labels, return_inverse=True\)",
        ),
        ((np.zeros((3, FEATURES)), np.zeros(2)), ShapeError, "3 in x, 2 in y"),
    ],
    ids=["one array", "dict", "generator", "function", "torch", "empty", "string labels", "lengths"],
)
def test_data_of_another_kind_gets_the_line_to_write(train, error, words):
    with pytest.raises(error, match=words):
        Trainer(perceptron()).fit(train, epochs=1)


def test_x_and_y_as_two_arguments():
    with pytest.raises(TrainingError, match=r"Write fit\(\(x, y\), epochs=...\)"):
        Trainer(perceptron()).fit(*examples())


def test_numbered_string_labels_train():
    x, y = examples()
    names, numbers = np.unique(np.array([f"class {i}" for i in y]), return_inverse=True)
    assert len(names) == CLASSES and losses((x, numbers)) == losses((x, y))


def test_a_loader_is_returned_as_it_is():
    arrays = Arrays(*examples())
    assert loader_of(arrays, "train") is arrays
