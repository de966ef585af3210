"""Runs that are ended from outside, at any moment, leave whole files and go on where they stopped."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genfast
from genfast.images import folder, io, params

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(genfast.__file__).parents[1])}
KILLS = 18  # of each command


def start(*arguments: object, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "genfast", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=ENVIRONMENT | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell ignores in the background
    )


def wait_for(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def whole(folder: Path, known: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """The files that bear a final name, each of which, unless known, opens and says what drew it."""
    finals = frozenset(path for path in folder.iterdir() if path.suffix != ".part")
    assert all(io.read(path).size and params.read_params(path) for path in finals - known)
    return finals


def kill_often(folder: Path, most: int, *arguments: object) -> None:
    """Start a command again and again, and kill it when it has written some files, at most so many, and a moment."""
    chance = random.Random(0)
    found: frozenset[Path] = frozenset()
    for _ in range(KILLS):
        wanted = len(found) + chance.randint(0, most)
        with start(*arguments, stdout=subprocess.DEVNULL) as process:  # nobody reads: a pipe would fill up
            wait_for(process, lambda wanted=wanted: len(list(folder.iterdir())) >= wanted)
            time.sleep(chance.uniform(0, 0.03))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        found = whole(folder, found)


def grow_old(folder: Path) -> None:
    """Let two hours pass for what killed runs left."""
    for path in folder.glob(".*.part"):
        os.utime(path, (time.time() - 7200,) * 2)


@pytest.mark.slow
def test_kills_of_sample(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    run = ("sample", "--model", tiny_bundle, "--no-grid", "--skip-existing", "--batch", 4, "--out", out, "-n")
    kill_often(out, 10, *run, 20_000)
    grow_old(out)
    kept = {path: path.stat().st_mtime_ns for path in whole(out)}
    n = len(kept) + 10
    cli(*run, n, check=True)
    assert set(out.iterdir()) == whole(out) and len(whole(out)) == n
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    drawn = genfast.load(str(tiny_bundle)).sample(n)
    assert np.array_equal(folder.read_all([out / f"tiny-0-{i}.png" for i in range(n)]), drawn)


@pytest.mark.slow
def test_kills_of_inpaint(cli, token_bundle: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    out.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (10, 14, 3), np.uint8)
    for i in range(200):
        Image.fromarray(picture).save(photos / f"{i:03}.png")
    hole = np.zeros((10, 14), bool)
    hole[3:6, 4:9] = True
    Image.fromarray(hole).save(tmp_path / "mask.png")
    run = ("inpaint", photos, tmp_path / "mask.png", "--model", token_bundle, "--skip-existing", "--out", out)
    kill_often(out, 6, *run)
    grow_old(out)
    cli(*run, check=True)
    assert set(out.iterdir()) == whole(out) and len(whole(out)) == 200
    assert all(np.array_equal(io.read(path)[~hole], picture[~hole]) for path in out.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_in_order(tiny_bundle: Path, tmp_path: Path, number: int, code: int) -> None:
    with start("sample", "--model", tiny_bundle, "-n", 20_000, "--json", "--out", tmp_path) as process:
        wait_for(process, lambda: any(tmp_path.glob("*.png")))
        process.send_signal(number)
        assert process.communicate() == (b"", b"")
    assert process.returncode == code
    assert set(tmp_path.iterdir()) == whole(tmp_path)


SLEEP = "import time; print('importing', flush=True); time.sleep(60)"
LOSE = """
import time
print('importing', flush=True)
try:
    time.sleep(60)
except BaseException:  # as modules in C do
    pass
time.sleep(60)
"""
TURN = """
import time
print('importing', flush=True)
try:
    time.sleep(60)
except BaseException:
    raise ImportError
"""


@pytest.mark.parametrize("module", [SLEEP, LOSE, TURN])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_that_has_hardly_begun(tmp_path: Path, number: int, code: int, module: str) -> None:
    (tmp_path / "typer.py").write_text(module)
    path = os.pathsep.join([str(tmp_path), ENVIRONMENT["PYTHONPATH"]])
    with start("models", PYTHONPATH=path) as process:
        assert process.stdout is not None and process.stdout.readline() == b"importing\n"
        process.send_signal(number)
        assert process.communicate() == (b"", b"")
    assert process.returncode == code


def test_a_reader_of_pictures_that_leaves_is_no_error(token_bundle: Path, tmp_path: Path) -> None:
    for name in "img.png", "mask.png":
        Image.new("L", (6, 4), 255).save(tmp_path / name)
    command = [sys.executable, "-m", "genfast", "inpaint", "-", tmp_path / "mask.png", "--model", token_bundle]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with open(tmp_path / "img.png", "rb") as picture:
        with subprocess.Popen(command, env=ENVIRONMENT, stdin=picture, **pipes) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
