"""Tuning: whole small runs whose file a new process follows; what is measured, how it is judged, what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import tune
from benchmark.layers import Timed

import cconv
from cconv import nn
from cconv.kernels import FLOAT32
from cconv.kernels.schedule import algorithms, tuned
from cconv.ops import conv
from convolutions import algorithms_of, geometry

TOOLS = Path(tune.__file__).parent
SQUARE = geometry(2, 16, 16, 1, (9, 9), (3, 3), pad=1)


@pytest.fixture
def model(tmp_path):
    """3x3, 3x3 again, depthwise, 1x1 and transposed; the first without a gradient of its input."""
    path = tmp_path / "model.onnx"
    nn.Sequential(
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 16, 1), nn.ConvTranspose2d(16, 16, 3, padding=1),
        nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(16, 3),
    ).build((16, 9, 9)).save(path)  # fmt: skip
    return path


def run(*arguments, code=None, **variables):
    command = [sys.executable, *(["-c", code] if code else [str(TOOLS / "tune.py")]), *map(str, arguments)]
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_a_models_table_is_followed_in_a_new_process(model, tmp_path):
    out = tmp_path / "schedule.json"
    done = run("--model", model, "--batch", "2", "--threads", 1, "--repeats", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    table = tuned.read(out)
    assert (table.build, table.threads, table.cconv) == (FLOAT32.name, 1, cconv.__version__)
    passes = [(choice.role, choice.geometry.groups) for choice in table.choices]
    # Both 3x3 and the transposed one are one geometry.
    assert sorted(passes) == sorted((role, groups) for role in algorithms.ROLES for groups in (1, 16))
    assert "Conv and 1 more" in done.stdout and "6 passes" in done.stdout
    for choice in table.choices:
        assert set(choice.ms) == set(algorithms.candidates(choice.geometry, choice.role))
        assert min(choice.ms.values()) > 0
        builtin = algorithms.builtin(choice.geometry, choice.role)
        fastest = min(choice.ms, key=choice.ms.get)
        assert choice.algorithms["fast"] in (fastest, builtin)

    # All choices turned round, so that they are not the built-in ones.
    fields = json.loads(out.read_text())
    for choice, entry in zip(table.choices, fields["choices"]):
        able = algorithms.candidates(choice.geometry, choice.role)
        entry["algorithms"]["fast"] = next(
            name for name in reversed(able) if name != algorithms.builtin(choice.geometry, choice.role)
        )
    out.write_text(json.dumps(fields))
    code = (
        "import sys, cconv, numpy as np\n"
        "trainer = cconv.Trainer(cconv.load(sys.argv[1]), threads=1)\n"
        "trainer.step(np.ones((2, 16, 9, 9), np.float32), np.zeros(2, np.int64))\n"
        "(plan,) = trainer._network.plans.values()\n"
        "print(*sorted({type(step).__module__ for step in plan.memory.program.steps}))\n"
        "cconv.show_versions()"
    )
    builtin, followed = (run(model, code=code, CCONV_SCHEDULE=path) for path in ("", out))
    assert builtin.returncode == followed.returncode == 0, builtin.stderr + followed.stderr
    first, second = (set(algorithms_of(done.stdout.split())) for done in (builtin, followed))
    assert first == {"conv_direct", "conv_weight", "conv_depthwise"}
    assert second == {"conv_direct", "conv_weight", "conv_winograd", "conv_winograd_weight"}  # direct: 1x1, depthwise
    assert f"{out}: 6 choices" in followed.stdout
    refused = run(model, code=code, CCONV_SCHEDULE=model)
    assert refused.returncode != 0 and "ScheduleError: schedule" in refused.stderr


def test_shapes_are_measured_at_several_batches(tmp_path):
    shapes, out = tmp_path / "shapes.txt", tmp_path / "schedule.json"
    shapes.write_text('ic16ih6oc16oh6kh3ph1n"twice*2"\nic16ih6oc16oh6kh1ph0n"one algorithm"\n')
    done = run("--shapes", shapes, shapes, "--batch", "1,3", "--repeats", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "12 passes; 6 of them have only one algorithm" in done.stderr and "round 2 of 2, layer 2 of 2" in done.stderr
    assert "twice and 3 more" in done.stdout and "one algorithm" not in done.stdout
    assert [choice.geometry.batch for choice in tuned.read(out).choices] == [1, 1, 1, 3, 3, 3]


def test_nothing_to_choose_makes_an_empty_table(tmp_path, capsys):
    shapes, out = tmp_path / "shapes.txt", tmp_path / "schedule.json"
    shapes.write_text('ic16ih6oc16oh6kh1ph0n"1x1"\n')
    assert tune.main(["--shapes", str(shapes), "--out", str(out)]) == 0
    assert tuned.read(out).choices == []
    assert "no pass has more than one algorithm" in capsys.readouterr().out


def test_the_passes_are_those_that_training_asks_for(model, monkeypatch):
    """No more and no fewer than a training plan of the same model and batch looks up."""
    asked = []

    def record(geometry, role, *others):
        asked.append((role, geometry))
        return algorithms.algorithm(geometry, role, *others)

    monkeypatch.setattr(conv, "algorithm", record)
    cconv.Trainer(cconv.load(model)).plan_bytes(2)
    found = [key for _, key in tune.passes_of_model(model, 2)]
    assert len(found) == 14 and sorted(map(str, found)) == sorted(map(str, asked))


# Judgement.


def measured(role="forward", **seconds):
    return tune.Measured(role, SQUARE, ["a layer"], {name: list(times) for name, times in seconds.items()})


@pytest.mark.parametrize(
    ("direct", "winograd", "expected"),
    [
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), "conv_direct"),
        ((1.0, 1.0, 1.0), (0.98, 0.98, 0.98), "conv_direct"),  # the built-in one is nearly as fast
        ((1.0, 1.0, 1.0), (0.96, 0.96, 0.96), "conv_winograd"),
        ((1.0, 1.0, 9.0), (1.0, 1.0, 1.0), "conv_direct"),  # one slow turn
        ((1.0, 5.0, 9.0), (0.9, 4.0, 8.0), "conv_winograd"),  # a machine that slows down: neighbours count
    ],
)
def test_the_builtin_choice_stays_unless_another_is_worth_it(direct, winograd, expected):
    one = measured(conv_direct=direct, conv_winograd=winograd)
    assert algorithms.builtin(SQUARE, "forward") == "conv_direct"
    assert one.choice("fast") == expected
    assert one.choice("direct") == "conv_direct"
    (written,) = tune.table_of([one], 1).choices
    assert written.algorithms == {"fast": expected, "direct": "conv_direct"}


def test_what_is_gained_counts_each_layer():
    one = measured(conv_direct=[0.004], conv_winograd=[0.002])
    one.names *= 3
    other = measured("input_gradient", conv_direct=[0.001], conv_scatter=[0.003], conv_winograd=[0.002])
    assert tune.total([one, other]) == (
        "2 passes, 1 with another choice than the built-in one; all layers together 13.0 ms before, 7.0 ms after: "
        "1.857x"
    )
    assert tune.rows([one, other])[1] == (
        "a layer and 2 more", "2", "forward", "4.000", "2.000", "–", "conv_winograd", "2.00x"
    )  # fmt: skip


@pytest.mark.parametrize(("quiet", "said"), [(0.0, False), (99.0, True)])
def test_a_busy_machine_is_told(quiet, said, tmp_path, monkeypatch, capsys):
    shapes = tmp_path / "shapes.txt"
    shapes.write_text('ic16ih6oc16oh6kh1ph0n"1x1"\n')
    monkeypatch.setattr(tune, "QUIET", quiet)
    assert tune.main(["--shapes", str(shapes), "--repeats", "1", "--out", str(tmp_path / "schedule.json")]) == 0
    assert ("Choices may be wrong; measure again on an idle machine." in capsys.readouterr().err) == said


# What is refused; an earlier file stays as it is.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--out", "x.json"], "one of the arguments --model --shapes is required"),
        (["--shapes", "a.txt"], "required: --out"),
        (["--shapes", "a.txt", "--model", "b.onnx", "--out", "x.json"], "not allowed with"),
        (["--shapes", "nowhere.txt", "--out", "x.json"], "there is no file nowhere.txt"),
        (["--model", "nowhere.onnx", "--out", "x.json"], "there is no file nowhere.onnx"),
        (["--shapes", "a.txt", "--out", "/nowhere/x.json"], "there is no folder /nowhere"),
        (["--shapes", "a.txt", "--out", "x.json", "--batch", "0"], "a whole number >= 1; found '0'"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, text, capsys):
    with pytest.raises(SystemExit) as end:
        tune.main(arguments)
    assert end.value.code == 2
    assert text in capsys.readouterr().err


@pytest.fixture
def earlier(tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text("earlier")
    return path


def main(earlier, *source):
    return tune.main([*map(str, source), "--batch", "2", "--repeats", "1", "--out", str(earlier)])


def test_a_file_that_is_no_model(earlier, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    assert main(earlier, "--model", path) == 1
    assert "tune.py: " in capsys.readouterr().err and earlier.read_text() == "earlier"


def test_algorithms_that_disagree(earlier, model, monkeypatch, capsys):
    def wrong(role, g, data, threads, name):
        made = our_pass(role, g, data, threads, name)
        return Timed(made.run, lambda: -made.result()) if "winograd" in name else made

    our_pass = tune.our_pass
    monkeypatch.setattr(tune, "our_pass", wrong)
    assert main(earlier, "--model", model) == 1
    assert "forward: conv_winograd and conv_direct differ by" in capsys.readouterr().err
    assert earlier.read_text() == "earlier"


def test_an_algorithm_that_gives_no_numbers(earlier, model, monkeypatch, capsys):
    def wrong(role, g, data, threads, name):
        made = our_pass(role, g, data, threads, name)
        return Timed(made.run, lambda: np.full_like(made.result(), np.nan)) if "winograd" in name else made

    our_pass = tune.our_pass
    monkeypatch.setattr(tune, "our_pass", wrong)
    assert main(earlier, "--model", model) == 1
    assert "differ by nan" in capsys.readouterr().err


def test_interrupted(earlier, model, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "turns", interrupt)
    assert main(earlier, "--model", model) == 130
    assert "interrupted; nothing is written" in capsys.readouterr().err
    assert earlier.read_text() == "earlier"
