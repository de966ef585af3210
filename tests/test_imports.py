"""The import rules: data flows training -> export -> bundle -> genfast, and genfast starts light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "genfast": {"torch", "lightning_fabric", "onnx", "training", "export", "tests", "click"},
    "training": {"export", "onnxruntime", "tests", "click"},
    "export": {"onnxruntime", "tests", "click"},
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The top-level packages that a file imports, each with whether that happens when the file itself is imported."""
    tree = ast.parse(path.read_text("utf-8"))
    lazy = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            yield name.partition(".")[0], id(node) not in lazy


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_what_they_may(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        assert not FORBIDDEN[package] & {name for name, _ in imports(path)}, path


def test_only_the_session_imports_onnxruntime_and_lazily() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), eager)
        for path in (ROOT / "genfast").rglob("*.py")
        for name, eager in imports(path)
        if name == "onnxruntime"
    }
    assert found == {("genfast/session.py", False)}


def test_nothing_is_unpickled() -> None:
    """Neither by a module that does so, nor by numpy, whose load asks for it to be forbidden each time."""
    unpicklers = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path in (ROOT / "genfast").rglob("*.py"):
        assert not unpicklers & {name for name, _ in imports(path)}, path
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                assert "allow_pickle=False" in map(ast.unparse, node.keywords), (path, node.lineno)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import genfast", {"numpy", "pydantic", "PIL", "onnxruntime", "torch", "typer"}),
        ("import genfast.cli", {"numpy", "pydantic", "PIL", "onnxruntime", "torch", "rich.progress"}),
        ("import genfast; genfast.load", {"onnxruntime", "torch"}),
        ("import genfast.metrics.evaluate, genfast.cli.fid", {"onnxruntime", "torch"}),
    ],
)
def test_imports_stay_light(statement: str, absent: set[str]) -> None:
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())
