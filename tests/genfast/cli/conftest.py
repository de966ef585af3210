"""The command line in this process: where there are many runs, a process for each would take too long."""

import shlex
import sys
from collections.abc import Callable

import pytest

from genfast import cli

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `genfast LINE`, and gives its exit code, stdout and stderr."""

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["genfast", *shlex.split(line)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capfd.readouterr()

    return run
