"""The README keeps what it says: its Python runs, its commands are where .ci/run looks for them."""

import re
from pathlib import Path

import pytest

from cconv.demo import network

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "cconv-demo").mkdir()
    network(40).build((1, 8, 8), seed=0).save(tmp_path / "cconv-demo/base.onnx")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "tuned.onnx").is_file()
    assert "ok" in capsys.readouterr().out


ENDS = {"demo": ".venv/bin/cconv demo", "tests": ".venv/bin/pytest"}


@pytest.mark.parametrize("mark", ENDS)
def test_commands_follow_their_marks(mark):
    (command,) = re.findall(rf"^<!-- {mark} -->\n```sh\n(.*)\n```$", TEXT, re.MULTILINE)
    assert command.startswith("python3 -m venv ")
    assert command.endswith(ENDS[mark])


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert len(links) > 4
    assert [link for link in links if not (ROOT / link).exists()] == []
