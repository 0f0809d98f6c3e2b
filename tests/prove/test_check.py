"""check: right models pass, wrong ones fail by the right amount, and no provider passes that did not run."""

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cconv.errors import CconvError, DTypeError, ShapeError, ValueRangeError
from cconv.model import load
from cconv.prove import Report, check, random_inputs

CPU = "CPUExecutionProvider"


def proto(outputs=1):
    """A convolution, ReLU and, as a second output, its global average."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 2, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["z"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["z"], ["y"], name="relu"),
        helper.make_node("Relu", ["y"], ["again"], name="again"),
    ]
    names = ["y", "again"][:outputs]
    graph = helper.make_graph(
        nodes[: outputs + 1],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 6, 5])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return model


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((3, 2, 6, 5)).astype(np.float32)


def test_a_right_model_passes(x):
    report = check(load(proto()), x)
    assert report.ok
    assert report.providers == [CPU]
    assert 0 <= report.max_relative_error < 1e-6
    assert report.max_error < 1e-5
    assert report.class_agreement == 1.0
    text = str(report)
    assert "3 samples: ok" in text
    assert "3x4x6x5" in text
    assert f"onnxruntime {report.versions['onnxruntime']}" in text


def test_every_output_is_compared(x):
    report = check(load(proto(outputs=2)), {"x": x})
    assert report.ok
    assert [c.output for c in report.comparisons] == ["y", "again"]


def test_a_path_is_checked_as_the_file_it_is(x, tmp_path):
    path = tmp_path / "model.onnx"
    load(proto()).save(path)
    assert check(path, x).ok
    assert check(str(path), x).ok


def test_weights_changed_after_export_fail_by_as_much(x, monkeypatch):
    model = load(proto())
    exported = model.proto()
    before = model.run(x)
    model.weights["w"][2] += 0.01
    monkeypatch.setattr(model, "proto", lambda **options: exported)
    report = check(model, x)
    assert not report.ok
    assert "FAILED" in str(report)
    moved = np.abs(model.run(x) - before).max()
    assert moved > 0.01
    assert report.max_error == pytest.approx(moved, rel=1e-3)
    assert check(model, x, tolerance=0.5).ok


def test_tolerance_zero_lets_only_equal_bits_pass(x):
    report = check(load(proto()), x, tolerance=0)
    assert report.ok is (report.max_error == 0)


def test_a_provider_that_is_not_here_is_not_passed(x):
    onnxruntime = pytest.importorskip("onnxruntime")
    absent = next(p for p in onnxruntime.get_all_providers() if p not in onnxruntime.get_available_providers())
    report = check(load(proto()), x, providers=[absent])
    assert not report.ok
    assert math.isnan(report.max_error)
    assert set(report.not_available) == {absent}
    assert "no provider ran" in str(report)
    assert "not available" in str(report)

    report = check(load(proto()), x, providers=["cpu", absent])
    assert report.ok
    assert report.providers == [CPU]
    assert absent in report.not_available


def test_a_provider_that_leaves_nodes_to_the_cpu_is_refused(x):
    """The Azure provider is in every CPU build, starts, and runs no node: a fallback as it happens."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build of onnxruntime has no Azure provider")
    report = check(load(proto()), x, providers=["CPU", "azure"])
    assert not report.ok
    assert report.providers == [CPU]
    assert "fallback" in report.refused["AzureExecutionProvider"]
    assert "Azure: REFUSED" in str(report)


def test_all_providers(x):
    report = check(load(proto()), x, providers="all")
    assert CPU in report.providers
    assert "AzureExecutionProvider" not in report.providers


def test_a_model_that_onnxruntime_refuses(x, monkeypatch):
    broken = proto()
    broken.graph.node[1].op_type = "NoSuchOperator"
    model = load(proto())
    monkeypatch.setattr(model, "proto", lambda **options: broken)
    report = check(model, x)
    assert not report.ok
    assert "NoSuchOperator" in report.refused[CPU]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tolerance": -1}, "tolerance: is at least 0"),
        ({"tolerance": math.nan}, "tolerance: is at least 0"),
        ({"providers": ["gpu9000"]}, "cpu.*found 'gpu9000'"),
        ({"providers": []}, "names at least one"),
    ],
)
def test_bad_options(x, options, says):
    with pytest.raises(ValueRangeError, match=says):
        check(load(proto()), x, **options)


@pytest.mark.parametrize("bad", [np.zeros((1, 2, 6, 4), np.float32), np.zeros((1, 2, 6, 5)), {"z": 0}])
def test_inputs_that_are_not_the_models(bad):
    with pytest.raises(CconvError):
        check(load(proto()), bad)


def test_an_empty_report_is_not_ok():
    assert not Report([]).ok


def test_random_inputs_follow_the_declared_shapes():
    model = load(proto())
    inputs = random_inputs(model, batch=4, seed=1)
    assert inputs["x"].shape == (4, 2, 6, 5)
    assert inputs["x"].dtype == np.float32
    assert np.array_equal(inputs["x"], random_inputs(model, batch=4, seed=1)["x"])
    assert not np.array_equal(inputs["x"], random_inputs(model, batch=4, seed=2)["x"])
    with pytest.raises(ValueRangeError, match="batch"):
        random_inputs(model, batch=0)


def test_random_inputs_do_not_guess():
    model = proto()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    with pytest.raises(ShapeError, match="'x'"):
        random_inputs(load(model))
    indices = helper.make_graph(
        [helper.make_node("Identity", ["i"], ["y"])],
        "g",
        [helper.make_tensor_value_info("i", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
    )
    with pytest.raises(DTypeError, match=r"'i'.*int64"):
        random_inputs(load(helper.make_model(indices, opset_imports=[helper.make_opsetid("", 20)])))
