"""The benchmark: its arguments, its judgement of numbers, its workers, and whole small runs."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bench
import numpy as np
import pytest
from benchmark import contest, report
from benchmark.contest import Score, Task, Worker, WorkerError, disagreement
from benchmark.sides import Job, Side, opponents, sample

TOOLS = Path(bench.__file__).parent
HAS_TORCH = importlib.util.find_spec("torch") is not None


def run(*arguments, limit=120):
    command = [sys.executable, str(TOOLS / "bench.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)


# Arguments.


def test_defaults_are_the_published_comparison():
    args = bench.parser().parse_args(["nets"])
    assert args.nets == ["resnet18", "resnet50", "vgg16", "mobilenetv2"]
    assert (args.batch, args.modes, args.threads) == ([16], ["train", "infer"], 2)
    assert bench.parser().parse_args(["small"]).batch == [1, 8, 32]
    assert bench.parser().parse_args(["frozen"]).nets == ["resnet50"]


def test_lists_are_taken_apart():
    args = bench.parser().parse_args(["nets", "--nets", "vgg16,lenet5,vgg16", "--batch", "1,16", "--modes", "infer"])
    tasks = [task for task, _ in bench.rounds(args)]
    assert [(t.net, t.mode, t.batch) for t in tasks] == [
        ("vgg16", "infer", 1), ("vgg16", "infer", 16), ("lenet5", "infer", 1), ("lenet5", "infer", 16)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nets", "--nets", "resnet18,alexnet"], "found 'alexnet'"),
        (["nets", "--batch", "16,0"], "a whole number >= 1; found '0'"),
        (["nets", "--peers", "tensorflow"], "of torch,onnxruntime"),
        (["nets", "--modes", "train", "--peers", "onnxruntime"], "none of --peers onnxruntime supports --modes train"),
        (["nets", "--nets", "vgg16", "--size", "40", "--modes", "infer", "--peers", "onnxruntime"], "steps of 32"),
        (["small", "--json", "/nowhere/out.json"], "there is no folder /nowhere"),
        (["small", "--size", "28"], "unrecognized arguments"),
        (["layers", "--shapes", "nowhere.txt"], "there is no file nowhere.txt"),
        ([], "required: command"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, text, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(arguments)
    assert end.value.code == 2
    assert text in capsys.readouterr().err


def test_a_peer_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setattr("benchmark.sides.installed", lambda engine: engine != "torch")
    with pytest.raises(SystemExit):
        bench.main(["small"])
    assert "not installed: torch" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="tuned by glibc's variables")
def test_training_is_compared_with_six_configurations_inference_with_three():
    train = opponents("train", ["torch", "onnxruntime"])
    assert [str(side) for side in train] == [
        "PyTorch NCHW", "PyTorch channels-last", "PyTorch compile",
        "PyTorch NCHW tuned", "PyTorch channels-last tuned", "PyTorch compile tuned",
    ]  # fmt: skip
    assert all(("GLIBC_TUNABLES" in side.environment) == side.tuned for side in train)
    infer = opponents("infer", ["torch", "onnxruntime"])
    assert [str(side) for side in infer] == ["onnxruntime", "PyTorch NCHW tuned", "PyTorch channels-last tuned"]


# Numbers.


def numbers(**changes):
    found = {
        "loss": np.array(2.0),
        "later losses": np.array([1.5]),
        "gradient of a": np.linspace(-1, 1, 100),
        "gradient of b": np.full(5, 1e-9),
    }
    return {**found, **changes}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"loss": np.array(2.01)}, "loss"),
        ({"later losses": np.array([1.6])}, "later losses"),
        ({"later losses": np.array([np.nan])}, "later losses: differ by nan"),
        ({"gradient of a": -numbers()["gradient of a"]}, "gradient of a"),
        ({"gradient of a": np.zeros(100)}, "gradient of a"),
        ({"gradient of a": np.zeros(99)}, "shapes"),
        ({"gradient of c": np.zeros(1)}, "alone has gradient of c"),
    ],
)
def test_numbers_that_differ_are_found(changes, text):
    assert text in disagreement(numbers(**changes), numbers())


def test_rounding_does_not_count():
    off = {name: value * (1 + 1e-4) for name, value in numbers().items()}
    assert disagreement(off, numbers()) is None
    # A gradient that is nothing but rounding beside one of 1.
    assert disagreement(numbers(**{"gradient of b": np.full(5, -3e-9)}), numbers()) is None


def test_samples_are_bounded_and_spread():
    array = np.arange(1_000_000).reshape(1000, 1000)
    found = sample(array)
    assert found.size <= 50_000 and found[-1] > 999_900
    assert np.array_equal(sample(array[:3, :3]), array[:3, :3].ravel())


# Workers.


@pytest.fixture
def folder():
    made = contest.Folder(Task("lenet5", "train", 2))
    yield made
    made.close()
    assert not made.path.exists()


def test_a_worker_is_stopped_between_its_turns(folder):
    worker = Worker(Job(Side("cconv"), "train", 1, str(folder.path)), timeout=60)
    try:
        assert worker.seconds(3) > 0
        state = Path(f"/proc/{worker.process.pid}/stat")
        if state.exists():  # Linux
            assert state.read_text().rsplit(")", 1)[1].split()[0] == "T"
            assert worker.peak_bytes() > 10_000_000
    finally:
        worker.close()
    assert worker.process.poll() is not None


def test_timed_steps_leave_the_weights_alone(folder):
    """Losses of the checked steps fall; after them each step gives the same one."""
    job = Job(Side("cconv"), "train", 1, str(folder.path))
    from benchmark import cconv_side

    steps = cconv_side.Steps(job)
    first = [steps.step() for _ in range(3)]
    assert first[0] > first[1] > first[2]
    steps.stay()
    weights = {name: array.copy() for name, array in steps.model.weights.items()}
    losses = {steps.step() for _ in range(5)}
    assert len(losses) == 1
    assert all(np.array_equal(weights[name], array) for name, array in steps.model.weights.items())


def test_a_worker_that_fails_shows_its_last_lines(folder):
    (folder.path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(WorkerError, match=r"(?s)cconv failed \(exit status 1\); its last lines:.*Error"):
        Worker(Job(Side("cconv"), "train", 1, str(folder.path)), timeout=60)


def test_a_worker_that_takes_too_long_is_ended(folder):
    with pytest.raises(WorkerError, match=r"no answer in 0\.01 s"):
        Worker(Job(Side("cconv"), "train", 1, str(folder.path)), timeout=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a process with its parent")
def test_a_stopped_worker_ends_with_the_benchmark(tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(TOOLS)!r})
from benchmark.contest import Folder, Job, Side, Task, Worker
folder = Folder(Task("lenet5", "infer", 1))
print(Worker(Job(Side("cconv"), "infer", 1, str(folder.path))).process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    status = Path(f"/proc/{int(done.stdout)}/status")
    for _ in range(100):
        # A zombie ("Z") has ended and waits for the system to take note.
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(status.read_text())


# Whole runs.


def test_inference_against_onnxruntime(tmp_path):
    out = tmp_path / "out.json"
    done = run("nets", "--nets", "lenet5", "--size", 28, "--batch", 2, "--repeats", 1, "--modes", "infer",
               "--peers", "onnxruntime", "--json", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Inference, batch 2" in done.stdout and "onnxruntime" in done.stdout
    (row,) = json.loads(out.read_text())["rows"]
    assert row["ours"] > 0 and row["theirs"] > 0 and row["peak"] > 1e8
    assert row["ratio"] == pytest.approx(row["theirs"] / row["ours"])
    assert row["task"] == {"net": "lenet5", "mode": "infer", "batch": 2, "size": 28}


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch")
@pytest.mark.parametrize(
    "arguments",
    [
        ("small", "--nets", "demo", "--batch", 8, "--markdown"),
        ("frozen", "--nets", "demo", "--batch", 2, "--markdown"),
    ],
)
def test_training_against_pytorch(arguments):
    done = run(*arguments, "--repeats", 1)
    assert done.returncode == 0, done.stderr
    assert "### Training step" in done.stdout and " PyTorch NCHW |" in done.stdout
    assert "failed" not in done.stdout


def test_sides_that_disagree_are_not_timed(monkeypatch, capsys):
    """No figure, and an exit status that says so."""
    honest = Worker.check

    def check(worker):
        found = honest(worker)
        return {key: -value for key, value in found.items()} if worker.side.engine == "cconv" else found

    monkeypatch.setattr(Worker, "check", check)
    status = bench.main(["nets", "--nets", "lenet5", "--batch", "2", "--modes", "infer", "--peers", "onnxruntime"])
    said = capsys.readouterr()
    assert status == 1
    assert "onnxruntime and cconv do not agree: outputs: differ by 2 of their size" in said.err
    assert "failed" in said.out and "FMA peak" not in said.out


def test_what_was_measured_is_printed_although_cconv_fails_later(monkeypatch, capsys):
    """The second network's file is damaged; the first one's row is there."""

    class Damaged(contest.Folder):
        def __init__(self, task):
            super().__init__(task)
            if task.net == "demo":
                (self.path / "model.onnx").write_bytes(b"no model")

    monkeypatch.setattr(contest, "Folder", Damaged)
    arguments = ["--batch", "2", "--modes", "infer", "--peers", "onnxruntime", "--repeats", "1"]
    status = bench.main(["nets", "--nets", "lenet5,demo", *arguments])
    said = capsys.readouterr()
    assert status == 1
    assert "demo infer, batch 2: cconv sets up\n  cconv failed (exit status 1); its last lines:\n" in said.err
    rows = [line.split() for line in said.out.splitlines()]
    assert ["demo", "cconv", "–", "–", "failed", *"––––"] in rows
    assert any(row[:2] == ["lenet5", "onnxruntime"] and row[2].isdecimal() for row in rows)


# Tables.


def score(ratio, side, **fields):
    return Score(Task("vgg16", fields.pop("mode", "train"), 16), side, 1.0, ratio, ratio, (ratio, ratio), **fields)


def test_the_fastest_opponent_counts():
    scores = [
        score(3.0, Side("torch", "NCHW")),
        score(2.0, Side("torch", "channels-last"), our_bytes=1, their_bytes=2),
        score(0.0, Side("torch", "compile"), failure="it does not compile"),
        score(1.5, Side("torch", "NCHW", True)),
    ]
    everything, best = report.tables(scores)
    assert len(everything[1]) == 5 and "failed" in everything[1][3]
    assert best[1][1:] == [
        ("vgg16", "PyTorch channels-last", "2.00x", "0.50x"),
        ("vgg16", "PyTorch NCHW tuned", "1.50x", "–"),
    ]


def test_tables_are_aligned():
    table = ("title", [("network", "ms"), ("vgg16", "12345"), ("a", "1")])
    assert report.aligned(table, markdown=False).splitlines()[2:] == [
        "network     ms", "--------------", "vgg16    12345", "a            1"
    ]  # fmt: skip
    assert report.aligned(table, markdown=True).splitlines()[2:4] == ["| network |    ms |", "|---------|------:|"]
