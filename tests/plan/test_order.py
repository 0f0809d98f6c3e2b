"""Steps that can wait until less memory is held."""

import numpy as np
import pytest

import cconv
from cconv import nn, optim
from cconv.kernels.loss.loss import CheckFinite
from cconv.plan import plan
from cconv.plan.order import postponed
from cconv.plan.plan_builder import PlanBuilder


def made(*steps):
    """Emissions named after their order: (reads, updates, writes) of tensors."""
    builder = PlanBuilder(np.dtype(np.float32))
    for i, (reads, updates, writes) in enumerate(steps):
        builder.label = str(i)
        builder.emit(CheckFinite(), reads=reads, updates=updates, writes=writes)
    return builder.emissions


@pytest.fixture
def tensors():
    builder = PlanBuilder(np.dtype(np.float32))
    small = [builder.tensor((10,)) for _ in range(4)]
    large = [builder.tensor((100,)) for _ in range(3)]
    return small, large


def order(emissions, begin=0):
    return "".join(emission.label for emission in postponed(emissions, begin, len(emissions)))


def test_what_grows_comes_last(tensors):
    (a, b, c, _), (large, other, _) = tensors
    steps = ([a, b], [], [large]), ([a], [], [c]), ([b], [], [other]), ([c], [], [b])
    assert order(made(*steps[:2])) == "10"
    assert order(made(*steps[:3])) == "102"
    assert order(made(*steps[:2]), begin=1) == "01", "another phase"
    assert order(made(*steps)) == "0123", "what they read is written again"


def test_what_is_read_or_shrinks_or_is_changed_stays(tensors):
    (a, b, _, _), (large, other, third) = tensors
    assert order(made(([a], [], [large]), ([large], [], [b]))) == "01"
    assert order(made(([large, other], [], [third]), ([a], [], [b]))) == "01"
    assert order(made(([a], [b], [large]), ([a], [], [other]))) == "01"
    assert order(made(([a], [], [large]), ([b], [large], []))) == "01"


def network():
    """Feature maps of 3.1 MB, each kept for the gradient of the next layer's weights; 2.5 MB of weights in the head."""
    maps = [layer for _ in range(4) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())]
    return nn.Sequential(*maps, nn.MaxPool2d(8), nn.Flatten(), nn.Linear(192, 3200), nn.ReLU(), nn.Linear(3200, 2))


def test_a_large_head_takes_the_memory_that_feature_maps_had(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 3, 64, 64), dtype=np.float32), rng.integers(0, 2, 64)
    results = []
    for waits in (True, False):
        if not waits:
            monkeypatch.setattr(plan, "postponed", lambda emissions, begin, end: emissions)
        model = network().build((3, 64, 64), seed=0)
        trainer = cconv.Trainer(model, optimizer=optim.SGD(0.01, momentum=0.9))
        losses = [trainer.step(x, y) for _ in range(3)]
        results.append((trainer.plan_bytes(64), losses, {name: w.copy() for name, w in model.weights.items()}))
    (less, *found), (more, *expected) = results
    assert less < more - 1e6
    assert found[0] == expected[0]
    assert all(np.array_equal(found[1][name], expected[1][name]) for name in found[1])
