"""Bundles in a repository of the Hugging Face hub: a server that answers as the hub does, and one for large files."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from export.publish import publish
from genfast.bundles import bundle, hub, huggingface
from genfast.errors import AbsentError, ModelError, UsageError
from tests.genfast.bundles.conftest import same

TOKEN = "hf_secret"


class Answer(BaseHTTPRequestHandler):
    server: "Hub"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.server.asked.append((path, self.headers.get("Authorization"), self.headers.get("Range")))
        if self.server.store is None:
            self.give_file(self.server.folder / path)
            return
        owner, repository, verb, revision, *rest = path.split("/")
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        file = self.server.folder / "/".join(rest)
        if (owner, verb) != ("me", "resolve") or repository == "private" and not allowed:
            self.give(401, b"Repository not found", X_Error_Code="RepoNotFound")
        elif repository == "gated":
            self.give(403, b"Access is restricted", X_Error_Code="GatedRepo")
        elif revision not in ("main", "v1.0") or not file.is_file():
            self.give(404, b"Entry not found", X_Error_Code="EntryNotFound")
        elif file.suffix == ".onnx":  # large files lie elsewhere
            self.give(302, b"", Location=f"{self.server.store.url}/{'/'.join(rest)}?signature=x")
        else:
            self.give_file(file)

    def give_file(self, file: Path) -> None:
        content, asked = file.read_bytes(), self.headers.get("Range")
        limit = self.server.cut.pop(file.name, None)
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.give(416, b"")
                return
            self.give(206, content[start:], Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.give(200, content if limit is None else content[:limit], Content_Length=len(content))

    def give(self, status: int, content: bytes, **headers: object) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": len(content)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Hub(ThreadingHTTPServer):
    """Serves a folder, as the hub if it has a `store` for large files, or as that store."""

    daemon_threads = True

    def __init__(self, folder: Path, store: "Hub | None" = None) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.folder, self.store = folder, store
        self.asked: list[tuple[str, str | None, str | None]] = []  # path, Authorization, Range
        self.cut: dict[str, int] = {}  # how much of a file is sent next time
        self.ranges = True


@pytest.fixture
def hugging(
    tmp_path: Path, conv_bundle: Path, nothing_shipped: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """The hub, whose repositories all hold the same tree as `export publish` writes it."""
    publish(tmp_path / "tree", [conv_bundle])
    for name in "HF_TOKEN", "HF_ENDPOINT", "GENFAST_MIRROR", "GENFAST_OFFLINE":
        monkeypatch.delenv(name, raising=False)
    with Hub(tmp_path / "tree") as store, Hub(tmp_path / "tree", store) as front:
        for server in store, front:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        environment = {"HF_ENDPOINT": front.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield front
        for server in store, front:
            server.shutdown()


def test_a_repository_is_pulled(hugging: Hub, nothing_shipped: Path, conv_bundle: Path) -> None:
    for address in "hf://me/models", "hf://me/models@v1.0", "hf://me/models/":
        assert hub.pull_repository(address) == {"conv": nothing_shipped / "me--models--conv"}
    assert same(nothing_shipped / "me--models--conv", conv_bundle)
    asked = [path for path, _, _ in hugging.asked]
    assert asked[0] == "me/models/resolve/main/index.json" and "me/models/resolve/main/conv/step.onnx" in asked
    assert asked[-2:] == ["me/models/resolve/v1.0/index.json", "me/models/resolve/main/index.json"]  # the rest is here


def test_a_repository_may_be_the_mirror(hugging: Hub, nothing_shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENFAST_MIRROR", "hf://me/models@v1.0")
    with pytest.raises(AbsentError, match=f"fashion28 is neither here nor at {hugging.url}/me/models/resolve/v1.0"):
        hub.find("fashion28")


def test_the_token_is_for_the_hub_alone(hugging: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="401 Unauthorized; if it is private or gated, set HF_TOKEN"):
        hub.pull_repository("hf://me/private")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("wrong\n")
    with pytest.raises(ModelError, match=r"401 Unauthorized; the token \(HF_TOKEN, or .*\) is not valid"):
        hub.pull_repository("hf://me/private")
    (tmp_path / "home" / "token").write_text(f"{TOKEN}\n")
    hugging.asked.clear()
    hub.pull_repository("hf://me/private")
    assert {authorised for _, authorised, _ in hugging.asked} == {f"Bearer {TOKEN}"}
    assert hugging.store and hugging.store.asked
    assert {authorised for _, authorised, _ in hugging.store.asked} == {None}
    monkeypatch.setenv("HF_TOKEN", "another")
    assert huggingface.token() == "another"
    assert huggingface.authorisation(f"{hugging.url}/me/x") and not huggingface.authorisation(f"{hugging.url}0/me/x")


def test_what_is_refused_is_a_line(hugging: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {
        "hf://me/gated": "403 Forbidden; its terms are to be accepted on its page",
        "hf://me/models@v9": "404 Not Found; if it is private or gated, set HF_TOKEN",
        "hf://you/models": "401 Unauthorized; if it is private",
    }
    for address, message in refused.items():
        with pytest.raises(ModelError, match=message) as caught:
            hub.pull_repository(address)
        assert len(str(caught.value).splitlines()) == 1
    for address in "hf://me", "hf://me/models/conv", "hf://me/../x", "hf://me/models@", "hf://me/mod els":
        with pytest.raises(UsageError, match="is no address of the hub; give hf://OWNER/REPO"):
            hub.pull_repository(address)
    monkeypatch.setenv("GENFAST_OFFLINE", "1")
    with pytest.raises(AbsentError, match="GENFAST_OFFLINE forbids fetching hf://me/models"):
        hub.pull_repository("hf://me/models")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_within_a_file(hugging: Hub, nothing_shipped: Path, conv_bundle: Path, ranges: bool) -> None:
    store = hugging.store
    assert store
    store.ranges = ranges
    store.cut["step.onnx"] = 200_000
    with pytest.raises(ModelError, match="step.onnx"):
        hub.pull_repository("hf://me/models")
    store.asked.clear()
    hub.pull_repository("hf://me/models")
    assert ("conv/step.onnx", None, "bytes=196608-") in store.asked
    assert same(nothing_shipped / "me--models--conv", conv_bundle)


def test_a_rotten_part_is_fetched_anew(hugging: Hub, nothing_shipped: Path, conv_bundle: Path) -> None:
    store = hugging.store
    assert store
    for damage in b"x", bytes(10**7):
        store.cut["step.onnx"] = 200_000
        with pytest.raises(ModelError):
            hub.pull_repository("hf://me/models")
        (part,) = nothing_shipped.glob(".*.partial/.step.onnx.part")
        part.write_bytes(damage)
        with pytest.raises(ModelError, match="step.onnx"):
            hub.pull_repository("hf://me/models")
        assert not part.exists()
        hub.pull_repository("hf://me/models")
        folder = nothing_shipped / "me--models--conv"
        assert same(folder, conv_bundle)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_newer_bundle_replaces_an_older(
    hugging: Hub, nothing_shipped: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    place = hub.pull_repository("hf://me/models")["conv"]
    old = bundle.load(place)
    fields = old.manifest.model_dump(exclude={"format", "files", "summary"})
    bundle.write(tmp_path / "tree" / "conv", summary="newer", **fields)
    (tmp_path / "tree" / "index.json").unlink()
    publish(tmp_path / "tree", [tmp_path / "tree" / "conv"])
    assert hub.pull_repository("hf://me/models")["conv"] == place
    assert bundle.load(place).manifest.summary == "newer"


def test_the_command_prints_folders(hugging: Hub, cli, nothing_shipped: Path) -> None:
    done = cli("pull", "hf://me/models", check=True, env=dict(os.environ))
    assert done.stdout == f"{nothing_shipped}/me--models--conv\n" and done.stderr == ""
