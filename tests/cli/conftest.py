"""What the tests of all commands share."""

import pytest

from cconv import cli, nn


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    """A small network in a file."""
    layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 3, 3))
    file = tmp_path_factory.mktemp("models") / "net.onnx"
    layers.build((2, 6, 5), seed=0).save(file)
    return file


@pytest.fixture
def refused(capsys):
    """Runs a command that must end in one line on stderr and status 2; returns that line."""

    def run(*arguments) -> str:
        assert cli.main([str(a) for a in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("cconv: ")
        assert err.count("\n") == 1
        return err

    return run
