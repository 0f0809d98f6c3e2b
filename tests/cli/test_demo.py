"""The demo as a user runs it: its table, its files, the same figures at any number of threads."""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios

import numpy as np
import onnxruntime
import pytest

import cconv
from cconv import data


def run(folder, *options):
    command = [sys.executable, "-m", "cconv", "demo", "--out", str(folder), "--no-progress", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, run(folder, "--threads", "1")


def shares(output: str) -> dict[str, float]:
    """The accuracies of the table by what was trained."""
    found = re.findall(r"^(\w.*?) {2,}\d+ images +([\d.]+) % of \d+ +[\d.]+$", output, re.MULTILINE)
    return {name: float(share) for name, share in found}


def without_seconds(output: str, folder) -> list[str]:
    """The words of the table but for seconds, rules (as wide as the table) and the folder's name."""
    output = re.sub(r"(% of \d+) +[\d.]+$", r"\1", output.replace(str(folder), ""), flags=re.MULTILINE)
    return re.sub(r"^-+$", "", output, flags=re.MULTILINE).split()


def test_ends_well_and_prints_a_table(result):
    _, ran = result
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    found = shares(ran.stdout)
    assert list(found) == ["pretrained on digits 0-4", "fine-tuned to digits 5-9", "digits 5-9 from scratch"]
    # The means of five seeds are in the README; these leave room for the rounding of other processors.
    assert found["pretrained on digits 0-4"] > 97
    assert found["fine-tuned to digits 5-9"] > found["digits 5-9 from scratch"] > 70
    assert len(re.findall(r"100\.0 % of 602 +ok", ran.stdout)) == 2


def test_files_do_in_onnxruntime_what_the_table_says(result):
    folder, ran = result
    found = shares(ran.stdout)
    assert {path.name for path in folder.iterdir()} == {"base.onnx", "tuned.onnx"}
    for name, classes, line in (
        ("base.onnx", range(5), "pretrained on digits 0-4"),
        ("tuned.onnx", range(5, 10), "fine-tuned to digits 5-9"),
    ):
        x, y = data.digits(classes, "test")
        session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {session.get_inputs()[0].name: x})
        right = 100 * np.mean(logits.argmax(axis=1) % 5 == y)
        assert right == pytest.approx(found[line], abs=0.051)
        assert cconv.check(folder / name, x).ok


def test_only_the_head_differs_between_the_files(result):
    folder, _ = result
    base, tuned = (cconv.load(folder / name) for name in ("base.onnx", "tuned.onnx"))
    changed = [n for n in base.weights if not np.array_equal(base.weights[n], tuned.weights[n])]
    assert changed == cconv.finetune.head_weights(tuned)


def test_same_table_and_files_at_two_threads(result, tmp_path):
    folder, ran = result
    again = run(tmp_path, "--threads", "2")
    assert again.returncode == 0, again.stderr
    assert without_seconds(again.stdout, tmp_path) == without_seconds(ran.stdout, folder)
    for name in ("base.onnx", "tuned.onnx"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_another_seed_is_another_run(result, tmp_path):
    _, ran = result
    other = run(tmp_path, "--seed", "1", "--epochs", "1")
    assert other.returncode == 0
    assert shares(other.stdout) != shares(ran.stdout)


def test_progress_goes_to_stderr(tmp_path):
    """To a terminal alone: in a log a bar is a line for every refresh."""
    command = [sys.executable, "-m", "cconv", "demo", "--out", str(tmp_path / "new/folder"), "--epochs", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert ran.stderr == ""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=300, check=True)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert b"from scratch" in shown
    assert "epochs/s" not in ran.stdout


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
def test_demo_refuses_a_folder_that_takes_no_files(refused):
    """Not even root can make files in /proc."""
    for folder in ("/proc/self", "/proc/cconv-demo"):
        assert "Choose another with --out" in refused("demo", "--out", folder)


def test_demo_refuses_a_folder_that_is_a_file(tmp_path, monkeypatch, refused):
    """Before anything is trained."""
    monkeypatch.setattr(cconv.Trainer, "fit", lambda *a, **k: pytest.fail("trained first"))
    file = tmp_path / "file"
    file.touch()
    assert "Choose another with --out" in refused("demo", "--out", file)
    assert "Choose another with --out" in refused("demo", "--out", file / "below")
