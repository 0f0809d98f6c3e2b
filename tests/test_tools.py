"""The tools that keep code and documents honest."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cconv.kernels import builds

ROOT = Path(__file__).parent.parent


def tool(*arguments):
    return subprocess.run(
        [sys.executable, "-P", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_list_of_operators_is_up_to_date():
    done = tool(ROOT / "tools" / "list_operators.py", "--check")
    assert done.returncode == 0, f"run tools/list_operators.py; {done.stderr}"


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
@pytest.mark.skipif(not {"avx2", "avx512"} & set(builds()), reason="no build with FMA runs here")
def test_hot_loops_keep_their_vectors_in_registers():
    done = tool(ROOT / "tools" / "check_assembly.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "functions, 0 faults" in done.stdout


def test_benchmark_reads_the_grammar_of_the_shapes():
    """Every file of shapes is parsed; the sizes agree with the ones the file states."""
    done = tool(
        "-c",
        "import sys; sys.path.insert(0, 'tools'); from benchmark import layers as bench; from pathlib import Path\n"
        "for path in sorted(Path('tools/shapes').glob('*.txt')):\n"
        "    layers = [l for line in path.read_text().splitlines() if (l := bench.parse(line, 2))]\n"
        "    for g in (layer.geometry for layer in layers):\n"
        "        for i, o, k, s, d, p in zip(g.input, g.output, g.kernel, g.stride, g.dilation, g.pad):\n"
        "            end = (o - 1) * s + d * (k - 1) + 1 - i - p  # the padding after the last element\n"
        "            assert -s < end <= d * (k - 1), (path, g)\n"
        "    print(path.name, len(layers))",
    )
    assert done.returncode == 0, done.stderr
    assert "resnet_50_v1_5.txt 23" in done.stdout


def test_the_fuzzer_repeats_itself_and_finds_nothing_in_a_few_mutants(tmp_path):
    arguments = ["--count", "400", "--seed", "7", "--workers", "1", "--out", tmp_path / "found"]
    runs = [tool(ROOT / "tools" / "fuzz.py", *arguments) for _ in range(2)]
    for done in runs:
        assert done.returncode == 0, done.stdout + done.stderr
    assert runs[0].stdout == runs[1].stdout
    assert "400 in all" in runs[0].stdout
    assert "ran" in runs[0].stdout and "UnsafeModelError" in runs[0].stdout
    assert not (tmp_path / "found").exists()


SPOILT = """
import os, signal, sys
sys.path.insert(0, "tools")
import fuzz

right = fuzz.Trial.run

def run(self, data, heavy, i, say=False):
    if i == 3:
        raise KeyError("three")
    if i == 5:
        os.kill(os.getpid(), signal.SIGSEGV)
    if i == 7:
        bytearray(1 << 40)
    while i == 9:
        pass
    return right(self, data, heavy, i, say)

fuzz.Trial.run, fuzz.SECONDS = run, 1
fuzz.__file__ = __file__  # what the workers run
sys.exit(fuzz.main())
"""


def test_the_fuzzer_sees_what_it_is_for(tmp_path):
    """A mutant that raises, one that kills its process, one that takes memory, one that hangs; the rest runs on."""
    (tmp_path / "spoilt.py").write_text(SPOILT)
    found = tmp_path / "found"
    done = tool(tmp_path / "spoilt.py", "--count", "12", "--workers", "1", "--keep-going", "--out", found)
    assert done.returncode == 1, done.stderr
    assert "12 in all" in done.stdout
    for kind in ("KeyError", "killed by SIGSEGV", "MemoryError", "hang"):
        assert f"1  FINDING: {kind}" in done.stdout, done.stdout
    assert sorted(int(path.stem.rpartition("-")[2]) for path in found.glob("*.onnx")) == [3, 5, 7, 9]
    stopped = tool(tmp_path / "spoilt.py", "--count", "12", "--workers", "1", "--out", tmp_path / "other")
    assert stopped.returncode == 1
    assert len(list((tmp_path / "other").glob("*.onnx"))) == 1
