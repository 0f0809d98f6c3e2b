"""Providers and levels: what is asked for, and that nothing passes that did not run."""

import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cconv import cli, nn
from cconv.errors import ValueRangeError
from cconv.model import load
from cconv.prove import check
from cconv.prove.providers import CPU, CUDA, LEVELS, TF32_TOLERANCE, NotAvailable, Refused, Running, levels, requested

onnxruntime = pytest.importorskip("onnxruntime")

HAVE = [name for name, level in LEVELS.items() if hasattr(onnxruntime.GraphOptimizationLevel, level)]


@pytest.fixture(scope="module")
def model():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(8, 3)
    ).build((2, 6, 5), seed=0)


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((3, 2, 6, 5)).astype(np.float32)


def test_cuda_is_run_with_and_without_tf32(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    for wish in ("all", ["cuda", "cpu"]):
        exact, rounded, cpu = requested(wish)
        assert (exact.options, exact.label, exact.tolerance) == ({"use_tf32": "0"}, "CUDA", 0)
        assert (rounded.options, rounded.label) == ({"use_tf32": "1"}, "CUDA (TF32)")
        assert rounded.tolerance == TF32_TOLERANCE
        assert cpu.label == "CPU"
    (given,) = requested([(CUDA, {"device_id": "1"})])
    assert given.label == "CUDA (TF32)"  # onnxruntime's default


def test_tf32_is_a_row_of_its_own_with_its_own_tolerance(model, x, monkeypatch):
    """A provider that rounds: within its own tolerance, and beyond the other's. There need be no GPU for this."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    exact = model.run(x)

    class Pretended:
        def __init__(self, source, target, level):
            self.factor = 1 + 5e-3 * (target.options.get("use_tf32") == "1")

        def run(self, feeds):
            return {model.output_names[0]: exact * np.float32(self.factor)}

    monkeypatch.setattr(sys.modules["cconv.prove.crosscheck"], "Running", Pretended)
    report = check(model, x, providers=["cuda"])
    assert report.ok
    plain, tf32 = report.runs
    assert (plain.label, plain.tolerance) == ("CUDA", 1e-4)
    assert (tf32.label, tf32.tolerance) == ("CUDA (TF32)", TF32_TOLERANCE)
    assert plain.comparisons[0].max_error == 0 < tf32.comparisons[0].max_error
    assert "CUDA (TF32)" in str(report)
    assert "only onnxruntime's CPU" not in str(report)


def test_all_levels_and_batches_have_a_row_each(model, x):
    report = check(model, x, optimization="all", batches=[1, 2, 7])
    assert report.ok
    assert [(run.optimization, run.batch) for run in report.runs] == [(n, b) for n in HAVE for b in (1, 2, 7)]
    text = str(report)
    assert "batches of 1, 2, 7: ok" in text
    assert len(text.splitlines()) == 1 + 1 + len(report.runs) + 2
    assert "only onnxruntime's CPU provider ran" in text


def test_each_level_is_the_one_that_onnxruntime_is_told(model, x, monkeypatch):
    seen = []
    right = onnxruntime.InferenceSession

    def spy(source, settings, **options):
        seen.append(settings.graph_optimization_level)
        return right(source, settings, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    check(model, x, optimization="all", batches=[1, 2])
    assert seen == [getattr(onnxruntime.GraphOptimizationLevel, LEVELS[name]) for name in HAVE]


@pytest.mark.parametrize("level", HAVE)
def test_a_provider_that_leaves_nodes_to_the_cpu_is_refused_at_every_level(model, level):
    """The Azure provider is in every CPU build, starts, and runs no node."""
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build of onnxruntime has no Azure provider")
    (azure,) = requested(["azure"])
    with pytest.raises(Refused, match="fallback"):
        Running(model.proto().SerializeToString(), azure, level)


def test_a_provider_that_does_not_start_is_not_available(model, monkeypatch):
    """A session without the provider that was asked for, which onnxruntime makes without a word."""
    right = onnxruntime.InferenceSession

    def without(source, settings, providers, **options):
        return right(source, settings, providers=["CPUExecutionProvider"], **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", without)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    with pytest.raises(NotAvailable, match="does not start"):
        Running(model.proto().SerializeToString(), requested(["cuda"])[0])


def test_a_run_that_moves_to_another_provider_is_refused(model, x):
    (target,) = requested(None)
    running = Running(model.proto().SerializeToString(), target)
    session = running._session
    running._session = SimpleNamespace(run=session.run, get_providers=lambda: ["OtherExecutionProvider"])
    with pytest.raises(Refused, match="ran on OtherExecutionProvider instead"):
        running.run({model.input_names[0]: x})


@pytest.mark.parametrize(
    "options, says",
    [
        ({"optimization": "most"}, "optimization: is 'all' or some of off.*found 'most'"),
        ({"optimization": []}, "found none"),
        ({"batches": []}, "at least one size"),
        ({"batches": [0]}, "at least 1; found 0"),
    ],
)
def test_bad_options(model, x, options, says):
    with pytest.raises(ValueRangeError, match=says):
        check(model, x, **options)


def test_levels_are_run_once_each():
    assert levels(None) == ["full"]
    assert levels("basic") == ["basic"]
    assert levels(["off", "full", "off"]) == ["off", "full"]
    assert levels("all") == HAVE


def test_a_batch_is_filled_up_from_the_first_example_again(model, x, monkeypatch):
    seen = []
    right = type(model).run
    monkeypatch.setattr(type(model), "run", lambda self, feeds: (seen.append(feeds), right(self, feeds))[1])
    check(model, x, batches=[2, 5])
    name = model.input_names[0]
    assert np.array_equal(seen[0][name], x[:2])
    assert np.array_equal(seen[1][name], x[[0, 1, 2, 0, 1]])


def test_a_model_of_a_fixed_batch_has_no_other():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])],
        [onnx.ValueInfoProto(name="y")],
    )
    fixed = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    with pytest.raises(ValueRangeError, match="any size"):
        check(fixed, np.zeros((3, 4), np.float32), batches=[1])


def test_the_command(model, tmp_path, capsys, monkeypatch):
    path = tmp_path / "net.onnx"
    model.save(path)
    arguments = ["check", str(path), "--optimization", "all", "--batches", "1,4", "--nodes", "--providers", "all"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "batches of 1, 4: ok" in out
    assert cli.main(["check", str(path), "--optimization", "off,basic"]) == 0
    assert cli.main(["check", str(path), "--optimization", "some"]) == 2
    for wrong in ("0", "1,x", ""):
        with pytest.raises(SystemExit):
            cli.main(["check", str(path), "--batches", wrong])
    assert "list of whole numbers >= 1" in capsys.readouterr().err
