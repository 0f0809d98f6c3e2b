"""`import cconv`: cheap, and every public name is there."""

import ast
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import cconv

ROOT = Path(__file__).parents[1]


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_slow():
    loaded = python("import sys, cconv; print(*{name.split('.')[0] for name in sys.modules})").split()
    assert not {"onnxruntime", "onnx", "numpy", "torch", "tqdm", "safetensors", "matplotlib"} & set(loaded)


def test_use_loads_no_onnxruntime():
    code = (
        "import sys, cconv; from cconv import nn, finetune, data\n"
        "cconv.load, cconv.Model, cconv.show_versions(), cconv.set_num_threads(1)\n"
        "print('onnxruntime' in sys.modules)"
    )
    assert python(code).endswith("False")


def test_without_onnxruntime_a_model_is_trained_and_saved_and_a_check_says_what_to_install(tmp_path):
    code = f"""
import sys; sys.modules["onnxruntime"] = None
import numpy as np, cconv
from cconv import finetune, nn
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3)).build((1, 8, 8))
x, y = np.zeros((4, 1, 8, 8), np.float32), np.arange(4) % 3
model = finetune.repair(finetune.replace_head(model, classes=3))
cconv.Trainer(model).fit((x, y), epochs=2)
model.save({str(tmp_path / "net.onnx")!r})
try:
    cconv.check({str(tmp_path / "net.onnx")!r})
except cconv.CconvError as error:
    print(type(error).__name__, error)
"""
    said = python(code)
    assert "MissingPackageError" in said and "pip install onnxruntime" in said


def test_loading_a_model_needs_no_packages_but_numpy_and_onnx_ir():
    """What a user touches first comes quickly: these two take most of its time."""
    code = (
        "import sys, numpy, onnx_ir; before = set(sys.modules)\n"
        "import cconv; cconv.load, cconv.nn, cconv.Model\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    loaded = {name for name in python(code).split() if "cython" not in name}
    assert "cconv" in loaded and loaded <= {"cconv", "numpy", "onnx", "onnx_ir"}


def test_the_model_of_a_lazy_import_runs():
    """Model.run needs cconv.plan, which every way to a model must have loaded."""
    for way in ("from cconv import nn", "import cconv.nn as nn", "import cconv; nn = cconv.nn"):
        code = f"{way}\nimport numpy as np\nprint(nn.ReLU().build((2,)).run(np.ones((1, 2), np.float32)).sum())"
        assert python(code) == "2.0"


@pytest.mark.parametrize("name", cconv.__all__)
def test_every_name_is_there(name):
    assert getattr(cconv, name) is not None
    assert name in dir(cconv)


def test_unknown_names():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = cconv.nothing


def test_type_checkers_see_the_same_names():
    """The block under TYPE_CHECKING and the table of lazy names agree, modules included."""
    tree = ast.parse(Path(cconv.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # an explicit re-export
            module, name = cconv._LAZY[alias.name]
            expected = (module, name) if name else (module.rpartition(".")[0], module.rpartition(".")[2])
            seen[alias.name] = (node.module, alias.name)
            assert seen[alias.name] == expected
    assert set(seen) == set(cconv._LAZY)
    assert (Path(cconv.__file__).parent / "py.typed").exists()


def test_check_is_the_function_wherever_it_is_imported_from():
    assert isinstance(cconv.check, types.FunctionType)
    code = "import cconv, cconv.prove\nfrom cconv.prove import check\nprint(cconv.check is check)"
    assert python(code) == "True"


def test_version_is_that_of_the_package():
    assert cconv.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_show_versions(capsys):
    cconv.show_versions()
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    for name in (
        "cconv",
        "build",
        "OpenMP",
        "threads",
        "processor",
        "numpy",
        "onnx-ir",
        "Python",
        "platform",
    ):
        assert lines[name].strip()
    assert lines["onnxruntime"].strip() != "not installed"
