"""The registry: names in Trainer and checkpoints, and classes of the user's own."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from cconv.errors import CheckpointError, ValueRangeError
from cconv.optim import SGD, Constant
from cconv.train import registry
from cconv.train.metrics import Ratio
from cconv.train.trainer import Trainer
from networks import examples, perceptron


@pytest.fixture
def cleared(monkeypatch):
    """Classes that a test registers are forgotten after it."""
    monkeypatch.setattr(registry, "_registry", {kind: dict(known) for kind, known in registry._registry.items()})


@dataclass(frozen=True)
class Halving:
    """A schedule of the user's own."""

    lr: float
    marks: tuple[int, ...] = field(default_factory=tuple)

    name: ClassVar[str] = "halving"

    def rate(self, step, total):
        return self.lr / 2 ** sum(step >= mark for mark in self.marks)


@dataclass(frozen=True)
class Confidence:
    """A metric of the user's own: the mean of the largest output."""

    name: ClassVar[str] = "confidence"

    def accumulator(self):
        return Ratio(lambda output, target: (float(output.max(axis=1).sum()), len(output)))


def test_names_stand_for_default_options():
    trainer = Trainer(perceptron(), loss="cross_entropy", optimizer=SGD(0.1), metrics="accuracy")
    assert [metric.name for metric in trainer.metrics["logits"]] == ["accuracy"]
    assert Trainer(perceptron(), optimizer="adamw").optimizer == registry.find("optimizer", "adamw")()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"optimizer": "addam"}, "Closest: 'adam'"),
        ({"optimizer": "cosine"}, "optimizer: is one of"),
        ({"optimizer": "sgd"}, r"'sgd' needs lr; found a name alone. Give SGD\(lr=...\)"),
        ({"loss": "cross-entropy"}, "Closest: 'cross_entropy'"),
        ({"metrics": "acuracy"}, "Closest: 'accuracy'"),
    ],
)
def test_names_that_are_not_known(options, words):
    with pytest.raises(ValueRangeError, match=words):
        Trainer(perceptron(), **options)


def test_what_no_checkpoint_can_hold_is_refused_when_the_trainer_is_made():
    with pytest.raises(ValueRangeError, match=r"registry\.register"):
        Trainer(perceptron(), optimizer=SGD(Halving(0.1)))
    with pytest.raises(ValueRangeError, match=r"Register your own class.*'metric', Confidence"):
        Trainer(perceptron(), metrics=[Confidence()])


def test_registered_classes_are_saved_and_resumed(cleared, tmp_path):
    registry.register("schedule", Halving)
    registry.register("metric", Confidence)
    trainer = Trainer(perceptron(), optimizer=SGD(Halving(0.4, (2, 3))), metrics=["confidence", "accuracy"])
    trainer.fit(examples(), 2, progress=False)
    assert trainer.history[-1]["confidence"] > 0
    trainer.save(tmp_path / "run.ckpt")
    resumed = Trainer.resume(tmp_path / "run.ckpt")
    assert resumed.optimizer == trainer.optimizer and resumed.learning_rate == 0.1
    assert resumed.metrics == trainer.metrics


def test_a_checkpoint_with_a_class_that_is_not_registered_here(cleared, tmp_path, monkeypatch):
    registry.register("schedule", Halving)
    Trainer(perceptron(), optimizer=SGD(Halving(0.4))).save(tmp_path / "run.ckpt")
    del registry._registry["schedule"]["halving"]
    with pytest.raises(CheckpointError, match=r"schedule: is one of .*'halving'"):
        Trainer.resume(tmp_path / "run.ckpt")


class Plain:
    name = "plain"


@dataclass
class Unnamed:
    x: int = 0


@dataclass
class Taken:
    name: ClassVar[str] = "constant"


@pytest.mark.parametrize(
    "kind, entry, words",
    [
        ("schedules", Halving, "kind is one of"),
        ("schedule", Plain, "is a dataclass"),
        ("schedule", Unnamed, "with an attribute `name`"),
        ("schedule", Taken, "is not taken; found 'constant'"),
    ],
)
def test_what_can_be_registered(cleared, kind, entry, words):
    with pytest.raises(ValueRangeError, match=words):
        registry.register(kind, entry)


def test_numpy_numbers_stand_in_a_record():
    item = Constant(np.float32(0.5))
    record = registry.described("schedule", item, "place")
    assert record == {"kind": "schedule", "name": "constant", "lr": 0.5}
    assert type(record["lr"]) is float
