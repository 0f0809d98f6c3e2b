"""The command: exit statuses, tables, and errors in one line."""

import os
import subprocess
import sys

import numpy as np
import pytest

import cconv
from cconv import cli, nn


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cconv", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A small network in a file."""
    layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 3, 3))
    file = tmp_path_factory.mktemp("models") / "net.onnx"
    layers.build((2, 6, 5), seed=0).save(file)
    return file


def refused(capsys, *arguments) -> str:
    """Run a command that must end in one line on stderr and status 2."""
    assert cli.main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cconv: ")
    assert err.count("\n") == 1
    return err


def test_check_of_random_inputs(path, capsys):
    assert cli.main(["check", str(path), "--batch", "5"]) == 0
    out = capsys.readouterr().out
    assert "5 samples: ok" in out
    assert "CPU" in out


def test_check_of_given_inputs(path, tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((3, 2, 6, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", **{cconv.load(path).input_names[0]: x})
    for name in ("x.npy", "x.npz"):
        assert cli.main(["check", str(path), "--inputs", str(tmp_path / name), "--providers", "all"]) == 0
        assert "3 samples: ok" in capsys.readouterr().out


def test_check_that_fails_has_status_1(path, capsys, monkeypatch):
    """A run in cconv that is off by one."""
    right = cconv.Model.run
    monkeypatch.setattr(cconv.Model, "run", lambda self, x, threads=None: right(self, x, threads) + 1)
    assert cli.main(["check", str(path)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_check_on_no_provider_has_status_1(path, capsys):
    assert cli.main(["check", str(path), "--providers", "nnapi"]) == 1
    assert "no provider ran" in capsys.readouterr().out


def test_info(path, capsys):
    assert cli.main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "Conv" in out
    assert str(4 * 2 * 9 + 4) in out


def test_versions(capsys):
    assert cli.main(["versions"]) == 0
    assert cconv.__version__ in capsys.readouterr().out


def test_files_that_are_not_models(path, tmp_path, capsys):
    text = tmp_path / "readme.onnx"
    text.write_text("not a model")
    assert "is an ONNX model" in refused(capsys, "check", text)
    assert "is an ONNX model" in refused(capsys, "info", text)
    assert "missing.onnx" in refused(capsys, "info", tmp_path / "missing.onnx")


def test_inputs_that_are_not_arrays(path, tmp_path, capsys):
    (tmp_path / "x.npy").write_text("1 2 3")
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    np.save(tmp_path / "small.npy", np.zeros((1, 2, 6, 4), np.float32))
    for name in ("x.npy", "objects.npy"):
        assert "without Python objects" in refused(capsys, "check", path, "--inputs", tmp_path / name)
    assert "shape" in refused(capsys, "check", path, "--inputs", tmp_path / "small.npy")
    assert "absent.npy" in refused(capsys, "check", path, "--inputs", tmp_path / "absent.npy")


def test_unknown_provider(path, capsys):
    assert "'gpu9000'" in refused(capsys, "check", path, "--providers", "cpu,gpu9000")


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--seed", "-1"], ["demo", "--threads", "0"]])
def test_wrong_calls(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    assert exit.value.code == 2
    assert "usage: cconv" in capsys.readouterr().err


def test_the_process_reports_its_status(path, tmp_path):
    assert run("info", path).returncode == 0
    found = run("info", tmp_path / "missing.onnx")
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
def test_demo_refuses_a_folder_that_takes_no_files(capsys):
    """Not even root can make files in /proc."""
    for folder in ("/proc/self", "/proc/cconv-demo"):
        assert "Choose another with --out" in refused(capsys, "demo", "--out", folder)


def test_demo_refuses_a_folder_that_is_a_file(tmp_path, capsys, monkeypatch):
    """Before anything is trained."""
    monkeypatch.setattr(cconv.Trainer, "fit", lambda *a, **k: pytest.fail("trained first"))
    file = tmp_path / "file"
    file.touch()
    assert "Choose another with --out" in refused(capsys, "demo", "--out", file)
    assert "Choose another with --out" in refused(capsys, "demo", "--out", file / "below")
