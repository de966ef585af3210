"""Bad input ends in one line on stderr and the right exit code, and leaves nothing behind."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import genfast
from genfast.bundles import hub
from genfast.images import folder
from tests.genfast.cli import malformed
from tests.genfast.cli import world as files
from tests.genfast.cli.conftest import Run


def fails(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("genfast: error: ") and message in line


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_bundle: Path,
    token_bundle: Path,
    attribute_bundle: Path,
    means: Path,
    halves: Path,
) -> Path:
    folder = tmp_path_factory.mktemp("world")
    garments = hub.find("fashion") / "fashion-mnist-test.npz"
    files.write(folder, tiny_bundle, token_bundle, attribute_bundle, means, halves, garments)
    return folder


@pytest.fixture
def here(world: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Run:
    """Runs a command line in that folder."""
    monkeypatch.chdir(world)
    return run


def listing(folder: Path) -> dict[Path, tuple[int, int]]:
    """Everything below a folder, with what would tell that it was written to."""
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {path: (stat.st_size, 0 if path.is_dir() else stat.st_mtime_ns) for path, stat in found.items()}


@pytest.mark.parametrize(("line", "code", "message"), malformed.ROWS, ids=[line for line, *_ in malformed.ROWS])
def test_what_is_malformed(here: Run, world: Path, line: str, code: int, message: str) -> None:
    before = listing(world)
    found, out, err = here(line)
    assert (found, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith("genfast: error: ") and message in err
    assert listing(world) == before


@pytest.mark.parametrize(("line", "code", "message"), malformed.ROWS[::24])
def test_a_process_says_the_same(cli, world: Path, line: str, code: int, message: str) -> None:
    before = listing(world)
    fails(cli(*shlex.split(line), cwd=world), code, message)
    assert listing(world) == before


@pytest.mark.parametrize(("line", "code", "message"), malformed.ROWS[::12])
def test_json_has_a_document_for_errors(here: Run, line: str, code: int, message: str) -> None:
    found, out, err = here(f"{line} --json")
    document = json.loads(out)
    assert found == code and document.keys() == {"schema", "error", "exit_code"}
    assert (document["schema"], document["exit_code"]) == (2, code)
    assert message in document["error"] and err == f"genfast: error: {document['error']}\n"


def test_a_batch_that_memory_does_not_hold(here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("genfast.models.base.Model.batches", too_much)
    code, out, err = here("sample --model tiny")
    assert (code, out) == (1, "")
    assert err == "genfast: error: out of memory; a smaller batch or image takes less (Unable to allocate 9 TiB)\n"


def test_a_file_size_limit_leaves_nothing_half_written(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    wrapper = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300));"
        "runpy.run_module('genfast', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", wrapper, "sample", "--model", tiny_bundle, "--out", tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(genfast.__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    fails(done, 1, f"cannot write {tmp_path}/out/tiny-0-0.png: File too large")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
def test_a_full_disk_leaves_whole_images(cli, tiny_bundle: Path, small_disk: Path, format: str) -> None:
    done = cli("sample", "--model", tiny_bundle, "-n", 20, "--out", small_disk, "--format", format)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line[:16]) == (1, "genfast: error: ") and line.endswith(": No space left on device")
    left = list(small_disk.iterdir())
    assert {*done.stdout.splitlines()} == {*map(str, left)}  # what is printed is there, whole
    assert 0 < len(left) < 20
    assert folder.read_all(left).shape[1:] == (6, 8, 3) and all(path.suffix == f".{format}" for path in left)
