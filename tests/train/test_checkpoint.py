"""Checkpoints: the same bits after resuming; damaged, altered and foreign files refused."""

import json
import os

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from cconv.errors import CheckpointError, OutputError, ValueRangeError
from cconv.train import checkpoint
from cconv.train.losses import CrossEntropy, MeanSquaredError
from cconv.train.optim import SGD, Adam, AdamW
from cconv.train.schedules import Constant, Cosine, StepDecay
from cconv.train.trainer import Trainer
from networks import convolutional, copies, examples, images, perceptron, same

OPTIMIZERS = [
    SGD(0.05),
    SGD(StepDecay(0.05, 3, 0.5), momentum=0.9, nesterov=True),
    Adam(Constant(0.01)),
    AdamW(Cosine(0.01, steps=12, warmup=2)),
]


def assert_same_run(a: Trainer, b: Trainer):
    assert same(copies(a.model.weights), copies(b.model.weights))
    assert list(a.state.slots) == list(b.state.slots)
    for slot, arrays in a.state.slots.items():
        assert same(arrays, b.state.slots[slot])
    assert (a.steps, a.epoch) == (b.steps, b.epoch)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("at", [0, 1, 5])
def test_steps_go_on_to_the_same_bits(tmp_path, optimizer, at):
    batches = [images(7, seed) for seed in range(8)]
    options = {"optimizer": optimizer, "max_gradient_norm": np.float32(0.5), "seed": 3}
    whole = Trainer(convolutional(), **options)
    part = Trainer(convolutional(), **options)
    losses = [whole.step(*batch) for batch in batches]
    found = [part.step(*batch) for batch in batches[:at]]
    part.save(tmp_path / "run.ckpt")
    before = copies(part.model.weights)
    resumed = Trainer.resume(tmp_path / "run.ckpt", threads=2)
    assert_same_run(part, resumed)
    found += [resumed.step(*batch) for batch in batches[at:]]
    assert found == losses
    assert_same_run(whole, resumed)
    assert same(copies(part.model.weights), before)  # the resumed trainer has a model of its own


def test_fit_goes_on_to_the_same_bits(tmp_path):
    make = {"optimizer": SGD(0.05, momentum=0.9), "seed": 11, "batchnorm": {"bn": "statistics"}}
    whole, part = Trainer(convolutional(), **make), Trainer(convolutional(), **make)
    whole.fit(images(), 5, validation=images(9, 8), batch_size=6, progress=False)
    part.fit(images(), 2, validation=images(9, 8), batch_size=6, progress=False)
    part.save(tmp_path / "run.ckpt")
    resumed = Trainer.resume(tmp_path / "run.ckpt")
    resumed.fit(images(), 3, validation=images(9, 8), batch_size=6, progress=False)
    assert_same_run(whole, resumed)
    for column in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert whole.history[column] == resumed.history[column]


def test_dropout_goes_on_to_the_same_bits(tmp_path):
    whole, part = (Trainer(perceptron(dropout=0.5), seed=2) for _ in range(2))
    losses = [whole.step(*examples()) for _ in range(6)]
    found = [part.step(*examples()) for _ in range(3)]
    part.save(tmp_path / "run.ckpt")
    resumed = Trainer.resume(tmp_path / "run.ckpt")
    found += [resumed.step(*examples()) for _ in range(3)]
    assert found == losses
    assert_same_run(whole, resumed)
    other = Trainer(perceptron(dropout=0.5), seed=3)
    assert other.step(*examples()) != losses[0]
    assert resumed.evaluate(examples()).loss == whole.evaluate(examples()).loss  # nothing is dropped there
    assert resumed.gradients(*examples())[0] != resumed.evaluate(examples()).loss


def test_every_option_survives(tmp_path):
    trainer = Trainer(
        perceptron(outputs=("logits", "hidden")),
        loss={"logits": CrossEntropy([1, 2, 0.1, 4], 0.1, ignore_index=7), "hidden": "mse"},
        optimizer=AdamW(Cosine(np.float32(0.1), warmup=3), betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3),
        trainable=lambda name: name.startswith("first"),
        seed=5,
        max_gradient_norm=2,
        check_inputs=True,
    )
    trainer.save(tmp_path / "run.ckpt")
    resumed = Trainer.resume(tmp_path / "run.ckpt")
    assert resumed.losses == {
        "logits": CrossEntropy([1, 2, 0.1, 4], 0.1, ignore_index=7), "hidden": MeanSquaredError()
    }  # fmt: skip
    assert resumed.optimizer == trainer.optimizer
    assert resumed.trained == ("first.weight", "first.bias")
    assert (resumed.seed, resumed.max_gradient_norm, resumed.check_inputs) == (5, 2, True)
    assert resumed.model.proto() == trainer.model.proto()


def test_names_that_look_like_patterns(tmp_path):
    """A resolved name is that weight, whatever characters it has."""
    model = perceptron()
    proto = model.proto()
    for entry in (*proto.graph.initializer, *proto.graph.node):
        if hasattr(entry, "input"):
            for i, name in enumerate(entry.input):
                entry.input[i] = name.replace("first.", "f[0]*")
        else:
            entry.name = entry.name.replace("first.", "f[0]*")
    from cconv.model import load

    trainer = Trainer(load(proto), trainable="f[[]0]*")
    assert trainer.trained == ("f[0]*weight", "f[0]*bias")
    trainer.save(tmp_path / "run.ckpt")
    assert Trainer.resume(tmp_path / "run.ckpt").trained == trainer.trained


# Files that are refused.


@pytest.fixture
def saved(tmp_path):
    trainer = Trainer(perceptron(), optimizer=SGD(0.1, momentum=0.9))
    trainer.step(*examples())
    path = tmp_path / "run.ckpt"
    trainer.save(path)
    return path


def contents(path):
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def rewrite(path, tensors, record):
    """A file whose checksum is right, as a forger would write it."""
    text = json.dumps(record)
    save_file(tensors, path, {"cconv": text, "sha256": checkpoint._digest(text, tensors)})


def test_truncated_files_are_refused(saved):
    data = saved.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1]:
        saved.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"run\.ckpt.*(whole safetensors file|checksum)"):
            Trainer.resume(saved)


def test_a_flipped_bit_anywhere_is_refused(saved):
    data = saved.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(data), 60):
        altered = bytearray(data)
        altered[position] ^= 1 << int(position) % 8
        saved.write_bytes(altered)
        with pytest.raises(CheckpointError):
            Trainer.resume(saved)
    saved.write_bytes(data)
    assert Trainer.resume(saved).steps == 1


def test_other_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        Trainer.resume(tmp_path / "nowhere.ckpt")
    with pytest.raises(CheckpointError, match="whole safetensors file"):
        Trainer.resume(tmp_path)
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="without cconv's record"):
        Trainer.resume(tmp_path / "other.safetensors")
    (tmp_path / "model.onnx").write_bytes(perceptron().proto().SerializeToString())
    with pytest.raises(CheckpointError, match="whole safetensors file"):
        Trainer.resume(tmp_path / "model.onnx")


def test_another_version_is_refused(saved):
    tensors, metadata = contents(saved)
    rewrite(saved, tensors, {**json.loads(metadata["cconv"]), "schema": 1})
    with pytest.raises(CheckpointError, match="layout version 2; found 1"):
        Trainer.resume(saved)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t.update({"weight:first.bias": np.zeros(8, np.float32)}), r"first\.bias.*\(9,\).*\(8,\)"),
        (lambda t: t.update({"weight:first.bias": np.zeros(9, np.float64)}), "first.bias.*float32.*float64"),
        (lambda t: t.pop("weight:first.bias"), "'first.bias' missing"),
        (lambda t: t.update({"weight:third": np.zeros(3, np.float32)}), "'third' more than"),
        (lambda t: t.update({"optimizer:momentum:first.bias": np.zeros(8, np.float32)}), r"\(9,\).*\(8,\)"),
        (lambda t: t.pop("optimizer:momentum:first.bias"), "momentum:first.bias' missing"),
        (lambda t: t.update({"optimizer:mean:first.bias": np.zeros(9, np.float32)}), "mean:first.bias' more"),
        (lambda t: t.pop("model"), "take up"),
        (lambda t: t.update({"model": np.frombuffer(b"no model", np.uint8)}), "holds an ONNX model"),
    ],
)
def test_arrays_that_do_not_fit_the_model_are_refused(saved, change, words):
    tensors, metadata = contents(saved)
    change(tensors)
    rewrite(saved, tensors, json.loads(metadata["cconv"]))
    with pytest.raises(CheckpointError, match=words):
        Trainer.resume(saved)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"optimizer": {"kind": "optimizer", "name": "os.system", "lr": 1}}, "is one of .*'os.system'"),
        ({"optimizer": {"kind": "os", "name": "system"}}, "take up.*a kind is one of .*'os'"),
        ({"optimizer": {"kind": "optimizer", "name": "sgd", "rate": 1}}, "take up.*rate"),
        ({"optimizer": {"kind": "optimizer", "name": "sgd", "lr": -1}}, "take up.*lr"),
        ({"optimizer": {"kind": "loss", "name": "cross_entropy"}}, "take up.*optimizer"),
        ({"loss": {"logits": {"kind": "optimizer", "name": "sgd", "lr": 1}}}, "take up.*loss"),
        ({"trainable": ["nothing"]}, "take up.*'nothing'"),
        ({"history": [{"epoch": 1}]}, "take up"),
        ({"steps": "many"}, "take up"),
    ],
)
def test_records_that_cconv_did_not_write_are_refused(saved, change, words):
    tensors, metadata = contents(saved)
    rewrite(saved, tensors, {**json.loads(metadata["cconv"]), **change})
    with pytest.raises(CheckpointError, match=words):
        Trainer.resume(saved)


def test_what_cannot_be_saved_is_said_before_the_file_is_touched(saved):
    class Own(CrossEntropy):
        pass

    before = saved.read_bytes()
    with pytest.raises(ValueRangeError, match=r"is one of CrossEntropy, .*a Own.*register\('loss', Own\)"):
        Trainer(perceptron(), loss=Own())
    with pytest.raises(OutputError, match="no folder"):
        Trainer(perceptron()).save(saved.parent / "nowhere" / "run.ckpt")
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["run.ckpt"]
