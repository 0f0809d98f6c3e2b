"""Imports point one way: a file imports from its own layer and from those before it, and no circle closes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "cconv"

# A file may import from its own layer and from the layers listed before it. Names of folders, or of files without
# ".py".
LAYERS = [
    {"errors"},
    {"arguments", "files", "text"},
    {"kernels"},
    {"versions"},
    {"ops"},
    {"graph"},
    {"plan"},
    {"model"},
    {"concerns"},
    {"functional", "nn"},
    {"train"},
    {"callbacks", "losses", "metrics", "optim", "schedules"},
    {"data"},
    {"prove"},
    {"finetune"},
    {"explain"},
    {"demo"},
    {"cli", "onnx_backend"},
    {"__main__"},
]
DEPTH = {name: i for i, layer in enumerate(LAYERS) for name in layer}

# The package itself names everything, lazily; `from cconv import __version__` is all that others take of it.
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def imported_layers(path: Path) -> set[str]:
    """Layers that a file imports, at the top or inside of functions or `if TYPE_CHECKING`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "cconv":
            names = [f"cconv.{alias.name}" for alias in node.names if alias.name != "__version__"]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module or ""]
        else:
            continue
        found.update(name.split(".")[1] for name in names if name.startswith("cconv."))
    return found


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_the_walk_sees_imports():
    assert imported_layers(ROOT / "plan" / "session.py") == {
        "arguments", "errors", "graph", "kernels", "ops", "plan",
    }  # fmt: skip
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path):
    mine = layer_of(path)
    assert mine in DEPTH, f"{path} belongs to no layer"
    below = {name for name in imported_layers(path) if DEPTH[name] > DEPTH[mine]}
    assert not below, f"{mine} imports from {below}, which comes after it"
    beside = {name for name in imported_layers(path) - {mine} if DEPTH[name] == DEPTH[mine]}
    assert not beside, f"{mine} imports from {beside} beside it"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imported_modules(path: Path) -> set[str]:
    """Modules of this package that a file imports, at the top, inside of functions or for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(inner & MODULES.keys() or {node.module})
    return found & MODULES.keys()


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Circles in a graph of imports, each as the modules along it."""
    found, done = [], set()

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append([*trail[trail.index(name) :], name])
        elif name not in done:
            for other in sorted(edges[name]):
                visit(other, [*trail, name])
            done.add(name)

    for name in sorted(edges):
        visit(name, [])
    return found


def test_no_circle_of_imports():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c", "a"]]
    edges = {name: imported_modules(path) - {name} for name, path in MODULES.items()}
    assert edges["cconv.plan.session"] >= {"cconv.graph.graph", "cconv.plan.plan"}
    assert not circles(edges)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_onnxruntime_is_for_prove_alone(path):
    names = {
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    used = {name.split(".")[0] for name in names} & {"onnxruntime", "torch", "tensorflow"}
    assert not used or (used == {"onnxruntime"} and layer_of(path) == "prove")
