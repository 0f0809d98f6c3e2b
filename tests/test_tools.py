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
def test_tiles_keep_their_accumulators_in_registers():
    done = tool(ROOT / "tools" / "check_assembly.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tile functions, 0 faults" in done.stdout


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
