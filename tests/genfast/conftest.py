"""Two small extractors, whose features have closed forms; folders of images; a small disk; a mirror."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import onnx
import pytest

from export.publish import publish
from genfast.bundles import bundle, hub
from genfast.images import io
from genfast.metrics.evaluate import describe
from genfast.metrics.features import Embedder
from tests.graphs.bundles import ABOUT, BOTH, parse


def write_extractor(folder: Path, graph: str, real: np.ndarray, **fields: object) -> Path:
    """A bundle of family features that holds statistics of `real` images, with a yardstick, as the set "none-test".

    `graph` is the name of one of tests/graphs.
    """
    folder.mkdir(parents=True)
    onnx.save(parse(graph), folder / "embed.onnx")
    fields |= {"family": "features", "graphs": {"embed": [{"path": "embed.onnx", **BOTH}]}, **ABOUT}
    embedder = Embedder(bundle.write(folder, **fields), "cpu")
    statistics, _ = describe([real], [embedder], "none-test", reference=True)[0]
    about = statistics.about.model_copy(update={"yardsticks": {"blur": 2.5}})
    type(statistics)(about, statistics.moments, statistics.subset).save(folder / "none.npz")
    bundle.write(folder, **fields, statistics={"none-test": "none.npz"})
    return folder


@pytest.fixture(scope="session")
def means(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extractor `means`: features [R, G, B], the means of the channels of images of any size."""
    real = np.random.default_rng(0).integers(0, 256, (200, 6, 8, 3), np.uint8)
    return write_extractor(tmp_path_factory.mktemp("extractors") / "means", "means", real, name="means", feature_dim=3)


@pytest.fixture(scope="session")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extractor `halves`: features [upper, lower], the means of the halves of grey 28x28 images."""
    return write_extractor(
        tmp_path_factory.mktemp("extractors") / "halves",
        "halves",
        np.random.default_rng(0).integers(0, 256, (200, 28, 28, 1), np.uint8),
        name="halves",
        feature_dim=2,
        image={"height": 28, "width": 28, "channels": 1},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes random images of one shape (H, W, C) into the new folder tmp_path / name."""

    def write(name: str, n: int, shape: tuple[int, int, int] = (6, 8, 3), low: int = 0, high: int = 256) -> Path:
        rng = np.random.default_rng([n, low, high])
        (tmp_path / name).mkdir()
        for i, image in enumerate(rng.integers(low, high, (n, *shape), np.uint8)):
            io.write(tmp_path / name / f"{i:03}.png", image)
        return tmp_path / name

    return write


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight pages."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "genfast-test", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Only the cache, in a folder of its own: returns where its bundles lie."""
    monkeypatch.setattr(hub, "_SHIPPED", ())
    monkeypatch.setenv("GENFAST_CACHE", str(tmp_path))
    return tmp_path / "bundles"


class Answer(BaseHTTPRequestHandler):
    """One request to a Server."""

    server: "Server"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.server.asked.append(path)
        try:
            content = (self.server.folder / path).read_bytes()
        except FileNotFoundError:
            self.give(b"", 404)
            return
        next(self.server.faults.get(Path(path).name, iter(())), Answer.give)(self, content)

    def give(self, content: bytes, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": len(content), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


Fault = Callable[[Answer, bytes], None]


class Server(ThreadingHTTPServer):
    """A mirror on this machine; the next requests for a file of some name are answered by the `faults` of that name."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.folder = folder
        self.faults: dict[str, Iterator[Fault]] = {}
        self.asked: list[str] = []  # paths, in order
        self.end = threading.Event()  # of the test: nothing waits any longer

    def publish(self, source: Path, name: str) -> Path:
        """Copy a bundle, call it `name` and publish it; returns the copy."""
        copy = shutil.copytree(source, self.folder.parent / "published" / name)
        manifest = copy / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"name": name}))
        publish(self.folder, [copy])
        return copy

    def handle_error(self, *_: object) -> None:
        """Clients hang up; that is what the tests are about."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mirror that holds nothing yet, of which the environment tells."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name, value in {"GENFAST_MIRROR": server.url, "NO_PROXY": "127.0.0.1"}.items():
            monkeypatch.setenv(name, value)
        yield server
        server.end.set()
        server.shutdown()
        thread.join()
