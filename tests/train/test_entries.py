"""Every entry of the registry on its cases (tests/train/cases)."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from cconv.callbacks import Callback
from cconv.model import Model
from cconv.plan.plan import training_plan
from cconv.train import registry
from cconv.train.trainer import Trainer
from networks import examples, perceptron
from train.cases import CASES, cases_of
from train.cases.case import CallbackCase, LossCase, MetricCase, OptimizerCase, ScheduleCase
from train.torch_updates import assert_updates_equal_torch

KINDS = list(registry.PACKAGES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_has_a_case(kind):
    tried = {type(case.entry).name for case in CASES if case.kind == kind}
    assert tried == set(registry.names(kind))


def of(kind, where=lambda case: True):
    cases = [case for case in cases_of(kind) if where(case)]
    return pytest.mark.parametrize("case", cases, ids=[f"{type(case.entry).name}-{i}" for i, case in enumerate(cases)])


@pytest.mark.parametrize("case", [case for case in CASES if case.kind != "callback"], ids=lambda case: case.kind)
def test_an_entry_comes_back_from_its_record(case):
    record = registry.described(case.kind, case.entry, "place")
    assert registry.restored(record) == case.entry
    assert registry.find(case.kind, record["name"]) is type(case.entry)


# Losses.


def computed(loss, x, y, dtype, threads=1):
    """The loss of a model whose output is its weight, x, and the gradient of that weight."""
    shape = list(x.shape)
    nodes = [helper.make_node("Identity", ["w"], ["y"], name="identity")]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    weight = helper.make_tensor("w", TensorProto.FLOAT, shape, x.astype(np.float32).ravel())
    graph = helper.make_graph(nodes, "g", [], [output], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model = Model(ir.from_proto(proto))
    weights = {"w": x.astype(dtype)}
    plan = training_plan(model.nodes, {}, {"y": loss}, weights, {}, ["w"], dtype=dtype, threads=threads)
    plan.targets["y"][...] = y
    plan.run(until="update")
    return float(plan.control["loss"][0]), plan.gradients["w"].copy()


def drawn(case, dtype):
    rng = np.random.default_rng(0)
    x = (4 * rng.random(case.shape) - 2).astype(dtype)
    y = case.target(rng, case.shape)
    return x, y.astype(dtype) if y.dtype.kind == "f" else y


@of(LossCase)
def test_a_loss_and_its_gradient_follow_the_formula(case):
    x, y = drawn(case, np.float64)
    loss, gradient = computed(case.entry, x, y, np.float64)
    assert loss == pytest.approx(case.reference(x, y), rel=1e-12)
    rng = np.random.default_rng(1)
    for _ in range(3):
        direction = rng.standard_normal(x.shape)
        step = 1e-6
        difference = case.reference(x + step * direction, y) - case.reference(x - step * direction, y)
        # Central differences of float64: about step^2, and 1e-16 / step of rounding.
        assert np.sum(gradient * direction) == pytest.approx(difference / (2 * step), rel=1e-6, abs=1e-8)


@of(LossCase)
def test_a_loss_in_float32_has_the_same_bits_on_any_number_of_threads(case):
    x, y = drawn(case, np.float32)
    exact, gradient = computed(case.entry, x.astype(np.float64), y, np.float64)
    results = [computed(case.entry, x, y, np.float32, threads) for threads in (1, 2, 3)]
    # A few roundings of float32 for each element; relative to the largest entry of the gradient.
    assert results[0][0] == pytest.approx(exact, rel=2e-6)
    assert np.max(np.abs(results[0][1] - gradient)) <= 2e-6 * np.max(np.abs(gradient))
    assert all(loss == results[0][0] and np.array_equal(g, results[0][1]) for loss, g in results)


@of(LossCase, lambda case: case.torch)
def test_a_loss_equals_pytorch(case):
    torch = pytest.importorskip("torch")
    x, y = drawn(case, np.float64)
    loss, gradient = computed(case.entry, x, y, np.float64)
    output = torch.tensor(x, requires_grad=True)
    expected = case.torch(torch, output, torch.tensor(y))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    assert np.allclose(gradient, output.grad.numpy(), rtol=1e-12, atol=1e-15)


# Optimizers.


@of(OptimizerCase)
def test_ten_updates_follow_the_formula(case):
    """Each from the trainer's own gradients, so that errors do not add up; to a few roundings of float32."""
    model = perceptron()
    trainer = Trainer(model, optimizer=case.entry)
    exact = {name: array.astype(np.float64) for name, array in model.weights.items()}
    states = {name: {} for name in exact}
    for i in range(10):
        x, y = (array[3 * i : 3 * i + 7] for array in examples())
        _, gradients = trainer.gradients(x, y)
        for name, gradient in gradients.items():
            exact[name] = case.reference(exact[name], gradient.astype(np.float64), states[name], i + 1)
        trainer.step(x, y)
    for name, array in model.weights.items():
        # Adam and its kin divide by the gradient's own size, so roundings of small gradients weigh more.
        assert np.max(np.abs(array - exact[name])) <= 1e-5 * np.max(np.abs(exact[name])), name


@of(OptimizerCase, lambda case: case.torch)
def test_ten_updates_equal_pytorch(case):
    kind, options = case.torch
    assert_updates_equal_torch(
        case.entry, lambda optim, weights: getattr(optim, kind)(list(weights.values()), **options), steps=10
    )


@of(OptimizerCase)
def test_an_optimizer_goes_on_from_a_checkpoint_to_the_same_bits(case, tmp_path):
    x, y = examples()
    whole = Trainer(perceptron(), optimizer=case.entry)
    for _ in range(6):
        whole.step(x, y)
    first = Trainer(perceptron(), optimizer=case.entry)
    for _ in range(3):
        first.step(x, y)
    first.save(tmp_path / "run.ckpt")
    second = Trainer.resume(tmp_path / "run.ckpt")
    for _ in range(3):
        second.step(x, y)
    for name, array in whole.model.weights.items():
        assert np.array_equal(array, second.model.weights[name]), name


# Schedules and metrics.


@of(ScheduleCase)
def test_a_schedule_follows_its_formula(case):
    assert isinstance(case.entry, registry.schedules.Schedule)
    for (step, total), rate in case.rates.items():
        assert case.entry.rate(step, total) == pytest.approx(rate, rel=1e-12)


@of(MetricCase)
def test_a_metric_over_batches(case):
    accumulator = case.entry.accumulator()
    for output, target in case.batches:
        accumulator.add(output, target)
    value = accumulator.value()
    assert value is None if case.value is None else value == pytest.approx(case.value, rel=1e-12)


@of(MetricCase)
def test_a_metric_is_the_same_example_by_example(case):
    accumulator = case.entry.accumulator()
    for output, target in case.batches:
        for i in range(len(output)):
            accumulator.add(output[i : i + 1], target[i : i + 1])
    value = accumulator.value()
    assert value is None if case.value is None else value == pytest.approx(case.value, rel=1e-12)


# Callbacks.


class Killed(Callback):
    """Saves a checkpoint after an epoch and ends the run there, as a kill does."""

    def __init__(self, path, epoch):
        self.path, self.epoch = path, epoch

    def on_epoch_end(self, trainer, row):
        if trainer.epoch == self.epoch:
            trainer.save(self.path)
            raise KeyboardInterrupt


@of(CallbackCase)
@pytest.mark.parametrize("killed", [False, True])
def test_a_callback_in_a_run_with_and_without_a_break(case, killed, tmp_path):
    train, held_out = examples(60), examples(20, seed=2)
    trainer = Trainer(perceptron(), optimizer="adam")
    callback = case.make(tmp_path)
    if killed:
        with pytest.raises(KeyboardInterrupt):
            callbacks = [callback, Killed(tmp_path / "run.ckpt", 3)]
            trainer.fit(train, 6, validation=held_out, callbacks=callbacks, progress=False)
        trainer, callback = Trainer.resume(tmp_path / "run.ckpt"), case.make(tmp_path)
    trainer.fit(train, 6 - trainer.epoch, validation=held_out, callbacks=[callback], progress=False)
    case.check(tmp_path, trainer.history, callback)
