"""`cconv check`."""

import numpy as np

import cconv
from cconv import cli


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


def test_inputs_that_are_not_arrays(path, tmp_path, refused):
    (tmp_path / "x.npy").write_text("1 2 3")
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    np.save(tmp_path / "small.npy", np.zeros((1, 2, 6, 4), np.float32))
    for name in ("x.npy", "objects.npy"):
        assert "without Python objects" in refused("check", path, "--inputs", tmp_path / name)
    assert "shape" in refused("check", path, "--inputs", tmp_path / "small.npy")
    assert "absent.npy" in refused("check", path, "--inputs", tmp_path / "absent.npy")


def test_unknown_provider(path, refused):
    assert "'gpu9000'" in refused("check", path, "--providers", "cpu,gpu9000")
