"""The command: exit statuses, tables, and errors in one line."""

import os
import subprocess
import sys

import pytest

import cconv
from cconv import cli, nn
from cconv.cli.program import COMMANDS


def run(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cconv", *map(str, arguments)]
    env = {**os.environ, **(environment or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)


def test_files_that_are_not_models(path, tmp_path, refused):
    text = tmp_path / "readme.onnx"
    text.write_text("not a model")
    assert "is an ONNX model" in refused("check", text)
    assert "is an ONNX model" in refused("info", text)
    assert "missing.onnx" in refused("info", tmp_path / "missing.onnx")


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


def test_version(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"cconv {cconv.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main([command, "--help"])
    assert exit.value.code == 0
    assert f"example: cconv {command}" in capsys.readouterr().out


# Streams.


def test_a_closed_pipe_is_quiet(path):
    """The reader takes nothing and goes, as `head -0` does, before cconv has written anything."""
    command = f"{sys.executable} -m cconv info {path}; echo $? >&2"
    shell = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    shell.stdout.close()
    assert shell.stderr.read() == "141\n"
    shell.wait()
    shell.stderr.close()


def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path):
    model = nn.Linear(2, 3).build((2,), name="Größe")
    model.save(tmp_path / "größe.onnx")
    done = run("info", tmp_path / "größe.onnx", environment={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    missing = run("info", tmp_path / "fehlt-ü.onnx", environment={"PYTHONIOENCODING": "ascii"})
    assert missing.returncode == 2
    assert r"fehlt-\xfc.onnx" in missing.stderr and missing.stderr.count("\n") == 1


def test_a_process_without_streams(path, tmp_path):
    """As under pythonw or a service: sys.stdout and sys.stderr are None."""
    code = (
        "import sys; sys.stdout = sys.stderr = None\n"
        "from cconv import cli\n"
        f"status = cli.main(['check', {str(path)!r}]), cli.main(['info', 'missing.onnx'])\n"
        f"open({str(tmp_path / 'status')!r}, 'w').write(repr(status))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert (tmp_path / "status").read_text() == "(0, 2)"


# Options that commands share.


@pytest.fixture(scope="module")
def open_sizes(tmp_path_factory):
    """A file whose images may have any size."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(4, 2))
    model = layers.build((3, 8, 8))
    shape = model.ir.graph.inputs[0].shape
    shape[2], shape[3] = "height", "width"
    file = tmp_path_factory.mktemp("models") / "open.onnx"
    model.save(file)
    return file


@pytest.mark.parametrize("command", ["check", "certify", "info", "doctor"])
def test_a_shape_closes_what_the_model_leaves_open(command, open_sizes, capsys):
    name = cconv.load(open_sizes).input_names[0]
    assert cli.main([command, str(open_sizes), "--shape", f"{name}=2,3,6,5"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["check", "certify"])
def test_without_a_shape_the_error_asks_for_it(command, open_sizes, refused):
    assert "height" in refused(command, open_sizes) or "shape" in refused(command, open_sizes)


def test_more_threads_than_are_of_use_are_capped_with_a_note(path):
    done = run("check", path, environment={"OMP_NUM_THREADS": "99999"})
    assert done.returncode == 0
    assert "99999" in done.stderr and "Traceback" not in done.stderr
