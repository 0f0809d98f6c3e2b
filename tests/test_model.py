"""Model: copies, pickles and other processes; its memory; running in batches."""

import copy
import gc
import multiprocessing
import pickle
import weakref

import numpy as np
import pytest

import cconv
from cconv import nn
from cconv.errors import ValueRangeError
from networks import run_and_step


@pytest.fixture
def model():
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(4, 3)
    )
    return layers.build((2, 6, 6), seed=1)


X = np.random.default_rng(0).standard_normal((5, 2, 6, 6)).astype(np.float32)
Y = np.arange(5) % 3


COPIES = {
    "copy": lambda model: model.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("has_run", [False, True])
def test_a_copy_computes_the_same_and_has_weights_of_its_own(model, way, has_run):
    if has_run:
        model.run(X)
    other = COPIES[way](model)
    before = model.run(X)
    assert np.array_equal(other.run(X), before)
    for array in other.weights.values():
        array += 1
    assert not np.array_equal(other.run(X), before)
    assert np.array_equal(model.run(X), before)


def test_a_copy_keeps_names_metadata_and_edits_that_wait_for_save(model, tmp_path):
    proto = model.proto()
    proto.metadata_props.add(key="author", value="me")
    proto.graph.node[0].doc_string = "first"
    loaded = cconv.load(proto)
    loaded.save(tmp_path / "a.onnx")
    for i, way in enumerate(COPIES.values()):
        way(loaded).save(tmp_path / f"{i}.onnx")
        assert (tmp_path / f"{i}.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()


def test_a_model_and_a_trainer_go_to_a_spawned_process(model):
    model.run(X)
    expected = model.run(X), cconv.Trainer(model.copy()).step(X, Y)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=run_and_step, args=(model, X, Y, results))
    process.start()
    outputs, loss = results.get(timeout=120)
    process.join(timeout=120)
    assert process.exitcode == 0
    assert np.array_equal(outputs, expected[0]) and loss == expected[1]


def test_a_trainer_is_pickled_as_its_checkpoint(model):
    first = cconv.Trainer(model, optimizer="adam", seed=7)
    first.fit((X, Y), epochs=2, progress=False)
    second = pickle.loads(pickle.dumps(first))
    assert second.history[-1] == first.history[-1] and second.steps == first.steps
    assert second.step(X, Y) == first.step(X, Y)
    for name, array in first.model.weights.items():
        assert np.array_equal(array, second.model.weights[name])


@pytest.mark.parametrize("use", ["load", "run", "train", "doctor"])
def test_memory_is_given_back_without_the_garbage_collector(model, tmp_path, use):
    """A reference cycle would keep the weights of every model until the collector runs."""
    model.save(tmp_path / "net.onnx")
    gc.collect()
    gc.disable()
    try:
        loaded = cconv.load(tmp_path / "net.onnx")
        if use == "run":
            loaded.run(X)
        if use == "train":
            trainer = cconv.Trainer(loaded)
            trainer.fit((X, Y), epochs=2, progress=False)
            trainer.evaluate((X, Y))
            del trainer
        if use == "doctor":
            cconv.doctor(loaded)
        gone = [weakref.ref(loaded), weakref.ref(loaded.weights["0.weight"])]
        del loaded
        assert [reference() is None for reference in gone] == [True, True]
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_running_in_batches_gives_the_same(model, size):
    assert np.allclose(model.run(X, batch_size=size), model.run(X), rtol=1e-6, atol=1e-6)


def test_batches_of_a_model_whose_examples_depend_on_each_other_are_refused():
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], name="mean", axes=[0]),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, ["N", 3])], [value("y", TensorProto.FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "g", *ends)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = cconv.load(proto)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert model.run(x).sum() == 0
    with pytest.raises(ValueRangeError, match=r"mean.*leave batch_size out"):
        model.run(x, batch_size=2)


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_batch_sizes_are_checked(model, size):
    with pytest.raises(ValueRangeError, match="batch_size"):
        model.run(X, batch_size=size)
