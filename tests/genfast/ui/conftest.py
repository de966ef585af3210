"""The page, served by the real command, and a browser to open it in."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Served:
    """`genfast ui` as it runs. Its temporary files lie in `folder`, and it logs the files that it opens in `opened`."""

    process: subprocess.Popen[str]
    address: str
    folder: Path
    opened: Path

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0

    @property
    def token(self) -> str:
        return urlsplit(self.address).path.strip("/")

    def files(self) -> set[Path]:
        return {path for path in self.folder.rglob("*") if path.is_file()}


# Python runs this as it starts, if it is found: it tells of every file that is opened.
HOOK = """
import os, sys
_log = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def _tell(event, arguments):
    if event == "open":
        os.write(_log, f"{arguments[0]}\\n".encode(errors="replace"))
sys.addaudithook(_tell)
"""


@contextmanager
def served(folder: Path, *arguments: object) -> Iterator[Served]:
    temporary, home, opened = folder / "tmp", folder / "home", folder / "opened"
    for each in temporary, home:
        each.mkdir(parents=True)
    (home / "sitecustomize.py").write_text(HOOK)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(home), str(ROOT)]), "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "genfast", "ui", "--no-browser", *map(str, arguments)],
        env=environment | {"OPENED": str(opened)},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell ignores in the background
    )
    assert process.stdout
    try:
        address = process.stdout.readline().strip()
        assert address, process.communicate()
        yield Served(process, address, temporary, opened)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory, token_bundle: Path) -> Iterator[Served]:
    """Begins with the small model of tokens."""
    with served(tmp_path_factory.mktemp("page"), "--model", token_bundle) as running:
        yield running
        assert running.process.poll() is None


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, without a screen. While it runs, so does Playwright's event loop: others must wait."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing: apt-get install chromium")
        pytest.skip("chromium is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def tab(browser, page_server: Served):
    """Opens the page in a browser of its own, whose complaints fail the test, as do requests to anywhere else."""
    contexts, faults = [], []

    def open_tab(server: Served = page_server, **options: object):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        own = server.address, "data:", f"blob:http://127.0.0.1:{server.port}"

        def hear(message) -> None:
            if message.type in ("error", "warning") and "status of 422" not in message.text:  # which the page tells
                faults.append(message.text)

        def see(request) -> None:
            if not request.url.startswith(own):
                faults.append(f"asked elsewhere: {request.url}")

        page.on("console", hear)
        page.on("request", see)
        page.set_default_timeout(30_000)
        page.goto(server.address)
        page.wait_for_selector("body[data-ready]")
        return page

    yield open_tab
    for context in contexts:
        context.close()
    assert not faults
