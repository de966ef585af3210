"""The import rules: data flows training -> export -> bundle -> genfast, in no circle, and genfast starts light."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("genfast", "training", "export", "benchmarks")
MOST_LINES = 300  # of a file: longer ones have more than one idea

FORBIDDEN = {
    "genfast": {"torch", "lightning_fabric", "onnx", "training", "export", "benchmarks", "tests", "click"},
    "training": {"export", "benchmarks", "onnxruntime", "tests", "click"},
    "export": {"benchmarks", "onnxruntime", "tests", "click"},
    "benchmarks": {"tests"},
}

Modules = Mapping[str, Path]
Edges = Mapping[str, set[str]]


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The top-level packages that a file imports, each with whether that happens when the file itself is imported."""
    tree = parsed(path)
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
    for path in files(package):
        assert not FORBIDDEN[package] & {name for name, _ in imports(path)}, path


def test_only_the_session_imports_onnxruntime_and_lazily() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), eager)
        for path in files("genfast")
        for name, eager in imports(path)
        if name == "onnxruntime"
    }
    assert found == {("genfast/runtime/session.py", False)}


def test_nothing_is_unpickled() -> None:
    """Neither by a module that does so, nor by numpy, whose load asks for it to be forbidden each time."""
    unpicklers = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path in files("genfast"):
        assert not unpicklers & {name for name, _ in imports(path)}, path
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                assert "allow_pickle=False" in map(ast.unparse, node.keywords), (path, node.lineno)


HELP = """
try:
    cli.main()
except SystemExit as ended:
    assert not ended.code
"""


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import genfast", {"numpy", "pydantic", "PIL", "onnxruntime", "torch", "typer"}),
        ("import genfast.cli", {"numpy", "pydantic", "PIL", "onnxruntime", "torch", "rich.progress"}),
        (f"from genfast import cli; sys.argv = ['genfast', '--help']\n{HELP}", {"numpy", "pydantic", "PIL"}),
        (f"from genfast import cli; sys.argv = ['genfast', 'sample', '-h']\n{HELP}", {"numpy", "PIL", "onnxruntime"}),
        ("import genfast.samplers.options", {"numpy", "pydantic"}),
        ("import genfast; genfast.load", {"onnxruntime", "torch", "ray"}),
        ("import genfast.metrics.evaluate, genfast.cli.fid", {"onnxruntime", "torch"}),
    ],
)
def test_imports_stay_light(statement: str, absent: set[str]) -> None:
    program = f"import sys; {statement}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not absent & set(done.stderr.split())


def modules(root: Path, packages: tuple[str, ...]) -> dict[str, Path]:
    """All modules by their full names; a package's own is that of its __init__.py."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }


def imported(name: str, known: Modules) -> set[str]:
    """The modules that one imports, at any time: in functions and for types as well.

    Of a package it imports the __init__.py where it wants a name that is defined there, else the module of that name.
    """
    package = name if known[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(parsed(known[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -node.level + 1 or None] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            inner = {f"{source}.{alias.name}" for alias in node.names}
            found |= (inner & known.keys()) | ({source} if inner - known.keys() else set())
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
            found |= {each.value for each in node.args[:1] if isinstance(each, ast.Constant)}
    return found & known.keys() - {name}


def circles(edges: Edges) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan 1972), each as one way round in it."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for other in sorted(edges[name]):
            if other not in order:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], order[other])
        if lowest[name] == order[name]:
            place = stack.index(name)
            found.append({*stack[place:]})
            del stack[place:]

    for name in edges:
        if name not in order:
            visit(name)
    return [way_round(edges, component) for component in found if len(component) > 1]


def way_round(edges: Edges, component: set[str]) -> list[str]:
    """The shortest way from the first module of a component back to it."""
    first = min(component)
    ways = [[first]]
    while True:
        ways = [[*way, other] for way in ways for other in sorted(edges[way[-1]] & component) if other not in way[1:]]
        if closed := [way for way in ways if way[-1] == first]:
            return closed[0]


def graph(root: Path, packages: tuple[str, ...]) -> dict[str, set[str]]:
    known = modules(root, packages)
    return {name: imported(name, known) for name in known}


def test_no_module_imports_itself_by_way_of_others() -> None:
    found = circles(graph(ROOT, PACKAGES))
    assert not found, "circles of imports: " + "; ".join(" -> ".join(circle) for circle in found)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"a": "import p.b", "b": "from p import a"}, ["p.a", "p.b", "p.a"]),
        ({"a": "def f():\n    from p.b import x", "b": "import p.a"}, ["p.a", "p.b", "p.a"]),
        ({"a": "if TYPE_CHECKING:\n    from .b import x", "b": "from . import c", "c": "from .a import y"}, "abca"),
        ({"__init__": "from p.a import f", "a": "from p import VERSION"}, ["p", "p.a", "p"]),
        ({"__init__": "from p.a import f", "a": "from p import b", "b": ""}, None),
        ({"__init__": "", "a": "from p import b", "b": "import os, p.c", "c": ""}, None),
        ({"a": "import importlib\nimportlib.import_module('p.b')", "b": "import p.a"}, ["p.a", "p.b", "p.a"]),
    ],
)
def test_circles_are_found(tmp_path: Path, texts: dict[str, str], expected: list[str] | str | None) -> None:
    (tmp_path / "p").mkdir()
    for name, text in texts.items():
        (tmp_path / "p" / f"{name}.py").write_text(text)
    wanted = [] if expected is None else [[f"p.{name}" for name in expected] if expected == "abca" else expected]
    assert circles(graph(tmp_path, ("p",))) == wanted


@pytest.mark.parametrize("package", ["genfast", "training", "export"])
def test_a_file_has_one_idea(package: str) -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in files(package)}
    assert not {path: lines for path, lines in lengths.items() if lines > MOST_LINES}
