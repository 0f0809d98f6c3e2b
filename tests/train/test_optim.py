"""Optimizers against torch.optim over ten steps; options refused by name; schedules by their formulas."""

import math

import numpy as np
import pytest

from cconv.errors import TrainingError, ValueRangeError
from cconv.train.optim import SGD, Adam, AdamW
from cconv.train.schedules import Constant, Cosine, Schedule, StepDecay
from cconv.train.trainer import Trainer
from networks import changed, copies, examples, perceptron

RUNS = {
    "sgd": (SGD(0.1), "SGD", {}),
    "decay": (SGD(0.1, weight_decay=0.05), "SGD", {"weight_decay": 0.05}),
    "momentum": (SGD(0.1, 0.9, 0.05), "SGD", {"momentum": 0.9, "weight_decay": 0.05}),
    "nesterov": (SGD(0.1, 0.9, 0.05, True), "SGD", {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True}),
    "adam": (Adam(0.1), "Adam", {}),
    "adam decay": (
        Adam(0.1, (0.8, 0.99), 1e-6, 0.05),
        "Adam",
        {"betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.05},
    ),
    "adamw": (AdamW(0.1), "AdamW", {}),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_ten_steps_equal_pytorch(name, max_norm):
    """Weights after ten steps to 1e-6 of the largest: a few float32 roundings a step."""
    torch = pytest.importorskip("torch")
    optimizer, kind, options = RUNS[name]
    model = perceptron()
    trainer = Trainer(model, optimizer=optimizer, max_gradient_norm=max_norm)
    theirs = {name: torch.tensor(array.copy(), requires_grad=True) for name, array in model.weights.items()}
    reference = getattr(torch.optim, kind)(list(theirs.values()), lr=0.1, **options)
    x, y = examples()
    for i in range(10):
        batch = slice(3 * i, 3 * i + 7)
        loss = trainer.step(x[batch], y[batch])
        reference.zero_grad()
        hidden = torch.relu(torch.tensor(x[batch]) @ theirs["first.weight"].T + theirs["first.bias"])
        logits = hidden @ theirs["second.weight"].T + theirs["second.bias"]
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(y[batch]))
        expected.backward()
        if max_norm:
            torch.nn.utils.clip_grad_norm_(list(theirs.values()), max_norm)
        reference.step()
        assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert trainer.steps == 10
    for key, value in theirs.items():
        array = value.detach().numpy()
        # Adam divides by the gradient's own size, so roundings of small gradients weigh more.
        tolerance = 1e-6 if kind == "SGD" else 1e-5
        assert np.max(np.abs(model.weights[key] - array)) <= tolerance * np.max(np.abs(array)), key


def test_state_is_kept_for_trained_weights_alone():
    trainer = Trainer(perceptron(), optimizer=SGD(0.1, momentum=0.9), trainable="second.*")
    assert set(trainer.state.slots["momentum"]) == {"second.weight", "second.bias"}
    before = copies(trainer.model.weights)
    trainer.step(*examples())
    assert changed(before, trainer.model.weights) == {"second.weight", "second.bias"}
    assert Trainer(perceptron(), optimizer=SGD(0.1)).state.slots == {}


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: SGD(-1), "SGD: lr .*>= 0; found -1"),
        (lambda: SGD("0.1"), "lr .*found '0.1'"),
        (lambda: SGD(math.nan), "lr .*nan"),
        (lambda: SGD(0.1, momentum=1.0), "momentum .*>= 0 and < 1; found 1.0"),
        (lambda: SGD(0.1, weight_decay=-1), "weight_decay"),
        (lambda: SGD(0.1, nesterov=True), "Nesterov.*momentum=0"),
        (lambda: Adam(betas=(0.9,)), "betas is a pair"),
        (lambda: Adam(betas=(0.9, 1.0)), "each of betas"),
        (lambda: AdamW(eps=-1e-8), "AdamW: eps"),
        (lambda: StepDecay(0.1, every=0), "every is a whole number >= 1; found 0"),
        (lambda: Cosine(0.1, steps=5, warmup=5), "steps is a whole number >= 6; found 5"),
        (lambda: Constant(True), "lr"),
    ],
)
def test_options_are_checked(make, words):
    with pytest.raises(ValueRangeError, match=words):
        make()


def test_schedules():
    assert all(isinstance(s, Schedule) for s in (Constant(1), StepDecay(1, 1), Cosine(1)))
    assert [Constant(0.5).rate(i, None) for i in (0, 100)] == [0.5, 0.5]
    assert [StepDecay(1.0, every=2, gamma=0.5).rate(i, None) for i in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    cosine = Cosine(1.0, steps=14, warmup=4, final=0.2)
    assert [cosine.rate(i, None) for i in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert cosine.rate(9, None) == pytest.approx(0.6)
    assert cosine.rate(14, None) == cosine.rate(99, None) == pytest.approx(0.2)
    assert Cosine(1.0).rate(5, 10) == pytest.approx(0.5)


def test_cosine_needs_its_length_outside_of_fit():
    trainer = Trainer(perceptron(), optimizer=SGD(Cosine(0.1)))
    before = copies(trainer.model.weights)
    with pytest.raises(TrainingError, match=r"number of updates.*Cosine\(lr, steps"):
        trainer.step(*examples())
    assert all(np.array_equal(before[name], array) for name, array in trainer.model.weights.items())
    rates = trainer.fit(examples(), epochs=4, progress=False)["learning_rate"]
    # Two updates an epoch of 37 examples; the last update of each.
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 8)) for t in (1, 3, 5, 7)])


def test_the_schedule_is_what_the_update_uses():
    """A gradient g moves a weight by rate * g: the rate of the third update is a tenth of the second's."""
    trainer = Trainer(perceptron(), optimizer=SGD(StepDecay(0.1, every=2)))
    x, y = examples()
    for rate in (0.1, 0.1, 0.01, 0.01, 0.001):
        assert trainer.learning_rate == pytest.approx(rate)
        _, gradients = trainer.gradients(x, y)
        before = trainer.model.weights["first.weight"].copy()
        trainer.step(x, y)
        moved = before - trainer.model.weights["first.weight"]
        assert np.allclose(moved, rate * gradients["first.weight"], atol=3e-8)  # an ulp of a weight of 1/2
    assert trainer.optimizer.rates(5, None) == [pytest.approx(0.001)]
