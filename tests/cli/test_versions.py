"""`cconv versions`."""

import cconv
from cconv import cli


def test_versions(capsys):
    assert cli.main(["versions"]) == 0
    assert cconv.__version__ in capsys.readouterr().out
