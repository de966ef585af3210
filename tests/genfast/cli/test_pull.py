import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import genfast
from genfast.bundles import bundle
from tests.graphs.bundles import ROLES

PULL = [sys.executable, "-m", "genfast", "pull", "ffhq1024"]  # never shipped
FILES = ("index.json", "manifest.json", *(f"{role}.onnx" for role in ROLES))


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the bundles of an empty cache will lie."""
    monkeypatch.setenv("GENFAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(genfast.__file__).parents[1]))
    return tmp_path / "cache" / "bundles"


def test_models_are_pulled(cli, server, token_bundle: Path, cached: Path) -> None:
    source = server.publish(token_bundle, "ffhq1024")
    two = cli("pull", "fashion28", check=True).stdout.split()  # which are of 8 and of 22 numbers of steps
    assert [Path(folder).name for folder in two] == ["fashion28", "fashion28-study"]
    done = cli("pull", "ffhq1024", "fashion", check=True)
    shipped = Path(genfast.__file__).parents[1] / "assets" / "bundles" / "fashion"
    assert (done.stdout, done.stderr) == (f"{cached}/ffhq1024\n{shipped}\n", "")
    assert bundle.load(cached / "ffhq1024").sha256 == bundle.load(source).sha256
    done = cli("pull", "ffhq1024", "--json", check=True, env={"GENFAST_OFFLINE": "1"})
    assert json.loads(done.stdout) == {
        "schema": 2,
        "models": [{"name": "ffhq1024", "folder": str(cached / "ffhq1024")}],
    }


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        (["dalle"], {}, 4, "unknown model 'dalle'; give the folder of a bundle or one of: fashion28"),
        (["ffhq1024"], {}, 4, "ffhq1024 is neither here nor at http://127.0.0.1:"),
        (["ffhq1024"], {"GENFAST_MIRROR": ""}, 4, "nothing to fetch ffhq1024 from; set GENFAST_MIRROR"),
        (["ffhq1024"], {"GENFAST_OFFLINE": "1"}, 4, "nothing to fetch ffhq1024 from; set GENFAST_MIRROR"),
        (["ffhq1024"], {"GENFAST_MIRROR": "ftp://x"}, 2, "GENFAST_MIRROR is ftp://x; it must begin with http://"),
        (["ffhq1024"], {"GENFAST_MIRROR": "file:///nowhere"}, 4, "cannot fetch file:///nowhere/index.json: "),
        (["ffhq1024"], {"GENFAST_CACHE": "/proc/genfast"}, 4, "cannot write into /proc/genfast/bundles: "),
        ([], {}, 2, "Missing argument"),
    ],
)
def test_what_cannot_be_pulled(
    cli, server, cached: Path, arguments: list[str], environment: dict[str, str], code: int, message: str
) -> None:
    (server.folder / "index.json").write_text('{"format": 1, "bundles": {}}')
    done = cli("pull", *arguments, env=environment)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("genfast: error: ") and message in line


def test_sample_fetches_what_is_missing(cli, server, token_bundle: Path, cached: Path) -> None:
    server.publish(token_bundle, "ffhq1024")
    assert cli("info", "ffhq1024").returncode == 4 and server.asked == []  # a card is not worth a download
    done = cli("sample", "--model", "ffhq1024", "-n", 1, "--json", check=True)
    assert json.loads(done.stdout)["model"] == "ffhq1024" and done.stderr == ""
    assert json.loads(cli("info", "ffhq1024", "--json", check=True).stdout)["folder"] == str(cached / "ffhq1024")


def test_a_file_size_limit_leaves_nothing(server, conv_bundle: Path, cached: Path) -> None:
    server.publish(conv_bundle, "ffhq1024")
    limit = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "runpy.run_module('genfast', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", limit, "pull", "ffhq1024"], capture_output=True, text=True)
    message = f"genfast: error: cannot write into {cached}: File too large; mend that, or set GENFAST_CACHE\n"
    assert (done.returncode, done.stdout, done.stderr) == (4, "", message)
    assert [path.name for path in (cached / ".ffhq1024.partial").iterdir()] == ["manifest.json"]
    subprocess.run(PULL, check=True)
    bundle.load(cached / "ffhq1024")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_sees_progress(server, conv_bundle: Path, cached: Path) -> None:
    server.publish(conv_bundle, "ffhq1024")
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(PULL, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "fetching ffhq1024" in shown and "100%" in shown
    assert done.stdout == f"{cached}/ffhq1024\n"


def test_of_two_clients_one_waits_for_the_other(server, token_bundle: Path, cached: Path) -> None:
    both_are_here = threading.Event()

    def hold(answer: Any, content: bytes) -> None:
        both_are_here.wait()
        answer.give(content)

    server.publish(token_bundle, "ffhq1024")
    server.faults["draw.onnx"] = iter([hold])
    with subprocess.Popen(PULL, stdout=subprocess.PIPE, text=True) as first:
        while "ffhq1024/draw.onnx" not in server.asked:
            assert first.poll() is None
            time.sleep(0.01)
        with subprocess.Popen(PULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr and second.stdout and first.stdout
            line = second.stderr.readline()
            both_are_here.set()
            assert line == "genfast: waiting for another process that fetches ffhq1024\n"
            assert first.stdout.read() == second.stdout.read() == f"{cached}/ffhq1024\n"
    assert first.returncode == second.returncode == 0
    assert len(server.asked) == len(set(server.asked)) == len(FILES)
    bundle.load(cached / "ffhq1024")


@pytest.mark.slow
def test_a_killed_pull_leaves_nothing_half(server, token_bundle: Path, cached: Path) -> None:
    sent = 0

    def slowly(answer: Any, content: bytes) -> None:
        nonlocal sent
        step = len(content) // 5 + 1
        for start in range(0, len(content), step):
            piece = content[start : start + step]
            answer.wfile.write(piece) if start else answer.give(piece, Content_Length=len(content))
            sent += 1
            answer.server.end.wait(0.005)

    source = server.publish(token_bundle, "ffhq1024")
    server.faults = {file: itertools.repeat(slowly) for file in FILES}
    chance = random.Random(0)
    kills = unfinished = 0
    while kills < 15:
        sent, pieces = 0, chance.randrange(20)
        with subprocess.Popen(PULL, stdout=subprocess.DEVNULL) as process:
            while sent <= pieces and process.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.02))
            process.kill()
        assert process.returncode in (0, -signal.SIGKILL)
        kills += process.returncode != 0
        unfinished += (cached / ".ffhq1024.partial").exists()
        if (cached / "ffhq1024").exists():
            assert bundle.load(cached / "ffhq1024").sha256 == bundle.load(source).sha256
            shutil.rmtree(cached / "ffhq1024")
    assert unfinished
    server.faults.clear()
    subprocess.run(PULL, check=True)
    assert bundle.load(cached / "ffhq1024").sha256 == bundle.load(source).sha256
    assert {path.name for path in cached.iterdir()} == {"ffhq1024", ".ffhq1024.lock"}
    assert len(list((cached / "ffhq1024").iterdir())) == len(list(source.iterdir()))
