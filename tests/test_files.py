"""A file is written whole or stays as it was."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from cconv.errors import CconvError, OutputError
from cconv.files import atomic_write, temporary_name


def test_writes_bytes_and_pieces(tmp_path):
    target = tmp_path / "a.bin"
    atomic_write(target, b"one")
    assert target.read_bytes() == b"one"
    atomic_write(str(target), (piece for piece in (b"two", memoryview(b" and "), b"three")))
    assert target.read_bytes() == b"two and three"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_new_file_has_the_usual_permissions_and_an_earlier_one_keeps_its_own(tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    atomic_write(tmp_path / "new", b"x")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    plain.chmod(0o666)
    atomic_write(plain, b"x")
    assert stat.S_IMODE(plain.stat().st_mode) == 0o666


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failure_halfway_leaves_the_earlier_file(tmp_path, error):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def pieces():
        yield b"new"
        raise error("halfway")

    with pytest.raises(error, match="halfway"):
        atomic_write(target, pieces())
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_full_disk_is_an_output_error(tmp_path, monkeypatch):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device.*as it was"):
        atomic_write(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"no folder '.*nowhere'"):
        atomic_write(tmp_path / "nowhere" / "a.bin", b"x")
    with pytest.raises(OSError):
        atomic_write(tmp_path / "nowhere" / "a.bin", b"x")
    assert issubclass(OutputError, CconvError)


def test_an_unwritable_folder_is_named(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):  # root writes anywhere but where the kernel itself serves the files
            folder = "/proc/self"
        with pytest.raises(OutputError, match=r"the folder must be writable.*(locked|/proc/)"):
            atomic_write(os.path.join(folder, "a.bin"), b"x")
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="a folder"):
        atomic_write(tmp_path / "folder", b"x")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="pipe"):
        atomic_write(tmp_path / "pipe", b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_the_next_save_removes_what_killed_processes_left(tmp_path):
    """Not what a running process is writing, nor what a process of another machine has written."""
    child = subprocess.Popen(["sleep", "60"])
    gone = subprocess.Popen(["true"])
    gone.wait()
    try:
        name = temporary_name(tmp_path).name
        own, host = f"-{os.getpid()}-", name.split("-")[1]
        abandoned = tmp_path / name.replace(own, f"-{gone.pid}-")
        running = tmp_path / name.replace(own, f"-{child.pid}-")
        elsewhere = tmp_path / name.replace(own, f"-{gone.pid}-").replace(f"-{host}-", "-another_host-")
        for path in (abandoned, running, elsewhere):
            path.write_bytes(b"half")
        atomic_write(tmp_path / "net.onnx", b"whole")
        assert sorted(os.listdir(tmp_path)) == sorted([running.name, elsewhere.name, "net.onnx"])
    finally:
        child.kill()
        child.wait()


def test_a_process_that_is_killed_while_it_writes(tmp_path):
    code = (
        "import os, signal\n"
        "from cconv.files import atomic_write\n"
        "def pieces():\n"
        "    yield b'new'\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"atomic_write({str(tmp_path / 'net.onnx')!r}, pieces())"
    )
    (tmp_path / "net.onnx").write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "net.onnx").read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2
    atomic_write(tmp_path / "net.onnx", b"newer")
    assert os.listdir(tmp_path) == ["net.onnx"]
