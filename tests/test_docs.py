"""What the documents say is what the command line does: their commands parse, and their links lead somewhere."""

import argparse
import contextlib
import importlib
import io
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest
import typer
from _pytest.config import get_config
from typer.core import TyperGroup

from genfast.cli import app

ROOT = Path(__file__).parents[1]
GENERATE = ["typer", "genfast.cli", "utils", "docs", "--name", "genfast"]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r"^([ \t]*)```(\w*)[^\n]*\n(.*?)^\1```", re.M | re.S)
LEADING = re.compile(r"\w+=.*|do|then|time|nice|!")  # what may stand before a command
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")

Command = tuple[list[str], bool]  # words, and whether it is whole, rather than named in a sentence


def commands(text: str) -> Iterator[Command]:
    """The commands of genfast and of Python's modules in code blocks and inline code of a document."""
    for _, language, block in FENCE.findall(text):
        if language in ("", "sh", "bash", "console", "shell", "text"):
            lines = block.replace("\\\n", " ").splitlines()
            if language == "console" or any(line.lstrip().startswith("$ ") for line in lines):
                lines = [line.lstrip()[2:] for line in lines if line.lstrip().startswith("$ ")]
            for line in lines:
                yield from ((words, True) for words in ours(line))
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", FENCE.sub("", text)):
        yield from ((words, False) for words in ours(code))


def ours(line: str) -> Iterator[list[str]]:
    """The commands in a line of a shell that are genfast's or a Python module's, as words from the program on."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    words.commenters = "#" if not re.search(r"\S#", line) else ""
    found: list[str] = []
    try:
        tokens = [*words, ";"]
    except ValueError:  # no line of a shell
        return
    redirected = False
    for token in tokens:
        if redirected:
            redirected = False
        elif re.fullmatch(r"[<>]+&?", token):
            redirected = True
        elif re.fullmatch(r"[&|;()]+", token):
            while found and LEADING.fullmatch(found[0]):
                found = found[1:]
            program = Path(found[0]).name if found else ""
            if (program == "genfast" and len(found) > 1) or program == "pytest":
                yield [program, *found[1:]]
            elif re.fullmatch(r"python[\d.]*", program) and found[1:2] == ["-m"] and len(found) > 2:
                yield found[2:] if found[2] in ("genfast", "pytest") else ["python", *found[2:]]
            found = []
        else:
            found.append(token)


def fault(words: list[str], whole: bool = True) -> str:
    """What is wrong with a command; "" where nothing is. It is not run."""
    words = ["2" if PLACEHOLDER.fullmatch(word) else word for word in words if word not in ("...", "…")]
    match words:
        case ["genfast", *rest]:
            return fault_of_typer(app, rest, whole)
        case ["pytest", *rest]:
            return fault_of_pytest(rest)
        case ["python", ("training" | "export") as package, *rest]:
            return fault_of_typer(importlib.import_module(f"{package}.__main__").app, rest, whole)
        case ["python", module, *rest] if module.partition(".")[0] in ("benchmarks", "tests"):
            return fault_of_benchmark(module, rest)
        case ["python", module, *_]:
            return "" if find_spec(module) else f"there is no module {module}"
    raise AssertionError(words)


def fault_of_typer(program: typer.Typer, words: list[str], whole: bool) -> str:
    command = typer.main.get_command(program)
    for option in command.params:
        option.callback = None  # that of --install-completion would install it
    name, context = "program", None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            while True:
                context = command.make_context(name, [*words], parent=context)
                words = [*context._protected_args, *context.args]
                if not isinstance(command, TyperGroup) or not words:  # as of --version
                    return ""
                name, command, words = command.resolve_command(context, words)
    except typer.Exit:  # of --help
        return ""
    except typer.TyperException as error:
        message = error.format_message()
        return "" if not whole and message.startswith("Missing argument") else message
    return ""


def fault_of_pytest(words: list[str]) -> str:
    try:
        given = pytest_parser().parse([*words])
    except (pytest.UsageError, SystemExit) as error:
        return f"pytest: {error}"
    paths = [path.partition("::")[0] for path in given.file_or_dir]
    return ", ".join(f"{path} does not exist" for path in paths if not (ROOT / path).exists())


@cache
def pytest_parser():  # type: ignore[no-untyped-def]
    config = get_config([])
    config.pluginmanager.load_setuptools_entrypoints("pytest11")
    return config._parser


class Parsed(Exception):
    """A program has parsed its options, and stops there."""


def fault_of_benchmark(module: str, words: list[str]) -> str:
    if not (ROOT / f"{module.replace('.', '/')}.py").exists():
        return f"there is no {module}"
    parse_args = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser) -> None:
        parse_args(self, words)
        raise Parsed

    said = io.StringIO()
    with warnings.catch_warnings(action="ignore"), mock.patch.object(argparse.ArgumentParser, "parse_args", parse):
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                importlib.import_module(module).main()
        except Parsed:
            return ""
        except AttributeError:
            return f"{module} has no main"
        except SystemExit as ended:  # of --help, or of argparse, which has said why
            return said.getvalue().splitlines()[-1] if ended.code else ""
    return f"{module} takes no options"


FOUND = {
    f"{path.relative_to(ROOT).as_posix()}: {shlex.join(words)}": (words, whole)
    for path in DOCUMENTS
    if path.name not in ("cli.md", "CHANGELOG.md")  # the one is generated, the other is history
    for words, whole in commands(path.read_text("utf-8"))
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that nothing is to be written into, in place of that of whoever runs the tests."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize("place", FOUND)
def test_every_command_in_the_documents_is_one(place: str) -> None:
    words, whole = FOUND[place]
    assert not fault(words, whole)


def test_the_documents_have_commands() -> None:
    assert len(FOUND) > 30
    first = {words[0] if words[0] != "python" else words[1].partition(".")[0] for words, _ in FOUND.values()}
    assert {"genfast", "training", "export", "benchmarks"} <= first


def test_every_command_has_an_example_in_its_help() -> None:
    for name, command in typer.main.get_command(app).commands.items():
        assert command.epilog and command.epilog.startswith(f"Example: genfast {name} ".rstrip())
        (words,) = ours(command.epilog.removeprefix("Example: "))
        assert not fault(words)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("genfast sample --model avatars1024 -n 4 --class 'toon head'", ""),
        ("genfast sample -n few", "valid integer"),
        ("genfast sample --order random", "--order"),
        ("genfast sample --sampler random", "--sampler"),
        ("genfast knit", "No such command 'knit'"),
        ("genfast inpaint", "Missing argument"),
        ("genfast inpaint a.png", ""),
        ("genfast info MODEL", ""),
        ("genfast info MODEL OTHER", "unexpected extra argument"),
        ("genfast sample -n N --help", ""),
        ("genfast --version", ""),
        ("genfast --install-completion", ""),
        ("genfast --install-completions", "--install-completions"),
        ("python -m training run training/recipes/fashion28.toml --devices 2", ""),
        ("python -m training run a.toml --colour red", "--colour"),
        ("python -m export nothing", "No such command 'nothing'"),
        ("python -m export features fashion OUT", ""),
        ("python -m export import nothing FILE OUT", "No such command 'nothing'"),
        ("python -m benchmarks.sampling --threads 2 --json", ""),
        ("python -m benchmarks.sampling --threads two", "invalid int value: 'two'"),
        ("python -m benchmarks.nothing", "there is no benchmarks.nothing"),
        ("python -m benchmarks.common", "has no main"),
        ("python -m pytest tests -q -m 'not slow' -x", ""),
        ("python -m pytest tests/nothing", "tests/nothing does not exist"),
        ("pytest --colours", "--colours"),
        ("python -m nothing", "there is no module nothing"),
        ("python -m venv .venv", ""),
    ],
)
def test_faults_are_seen(line: str, expected: str, home: Path) -> None:
    (words,) = ours(line)
    found = fault(words)
    assert expected in found and bool(found) == bool(expected)
    assert not [*home.rglob("*")]


def test_commands_are_found() -> None:
    text = """
Run `genfast doctor`, or `GENFAST_OFFLINE=1 genfast fid
A B`; genfast itself and `pip install genfast` are none, nor is `genfast` alone.

```sh
python3 -m venv .venv && .venv/bin/genfast sample -n 8   # draws `genfast nothing`
cat a.png | genfast inpaint - mask.png > b.png; genfast \\
  models
for i in 1 2; do python -m pytest tests/$i; done
```

```console
$ genfast info a.png
command: genfast sample
```

```python
genfast.load("genfast nothing")
```
"""
    assert [(" ".join(words), whole) for words, whole in commands(text)] == [
        ("python venv .venv", True),
        ("genfast sample -n 8", True),
        ("genfast inpaint - mask.png", True),
        ("genfast models", True),
        ("pytest tests/$i", True),
        ("genfast info a.png", True),
        ("genfast doctor", False),
        ("genfast fid A B", False),
    ]


def test_the_reference_of_commands_is_current() -> None:
    done = subprocess.run([sys.executable, "-m", *GENERATE], cwd=ROOT, capture_output=True, text=True, check=True)
    written = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert done.stdout.rstrip() == written.rstrip(), f"run: python -m {' '.join(GENERATE)} --output docs/cli.md"


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a document."""
    headings = re.findall(r"^#+ +(.*?) *$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!\w+:)([^)]+)\)", document.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        other = document.parent / path if path else document
        assert other.exists(), target
        assert not anchor or anchor in anchors(other.read_text("utf-8")), target


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(cli, shell: str) -> None:
    done = cli("--show-completion", shell, env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}, check=True)
    assert done.stderr == "" and f"_GENFAST_COMPLETE=complete_{shell} " in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)
