"""Changes of weights: every way to write to one is seen by the next run, and without one nothing is derived anew."""

import ctypes
import gc
import threading

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv.graph.weights import Initializer, Weights, memory_of, states_of
from cconv.ops.tensor import Spec
from cconv.plan.plan import inference_plan
from cconv.train.callbacks import EarlyStopping
from cconv.train.optim import SGD
from cconv.train.trainer import Trainer
from graph import models
from networks import convolutional, copies, images, same

NAME = "conv1.weight"
X, Y = images(6)


def expected(model) -> np.ndarray:
    """What a model with the same weights gives that has never run."""
    return model.copy().run(X)


def derives(model) -> bool:
    """Whether the next run derives anything: it does not see what is written behind its back."""
    before = model.run(X)
    memory = memory_of(model.weights)[NAME]
    kept = memory.copy()
    memory += 1
    seen = not np.array_equal(model.run(X), before)
    memory[...] = kept
    return seen


def torch_tensor(array):
    return pytest.importorskip("torch").from_numpy(array)


def ctypes_array(array):
    kind = ctypes.c_float * array.size
    return kind.from_buffer(array)


# What a user may keep of a weight, and how it is written to. The weight's own array is dropped.
HELD = {
    "array": (lambda w: w, lambda h: h.fill(0)),
    "transposed": (lambda w: w.T, lambda h: h.fill(0)),
    "a view of a view": (lambda w: w[1:][:, :1].T[0, ::2], lambda h: h.fill(7)),
    "asarray": (np.asarray, lambda h: h.fill(0)),
    "another class": (lambda w: w.view(np.recarray), lambda h: h.fill(0)),
    "masked": (lambda w: np.ma.array(w, copy=False), lambda h: h.__setitem__(..., 0)),
    "strided": (lambda w: np.lib.stride_tricks.as_strided(w, (3,), (4,)), lambda h: h.fill(5)),
    "memoryview": (memoryview, lambda h: h.cast("B").cast("f").__setitem__(0, 3.0)),
    "buffer": (lambda w: np.frombuffer(w, np.uint8), lambda h: h.fill(0)),
    "flat": (lambda w: w.flat, lambda h: h.__setitem__(0, 3.0)),
    "base": (lambda w: w.base, lambda h: np.asarray(h).fill(0)),
    "base of a view": (lambda w: w[0].base.base, lambda h: np.asarray(h).fill(0)),
    "ctypes": (ctypes_array, lambda h: h.__setitem__(0, 3.0)),
    "pointer": (lambda w: w.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), lambda h: h.__setitem__(0, 3.0)),
    "capsule": (lambda w: w.__array_struct__, None),
    "dlpack": (np.from_dlpack, None),  # read-only, as NumPy makes it
    "torch": (torch_tensor, lambda h: h.zero_()),
    "cycle": (lambda w: (c := [w]).append(c) or c, lambda h: h[0].fill(0)),
}

# The ways to come by it.
SOURCES = {
    "weights": lambda model: model.weights[NAME],
    "values": lambda model: dict(model.weights.items())[NAME],
    "raw": lambda model: model.ir.graph.initializers[NAME].const_value.raw,
    "numpy": lambda model: model.ir.graph.initializers[NAME].const_value.numpy(),
    "asarray": lambda model: np.asarray(model.ir.graph.initializers[NAME].const_value),
}


@pytest.mark.parametrize("hold", HELD)
def test_a_weight_that_is_held_may_change_at_any_time(hold):
    model = convolutional()
    take, write = HELD[hold]
    held = take(model.weights[NAME])
    first = model.run(X)
    assert derives(model)
    assert np.array_equal(model.run(X), first)
    for value in (0, 1) if write else ():
        memory_of(model.weights)[NAME][...] = value - 0.5  # so that writing changes something
        write(held)
        assert np.array_equal(model.run(X), expected(model))
        assert not np.array_equal(model.run(X), first)
    assert derives(model)
    del held
    gc.collect()
    assert not derives(model)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("when", ["held during a run", "written and dropped between two runs"])
def test_every_source_is_watched(source, when):
    model = convolutional()
    first = model.run(X)
    assert not derives(model)
    w = SOURCES[source](model)
    if when == "held during a run":
        assert np.array_equal(model.run(X), first)
    w[...] *= -1
    del w
    second = model.run(X)
    assert not np.array_equal(second, first)
    assert np.array_equal(second, expected(model))
    assert not derives(model)


def test_assignment_and_statements_in_one_line():
    model = convolutional()
    ones = np.ones(model.weights[NAME].shape)
    results = [model.run(X)]
    model.weights[NAME] = ones
    results.append(model.run(X))
    model.weights[NAME][...] = 0.5
    results.append(model.run(X))
    model.weights[NAME] += 1
    results.append(model.run(X))
    assert np.array_equal(results[-1], expected(model))
    assert len({result.tobytes() for result in results}) == 4


def test_reading_costs_one_derivation():
    model = convolutional()
    model.run(X)
    model.summary()
    assert model.weights[NAME].mean()
    states = states_of(model.weights, model.weights)
    assert states == states_of(model.weights, model.weights)
    model.weights[NAME].sum()
    assert [a == b for a, b in zip(states, states_of(model.weights, model.weights))].count(False) == 1
    assert not derives(model)


def test_a_weight_that_is_written_while_it_is_read():
    """Another thread has it since before the derivation, writes after it, and lets go before the next run."""
    model = convolutional()
    taken, ran = threading.Event(), threading.Event()

    def write():
        w = model.weights[NAME]
        taken.set()
        ran.wait()
        w[...] = 0

    thread = threading.Thread(target=write)
    thread.start()
    taken.wait()
    first = model.run(X)
    ran.set()
    thread.join()
    assert np.array_equal(model.run(X), expected(model))
    assert not np.array_equal(model.run(X), first)


def test_every_plan_notes_what_it_has_seen_itself():
    model = convolutional()
    first = {n: model.run(X[:n]) for n in (1, 2, 6)}
    model.weights[NAME][...] = 0
    for n, before in first.items():
        after = model.run(X[:n])
        assert np.array_equal(after, model.copy().run(X[:n])) and not np.array_equal(after, before)
        assert np.array_equal(model.run(X[:n], precision="direct"), model.copy().run(X[:n], precision="direct"))


def test_copies_are_told_apart():
    model = convolutional()
    other = model.copy()
    first = model.run(X)
    assert np.array_equal(other.run(X), first)
    held = other.weights[NAME]
    held[...] = 0
    assert not derives(model) and derives(other)
    assert np.array_equal(model.run(X), first) and not np.array_equal(other.run(X), first)
    held[...] = memory_of(model.weights)[NAME]
    assert np.array_equal(other.run(X), first)


def test_copies_of_python_are_models_of_their_own():
    import copy
    import pickle

    model = convolutional()
    held = model.weights[NAME]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.run(X), convolutional().run(X))
        assert other.weights[NAME] is other.ir.graph.initializers[NAME].const_value.raw is not held
        other.weights[NAME][...] = 0
        assert np.array_equal(other.run(X), expected(other))
        assert held.any() and not np.array_equal(other.run(X), convolutional().run(X))


def test_edited_keeps_watch():
    model = convolutional()
    first = model.run(X)
    old = model.weights
    model.edited()
    assert np.array_equal(model.run(X), first)
    assert not derives(model)
    old[NAME][...] = 0  # by the mapping from before
    assert np.array_equal(model.run(X), expected(model))
    # An initializer of the user's becomes a weight; the array that he has is not it.
    array = np.full(model.weights[NAME].shape, 0.25, np.float32)
    model.ir.graph.initializers[NAME].const_value = ir.Tensor(array, name=NAME)
    model.edited()
    second = model.run(X)
    array[...] = 0
    assert np.array_equal(model.run(X), second) and not derives(model)
    # One on the weight's own array stays that weight.
    held = model.weights[NAME]
    model.ir.graph.initializers[NAME].const_value = ir.Tensor(held, name=NAME)
    model.edited()
    assert model.weights[NAME] is held
    assert isinstance(model.ir.graph.initializers[NAME].const_value, Initializer)
    held[...] = 2
    assert np.array_equal(model.run(X), expected(model)) and not np.array_equal(model.run(X), second)
    del held
    assert not derives(model)


def test_empty_and_scalar_weights():
    arrays = {"e": np.zeros((0, 3), np.float32), "s": np.float32(2)}
    nodes = [helper.make_node("Mul", ["x", "s"], ["y"])]
    proto = models.model(
        nodes,
        [models.value("x", ["N"])],
        [models.value("y", ["N"])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()],
    )
    model = cconv.load(proto)
    assert model.weights["e"].shape == (0, 3) and model.weights["s"].shape == ()
    x = np.ones(3, np.float32)
    assert model.run(x).tolist() == [2, 2, 2]
    model.weights["s"][...] = 3
    assert model.run(x).tolist() == [3, 3, 3]


@pytest.mark.parametrize("held", [False, True])
def test_values_that_the_steps_are_made_with(held):
    """A Clip's bound is a float initializer, so a weight, and no address in a step."""
    bounds = [numpy_helper.from_array(np.float32(v), n) for n, v in (("low", 0), ("high", 6))]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in ("x", "y")]
    node = helper.make_node("Clip", ["x", "low", "high"], ["y"])
    graph = helper.make_graph([node], "g", info[:1], info[1:], bounds)
    model = cconv.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    high = model.weights["high"] if held else None
    x = np.array([[-9, 5, 9]], np.float32)
    assert model.run(x).tolist() == [[0, 5, 6]]
    plans = list(model._session._plans.values())
    assert model.run(x).tolist() == [[0, 5, 6]]
    assert list(model._session._plans.values()) == plans, "an unchanged bound costs no new plan"
    model.weights["high"][...] = 3
    assert model.run(x).tolist() == [[0, 3, 3]]
    if high is not None:
        high[...] = 4
        assert model.run(x).tolist() == [[0, 4, 4]]


def test_arrays_without_watch_are_read_at_every_run():
    model = convolutional()
    arrays = copies(model.weights)
    plan = inference_plan(model.nodes, {"x": Spec(X.shape, X.dtype)}, ["logits"], arrays, {}, threads=1)
    plan.inputs["x"][...] = X
    plan.run()
    assert np.array_equal(plan.outputs["logits"], model.run(X))
    arrays[NAME][...] = 0
    plan.run()
    model.weights[NAME] = arrays[NAME]
    assert np.array_equal(plan.outputs["logits"], model.run(X))


def test_weights_is_a_mapping():
    model = convolutional()
    weights = model.weights
    assert isinstance(weights, Weights) and NAME in weights and "no" not in weights
    assert list(weights) == list(dict(weights)) and len(weights) == 9
    assert weights.get("no") is None and weights.get(NAME) is weights[NAME]


# Training.


def test_a_trainer_between_runs():
    model = convolutional()
    trainer = Trainer(model, optimizer=SGD(0.1))
    first = model.run(X)
    trainer.gradients(X, Y)
    assert not derives(model)
    trainer.step(X, Y)
    assert np.array_equal(model.run(X), expected(model)) and not np.array_equal(model.run(X), first)
    assert not derives(model)


@pytest.mark.parametrize("mode", ["batch", "statistics", "frozen"])
def test_running_statistics_are_weights_too(mode):
    """With only the head trained, a step still moves the running averages that a run folds into the weights."""
    model = convolutional()
    trainer = Trainer(model, trainable="head.*", batchnorm=mode, optimizer=SGD(0.0))
    first = model.run(X)
    trainer.step(X, Y)
    assert np.array_equal(model.run(X), expected(model))
    assert np.array_equal(model.run(X), first) == (mode == "frozen")


def test_two_trainers_of_one_model():
    """What is frozen for one is moved by the other."""
    model, twin = convolutional(), convolutional()
    head, rest = (
        Trainer(model, trainable=names, batchnorm="frozen", optimizer=SGD(0.1)) for names in ("head.*", "conv*")
    )
    for _ in range(3):
        for trainer, names in ((head, "head.*"), (rest, "conv*")):
            fresh = Trainer(twin, trainable=names, batchnorm="frozen", optimizer=SGD(0.1))
            assert trainer.step(X, Y) == fresh.step(X, Y)
            assert trainer.evaluate((X, Y)) == fresh.evaluate((X, Y))
            assert same(copies(model.weights), copies(twin.weights))
            assert np.array_equal(model.run(X), expected(twin))


def test_a_trainer_derives_from_frozen_weights_once():
    model = convolutional()
    trainer = Trainer(model, trainable="head.*", batchnorm="frozen", optimizer=SGD(0.0))
    loss = trainer.step(X, Y)
    memory_of(model.weights)[NAME][...] = 0  # behind its back
    assert trainer.step(X, Y) == loss == trainer.gradients(X, Y)[0]
    for write in (
        lambda: model.weights.__setitem__(NAME, np.ones(model.weights[NAME].shape)),
        lambda: model.weights[NAME].fill(2),
        lambda: model.ir.graph.initializers["bn.mean"].const_value.raw.fill(3),
        lambda: model.weights["bn.scale"].fill(-1),
    ):
        write()
        fresh = Trainer(model.copy(), trainable="head.*", batchnorm="frozen", optimizer=SGD(0.0))
        assert trainer.gradients(X, Y)[0] == fresh.gradients(X, Y)[0] != loss
        loss = trainer.step(X, Y)


def test_restored_weights_are_seen(tmp_path):
    model = convolutional()
    trainer = Trainer(model, optimizer=SGD(0.1))
    trainer.save(tmp_path / "run.ckpt")
    first = model.run(X)
    trainer.step(X, Y)
    resumed = Trainer.resume(tmp_path / "run.ckpt")
    assert np.array_equal(resumed.model.run(X), first)
    resumed.step(X, Y)
    assert np.array_equal(resumed.model.run(X), model.run(X))
    for name, array in Trainer.resume(tmp_path / "run.ckpt").model.weights.items():
        model.weights[name] = array
    assert np.array_equal(model.run(X), first)


def test_early_stopping_restores_what_runs_see():
    model = convolutional()
    trainer = Trainer(model, optimizer=SGD(0.5))
    trainer.fit((X, Y), 3, validation=(X, (Y + 1) % 3), callbacks=[EarlyStopping(1)], progress=False)
    assert np.array_equal(model.run(X), expected(model))
    assert trainer.evaluate((X, (Y + 1) % 3)).loss == pytest.approx(min(trainer.history["val_loss"]))
