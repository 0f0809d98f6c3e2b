"""`cconv info`."""

from cconv import cli


def test_info(path, capsys):
    assert cli.main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "Conv" in out
    assert str(4 * 2 * 9 + 4) in out
