"""`genfast ui` as a command: how it begins, and that it ends at once."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.genfast.ui.conftest import served


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_at_once_and_leave_nothing(tmp_path: Path, token_bundle: Path, number: int, code: int) -> None:
    """While it draws, for which there is a thread within a network."""
    with served(tmp_path, "--model", token_bundle) as server:
        order = {"model": "fashion28-ddpm", "values": {"n": 64}}
        sent = urllib.request.Request(server.address + "draw", json.dumps(order).encode(), method="POST")
        with urllib.request.urlopen(sent) as answer:
            while b'"done"' not in answer.readline():
                pass
            assert list(server.folder.glob("genfast-*"))
            began = time.perf_counter()
            server.process.send_signal(number)
            out, errors = server.process.communicate()
        assert time.perf_counter() - began < 1 and server.process.returncode == code and (out, errors) == ("", "")
        assert not list(server.folder.glob("genfast-*"))


def test_a_busy_port_is_a_line(cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = cli("ui", "--no-browser", "--port", port)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.startswith(f"genfast: error: port {port} is in use; give another --port")
        and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--host", "256.0.0.1"], 2, "cannot listen on 256.0.0.1"),
        (["--host", "8.8.8.8"], 2, "cannot listen on 8.8.8.8"),
        (["--port", "65536"], 2, "--port"),
        (["--model", "nothing"], 4, "unknown model 'nothing'"),
        (["--model", "fashion"], 2, "draws nothing"),
        (["--device", "cpu,cpu"], 2, "the page draws on one device"),
        (["--device", "gpu"], 2, "unknown device 'gpu'"),
    ],
)
def test_what_cannot_be_had_is_a_line(cli, arguments: list[str], code: int, line: str) -> None:
    done = cli("ui", "--no-browser", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert line in done.stderr and done.stderr.count("\n") == 1


def test_what_is_missing_is_a_line(cli, tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError(name='starlette')")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    done = cli("ui", "--no-browser", env={"PYTHONPATH": path})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "genfast: error: the page needs starlette and uvicorn; pip install 'genfast[ui]'\n"


def test_help_imports_neither() -> None:
    program = "import sys, genfast.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "genfast.cli.ui" in loaded and not {"starlette", "uvicorn", "asyncio", "http.server"} & set(loaded)


def test_two_run_beside_each_other(tmp_path: Path, tiny_bundle: Path) -> None:
    with served(tmp_path / "a", "--model", tiny_bundle) as a, served(tmp_path / "b", "--model", tiny_bundle) as b:
        assert a.port != b.port and a.token != b.token and len(a.token) >= 32
        for server in a, b:
            with urllib.request.urlopen(server.address + "models") as answer:
                assert json.load(answer)["chosen"] == "tiny"
