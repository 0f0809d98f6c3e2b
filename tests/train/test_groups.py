"""Parameter groups: PyTorch's meaning, names and patterns, checkpoints."""

import numpy as np
import pytest

from cconv.errors import TrainingError, ValueRangeError
from cconv.optim import SGD, AdamW, Cosine, StepDecay
from cconv.train.trainer import Trainer
from networks import examples, perceptron
from train.torch_updates import assert_updates_equal_torch

CASES = {
    "rates": (
        SGD(0.05, momentum=0.9, weight_decay=0.01, groups=[("second.*", {"lr": 0.2}), ("*.bias", {"weight_decay": 0})]),
        "SGD",
        {"momentum": 0.9},
        {
            "first.weight": {"lr": 0.05, "weight_decay": 0.01},
            "first.bias": {"lr": 0.05, "weight_decay": 0},
            "second.weight": {"lr": 0.2, "weight_decay": 0.01},
            "second.bias": {"lr": 0.2, "weight_decay": 0.01},  # the first group that fits counts
        },
    ),
    "other slots": (
        SGD(0.05, groups=[("first.weight", {"momentum": 0.9, "nesterov": True})]),
        "SGD",
        {"lr": 0.05},
        {"first.weight": {"momentum": 0.9, "nesterov": True}, "first.bias": {}, "second.weight": {}, "second.bias": {}},
    ),
    "adamw": (
        AdamW(0.01, groups=[("*.bias", {"weight_decay": 0.0, "betas": (0.8, 0.99)})]),
        "AdamW",
        {"lr": 0.01},
        {
            "first.weight": {},
            "first.bias": {"weight_decay": 0.0, "betas": (0.8, 0.99)},
            "second.weight": {},
            "second.bias": {"weight_decay": 0.0, "betas": (0.8, 0.99)},
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_groups_equal_pytorch(case):
    optimizer, kind, common, options = CASES[case]

    def make(optim, weights):
        groups = [{"params": [weights[name]], **changes} for name, changes in options.items()]
        return getattr(optim, kind)(groups, **common)

    assert_updates_equal_torch(optimizer, make, steps=8)


def test_a_group_has_a_schedule_of_its_own():
    optimizer = SGD(StepDecay(0.1, every=2), groups=[("second.*", {"lr": Cosine(0.4, steps=4)})])
    trainer = Trainer(perceptron(), optimizer=optimizer)
    x, y = examples()
    for t in range(4):
        _, gradients = trainer.gradients(x, y)
        before = {name: array.copy() for name, array in trainer.model.weights.items()}
        trainer.step(x, y)
        rates = {"first": 0.1 * 0.1 ** (t // 2), "second": 0.2 * (1 + np.cos(np.pi * t / 4))}
        for name, gradient in gradients.items():
            moved = before[name] - trainer.model.weights[name]
            assert np.allclose(moved, rates[name.split(".")[0]] * gradient, atol=6e-8), (t, name)


def test_groups_are_saved(tmp_path):
    optimizer, *_ = CASES["other slots"]
    x, y = examples()
    trainer = Trainer(perceptron(), optimizer=optimizer)
    trainer.step(x, y)
    trainer.save(tmp_path / "run.ckpt")
    resumed = Trainer.resume(tmp_path / "run.ckpt")
    assert resumed.optimizer == optimizer
    assert set(resumed.state.slots["momentum"]) == {"first.weight"}
    trainer.step(x, y)
    resumed.step(x, y)
    assert all(np.array_equal(array, resumed.model.weights[name]) for name, array in trainer.model.weights.items())


@pytest.mark.parametrize(
    "groups, error, words",
    [
        ([("head.*", {"lr": 1})], TrainingError, r"group 'head\.\*'.*no match"),
        ([("first.wieght", {"lr": 1})], TrainingError, "Closest: 'first.weight'"),
        ([("*", {"learning_rate": 1})], ValueRangeError, "options of group"),
        ([("*", {"lr": -1})], ValueRangeError, "lr"),
        ([("*", {"groups": []})], ValueRangeError, "options of group"),
        ([("*", 0.1)], ValueRangeError, "groups has the form"),
        (["head"], ValueRangeError, "groups has the form"),
    ],
)
def test_groups_are_checked(groups, error, words):
    with pytest.raises(error, match=words):
        Trainer(perceptron(), optimizer=SGD(0.1, groups=groups))
