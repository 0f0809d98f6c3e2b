"""The table of networks: what makes a row red, that a wrong gradient is noticed, that a failure costs its row alone."""

import copy
import importlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import cconv
from cconv import nn

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

# By its path: `coverage` is also the name of a package that measures test coverage.
spec = importlib.util.spec_from_file_location("coverage_tool", TOOLS / "coverage.py")
coverage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage)
measure, networks, table = (importlib.import_module(f"exported.{name}") for name in ("measure", "networks", "table"))

GREEN = {
    "library": "torchvision",
    "size": 64,
    "opset": 17,
    "nodes": 5,
    "free_batch": True,
    "gradients": {
        "weights": 3,
        "unmatched": [],
        "float64": 2e-9,
        "float64_weight": "a",
        "float32": 1e-5,
        "float32_weight": "b",
        "judge_float32": 5e-6,
    },
    "trainable": {"float64": 2e-11, "forward": 2e-6, "after": 1e-6, "roundings": []},
    "default": {"float64": 2e-9, "forward": 1e-6, "after": 3e-6, "roundings": []},
}

FAULTS = {
    "gradient of a": {"float64": 2e-5},
    "float64": {"float64": float("nan")},
    "gradient of b in float32": {"float32": 2e-3},
    "in float32": {"float32": 0.2, "judge_float32": 1.0},
    "no weight in the file for c": {"unmatched": ["c"]},
}


@pytest.mark.parametrize("reason", FAULTS)
def test_what_makes_a_row_red(reason):
    assert table.fault(GREEN) == ""
    row = copy.deepcopy(GREEN)
    row["gradients"].update(FAULTS[reason])
    assert reason in table.fault(row)


def test_gradients_may_be_as_wrong_as_pytorchs():
    row = copy.deepcopy(GREEN)
    row["gradients"].update(float32=8e-3, judge_float32=1e-2)
    assert table.is_green(row)
    row["gradients"].update(judge_float32=7e-3)
    assert "in float32" in table.fault(row)


def test_the_page_counts_and_tells_why():
    rows = {"a legacy": GREEN, "a dynamo": GREEN, "b legacy": GREEN}
    rows["b dynamo"] = {**GREEN, "stage": "export (default)", "error": "TypeError: a | b", "default": None}
    del rows["b dynamo"]["default"]
    text = table.page({"machine": "a machine", "versions": {"torch": "2"}, "rows": rows})
    assert "**2 architectures, 1 of them green with every exporter.**" in text
    assert f"| {table.EXPORTERS['dynamo']} | 2 | 1 |" in text
    alone = table.page({"machine": "a machine", "versions": {}, "rows": {"a legacy": GREEN}})
    assert "**1 architectures, 0 of them green with every exporter.**" in alone
    assert "Not green ([why](#red-and-why)): a." in alone and "- **a**, dynamo: not measured" in alone
    assert "- **b**, dynamo: export (default): TypeError: a \\| b" in text
    lines = [line for line in text.splitlines() if line.startswith(("| a |", "| b |", "| network |"))]
    assert len(lines) == 5 and len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_the_page_says_where_float64_decided_and_how_long_loading_takes():
    row = copy.deepcopy(GREEN)
    row["default"]["roundings"] = [(3e-5, 1e-5)]
    rows = {"a legacy": row, "a dynamo": GREEN, "b legacy": GREEN, "b dynamo": GREEN}
    content = {"machine": "a machine", "versions": {}, "rows": rows}
    content["loading"] = {"resnet50": {"legacy": [125, 0.5]}}
    text = table.page(content)
    assert "| a | legacy | default | 3.0e-05 | 1.0e-05 | 3.0 |" in text and text.count(" † |") == 1
    assert "| resnet50 | legacy | 125 | 0.50 | 2 |" in text
    assert "| b | legacy | default" not in text and "## Red" not in text


def test_what_an_export_needed_is_said_of_green_rows_too():
    rows = {f"{name} {exporter}": GREEN for name in ("a", "b") for exporter in ("legacy", "dynamo")}
    for name in ("a", "b"):
        rows[f"{name} dynamo"] = {**GREEN, "note": "in another way"}
    text = table.page({"machine": "a machine", "versions": {}, "rows": rows})
    assert "## Exports that need other options\n\n- **a**, dynamo; **b**, dynamo: in another way\n" in text
    assert "Not green" not in text and "## Red" not in text


def test_a_file_that_onnxruntime_refuses_too_is_said_to_be():
    row = {"stage": "load (default)", "error": "ShapeError: no", "onnxruntime": "bias must be 1D"}
    assert "ShapeError: no - onnxruntime refuses the file too: bias must be 1D" in table.fault(row)


def test_the_page_is_that_of_the_rows():
    content = json.loads(coverage.ROWS.read_text())
    assert coverage.PAGE.read_text() == table.page(content), "run tools/coverage.py write"
    for key, row in content["rows"].items():
        name, exporter = key.split(" ")
        assert exporter in networks.find(name).exporters
        reason = row.get("note") or row.get("onnxruntime")
        assert table.is_green(row) or reason, f"{key} is red, and nobody says why"


def test_no_network_is_listed_twice():
    names = [network.name for network in networks.NETWORKS]
    assert len(names) == len(set(names))
    with pytest.raises(ValueError, match="no network 'nonsense'"):
        networks.find("nonsense")


@pytest.mark.parametrize("name", ["resnet18", "r3d_18", "MobileNetV2"])
def test_images_have_the_networks_shape_and_all_scales(name):
    network = networks.find(name)
    x = networks.images(network, 2)
    assert x.shape == networks.shape(network, 2) and x.dtype == np.float32
    assert np.array_equal(x, networks.images(network, 2))
    assert not np.array_equal(x, networks.images(network, 2, seed=1))
    channel = x[..., 0] if network.library == "keras" else x[:, 0]
    means = channel.reshape(2, -1).mean(axis=1)
    assert np.abs(np.diff(means)) > 0.05 and channel.std() > 0.5


@pytest.fixture
def model():
    layers = [nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.GlobalAvgPool(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, 10)).build((3, 64, 64), seed=1)


class Side:
    """A judge that has the model's own float64 gradients, under other names and with axes in another order."""

    def __init__(self, model, spoiled=None):
        self.model = model
        self.spoiled = spoiled
        self.off = 0.0

    def weights(self):
        return {f"their {name}": self.model.weights[name].T.copy() for name in self.model.parameters}

    def outputs(self, x):
        return measure.float64_outputs(self.model, x) * (1 + self.off)

    def gradients(self, x, y, dtype, batchnorm):
        names = self.model.parameters
        found = measure.float64_gradients(self.model, x, y, names, batchnorm)
        if self.spoiled:
            found[self.spoiled] = found[self.spoiled] * (1 + 1e-4)
        return {f"their {name}": found[name].T.copy() for name in names}


def test_weights_are_found_by_their_values(model):
    pairs = measure.matched(model, Side(model).weights())
    for name in model.parameters:
        other, order = pairs[name]
        assert other == f"their {name}"
        gradient = np.random.default_rng(0).standard_normal(model.weights[name].shape)
        assert np.array_equal(measure.back(gradient, gradient.T.shape, order), gradient.T)


def test_a_wrong_gradient_is_noticed(model):
    network = networks.find("resnet18")
    for spoiled in (None, *model.parameters):
        found = measure.compare_gradients(model, Side(model, spoiled), network)
        if spoiled is None:
            assert found["float64"] < 1e-12 and found["unmatched"] == [] and found["float32"] < 1e-4
        else:
            assert found["float64"] == pytest.approx(1e-4, rel=0.01)
            assert found["float64_weight"] == f"their {spoiled}"


def test_a_row_runs_and_trains(model):
    network = networks.find("resnet18")
    side = Side(model)
    found = measure.run(model, network, side, free=True, tolerance=1e-5)
    assert found["float64"] == 0 and 0 < found["forward"] < 1e-5 and found["roundings"] == []
    assert found["losses"][2] < found["losses"][0]
    side.off = 2e-5
    with pytest.raises(AssertionError, match="in float64 the outputs differ"):
        measure.run(model, network, side, free=True, tolerance=1e-5)


@pytest.mark.parametrize(("off", "green"), [(0.0, True), (1e-4, False)])
def test_float64_decides_whose_rounding_it_is(off, green, model, monkeypatch):
    """onnxruntime gets a relative error of 2e-4; cconv a smaller one, or one that is more than 4 times as large."""
    monkeypatch.setattr(measure, "CHECK", 1e-9)
    exact = measure.float64_outputs
    network = networks.find("resnet18")
    inputs = [networks.images(network, 2)]
    wrong = 2e-4 if green else 1.1e-4
    monkeypatch.setattr(measure, "onnxruntime_outputs", lambda _, x: exact(model, x) * (1 + wrong))
    monkeypatch.setattr(measure, "float64_outputs", lambda model, x: exact(model, x) * (1 + off))
    if green:
        _, ((ours, theirs),) = measure.checked(model, network, inputs)
        assert ours < 1e-6 and 1e-5 < theirs < 2e-4
    else:
        with pytest.raises(AssertionError, match="from float64 cconv's are"):
            measure.checked(model, network, inputs)


def test_what_onnxruntime_refuses_is_said(model):
    network = networks.find("resnet18")
    proto = model.proto()
    assert measure.refused(proto.SerializeToString(), network) == ""
    proto.graph.node[0].input[1] = "nothing"
    assert "nothing" in measure.refused(proto.SerializeToString(), network)


def test_differences_agree_with_the_gradients(model):
    found = measure.compare_with_differences(model, networks.find("resnet18"))
    assert found["differences"] < 1e-5 and found["weights"] == len(model.parameters)


def test_differences_notice_a_wrong_gradient(model, monkeypatch):
    plan = measure.float64_plan

    def spoiled(*arguments):
        result, weights = plan(*arguments)
        run = result.run

        def wrong(until=None):
            done = run(until)
            result.gradients["conv.weight" if "conv.weight" in result.gradients else model.parameters[0]] *= 1.01
            return done

        result.run = wrong
        return result, weights

    monkeypatch.setattr(measure, "float64_plan", spoiled)
    assert measure.compare_with_differences(model, networks.find("resnet18"))["differences"] > 1e-3


def test_three_steps_bring_the_loss_down(model):
    x = networks.images(networks.find("resnet18"), 2)
    losses = measure.three_steps(model, x, measure.targets(model.run(x)))
    assert losses[0] > losses[1] > losses[2] > 0.5 * losses[0]
    assert cconv.check(model, x).ok


@pytest.mark.parametrize(
    ("code", "reason"),
    [("import time; time.sleep(60)", "took more than 1 s"), ("import os; os._exit(3)", "ended with status 3"),
     ("raise MemoryError('all of it')", "MemoryError: all of it")],
)  # fmt: skip
def test_a_row_that_fails_says_how(code, reason, tmp_path, monkeypatch):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "measure.py").write_text(code)
    monkeypatch.setattr(coverage, "TOOLS", tmp_path)
    assert reason in coverage.measured("resnet18", "legacy", 1 if "sleep" in code else 60)["error"]


def test_loading_is_timed_in_processes_of_their_own(tmp_path, monkeypatch):
    """The exporter is replaced by one that writes a small model."""
    (tmp_path / "exported").mkdir()
    for path in (TOOLS / "exported").glob("*.py"):
        (tmp_path / "exported" / path.name).write_text(path.read_text())
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.GlobalAvgPool(), nn.Flatten()).build((3, 224, 224))
    network.save(tmp_path / "small.onnx")
    (tmp_path / "exported" / "torch_side.py").write_text(
        "class Module:\n"
        "    def __init__(self, network): assert network.size == 224\n"
        f"    def export(self, *_, trainable): return open({str(tmp_path / 'small.onnx')!r}, 'rb').read(), True\n"
    )
    monkeypatch.setattr(coverage, "TOOLS", tmp_path)
    monkeypatch.setattr(coverage, "ROWS", tmp_path / "coverage.json")
    monkeypatch.setattr(coverage, "LOADING", {"resnet50": 2})
    monkeypatch.setattr(sys, "argv", ["coverage.py", "load"])
    assert coverage.main() == 0
    for nodes, seconds in coverage.stored()["loading"]["resnet50"].values():
        assert nodes == len(network.nodes) and seconds > 0


def test_rows_are_kept_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "ROWS", tmp_path / "coverage.json")
    monkeypatch.setattr(coverage, "measured", lambda name, exporter, seconds: {"error": f"{name} {exporter}"})
    monkeypatch.setattr(sys, "argv", ["coverage.py", "run", "--only", "resnet18,dla34", "--exporters", "dynamo"])
    assert coverage.main() == 1
    rows = coverage.stored()["rows"]
    assert {key: row["error"] for key, row in rows.items()} == {key: key for key in ("dla34 dynamo", "resnet18 dynamo")}
    green = {key: value for key, value in GREEN.items() if key not in ("library", "size")}
    monkeypatch.setattr(coverage, "measured", lambda name, exporter, seconds: green)
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--resume"])
    assert coverage.main() == 0
    monkeypatch.setattr(coverage, "measured", lambda name, exporter, seconds: pytest.fail("measured again"))
    assert coverage.main() == 0
