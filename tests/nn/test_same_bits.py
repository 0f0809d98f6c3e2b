"""A network goes on to the same bits after it was saved, loaded, copied or resumed, whatever its layers' options are.

Float attributes are float32 in a file, so they must be rounded when the graph is built.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cconv
from cconv import nn, optim
from nn.layers import LAYERS


def network(layer, shape):
    """The layer, with a layer of weights behind it."""
    size = math.prod(layer.build(shape).run(np.zeros((2, *shape), np.float32)).shape[1:])
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(size, 3)).build(shape, seed=3)


def steps(trainer, shape, begin, end):
    """Losses of some steps on images that follow from the number of the step."""
    losses = []
    for i in range(begin, end):
        rng = np.random.default_rng(i)
        x, y = rng.standard_normal((6, *shape), dtype=np.float32), rng.integers(0, 3, 6)
        losses.append(trainer.step(x, y))
    return losses


def trainer_of(model):
    return cconv.Trainer(model, optimizer=optim.SGD(0.02), seed=4)


def saved_and_loaded(trainer, folder):
    trainer.model.save(folder / "net.onnx")
    return trainer_of(cconv.load(folder / "net.onnx"))


def resumed(trainer, folder):
    trainer.save(folder / "run.ckpt")
    return cconv.Trainer.resume(folder / "run.ckpt")


def copied(trainer, folder):
    return trainer_of(trainer.model.copy())


def goes_on(layer, shape, way, folder):
    whole = trainer_of(network(layer, shape))
    part = trainer_of(network(layer, shape))
    assert steps(part, shape, 0, 2) == steps(whole, shape, 0, 2)
    other = way(part, folder)
    if way is not resumed:  # the number of the step decides what Dropout drops
        other.state.steps[0] = 2
    assert steps(other, shape, 2, 4) == steps(whole, shape, 2, 4)
    for name, array in whole.model.weights.items():
        assert np.array_equal(array, other.model.weights[name]), name
    x = np.random.default_rng(9).standard_normal((5, *shape), dtype=np.float32)
    assert np.array_equal(whole.model.run(x), other.model.run(x))


@pytest.mark.parametrize("way", [saved_and_loaded, resumed, copied])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name, way, tmp_path):
    layer, shape, _ = LAYERS[name]
    goes_on(layer, shape, way, tmp_path)


def test_every_public_layer_has_a_case():
    kinds = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Layer)}

    def within(layer):
        parts = (*getattr(layer, "layers", ()), *getattr(layer, "branches", ()))
        parts += tuple(part for part in (getattr(layer, "body", None), getattr(layer, "shortcut", None)) if part)
        return {type(layer)}.union(*(within(part) for part in parts))

    tried = set().union(*(within(layer) for layer, _, _ in LAYERS.values()))
    assert kinds - {nn.Layer} - tried == set()


share = st.floats(0, 1, exclude_max=True, allow_subnormal=False, width=32)


@settings(max_examples=25, deadline=None)
@given(momentum=share, eps=st.floats(1e-12, 1), slope=st.floats(-2, 2, allow_subnormal=False), drop=share)
def test_any_float_option(tmp_path_factory, momentum, eps, slope, drop):
    layer = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=eps, momentum=momentum), nn.LeakyReLU(slope), nn.Dropout(drop)
    )
    for way in (saved_and_loaded, resumed):
        goes_on(layer, (2, 5, 5), way, tmp_path_factory.mktemp("bits"))
