"""Bundles fetched from a real server that misbehaves: each is whole or not there, and the next call succeeds."""

import itertools
import os
import shutil
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genfast.bundles import bundle, download, hub
from genfast.errors import AbsentError, ModelError, UsageError
from tests.genfast.bundles.conftest import NAME, same

FILES = ("index.json", "manifest.json", "step.onnx")


# How a server can fail: each is one answer.


def cut(tenths: int) -> Callable[[Any, bytes], None]:
    return lambda answer, content: answer.give(content[: len(content) * tenths // 10], Content_Length=len(content))


def reset(answer: Any, content: bytes) -> None:
    answer.give(content[: len(content) // 2], Content_Length=len(content))
    answer.wfile.flush()
    answer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    answer.connection.close()


def hang_up(answer: Any, content: bytes) -> None:
    pass


def stall_at_once(answer: Any, content: bytes) -> None:
    answer.server.end.wait()


def stall_half_way(answer: Any, content: bytes) -> None:
    cut(5)(answer, content)
    answer.server.end.wait()


def drip(answer: Any, content: bytes, pieces: int = 8) -> None:
    step = len(content) // pieces + 1
    answer.give(content[:step], Content_Length=len(content))
    for start in range(step, len(content), step):
        answer.server.end.wait(0.01)
        answer.wfile.write(content[start : start + step])


def no_end(answer: Any, content: bytes) -> None:
    answer.give(content, Content_Length=None)
    while not answer.server.end.is_set():
        answer.wfile.write(bytes(2**16))


def flip(answer: Any, content: bytes) -> None:
    answer.give(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])


def status(code: int, **headers: str) -> Callable[[Any, bytes], None]:
    return lambda answer, content: answer.give(b"<html>", code, **headers)


def redirect(answer: Any, content: bytes) -> None:
    answer.give(b"", 302, Location=answer.path)


HARMFUL = {
    **{f"cut at {tenths} tenths": cut(tenths) for tenths in range(10)},
    "reset": reset,
    "hang up": hang_up,
    "stall at once": stall_at_once,
    "stall half way": stall_half_way,
    "too short": lambda answer, content: answer.give(content[:-2]),
    "too long": lambda answer, content: answer.give(content + b"more"),
    "without end": no_end,
    "nothing": lambda answer, content: answer.give(b""),
    "length that is too small": lambda answer, content: answer.give(content, Content_Length=len(content) - 2),
    "length that is no number": lambda answer, content: answer.give(content[:-2], Content_Length="long"),
    "wrong byte": flip,
    "a page for people": lambda answer, content: answer.give(b"<html>Please log in</html>"),
    "not HTTP": lambda answer, content: answer.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "not gzip": lambda answer, content: answer.give(content, Content_Encoding="gzip"),
    "403": status(403),
    "404": status(404),
    "429": status(429),
    "500": status(500),
    "503": status(503),
    "redirect to a file": status(302, Location="file:///etc/hostname"),
    "redirect to nowhere": status(302, Location="http://127.0.0.1:1/"),
    "redirect without a place": status(302),
    "redirect for ever": redirect,
}
HARMLESS = {"redirect": redirect, "slow drip": drip}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("fault", HARMFUL)
def test_a_fault_leaves_nothing_and_the_next_call_succeeds(
    server, tiny_bundle: Path, nothing_shipped: Path, impatient: None, fault: str, file: str
) -> None:
    source = server.publish(tiny_bundle, NAME)
    server.faults[file] = itertools.repeat(HARMFUL[fault])
    with pytest.raises(ModelError, match="^(cannot fetch )?" + server.url) as caught:
        hub.find("fashion28")
    assert len(str(caught.value).splitlines()) == 1
    assert hub.locate(NAME) is None
    assert not [folder for folder in nothing_shipped.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    server.faults.clear()
    assert same(hub.find("fashion28"), source)


@pytest.mark.parametrize("fault", {**HARMFUL, **HARMLESS})
def test_a_passing_fault_is_overcome(
    server, tiny_bundle: Path, nothing_shipped: Path, impatient: None, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(download, "_RETRIES", 1)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    source = server.publish(tiny_bundle, NAME)
    server.faults["step.onnx"] = iter([{**HARMFUL, **HARMLESS}[fault]])
    if fault in ("403", "404"):  # asking again would not help
        with pytest.raises(ModelError, match=f"^cannot fetch .*/step.onnx: {fault} "):
            hub.find("fashion28")
    assert same(hub.find("fashion28"), source)


def test_a_server_that_sends_too_much_is_cut_off(
    server, tiny_bundle: Path, nothing_shipped: Path, impatient: None
) -> None:
    cut_off = threading.Event()

    def no_end_in_sight(answer: Any, content: bytes) -> None:
        try:
            no_end(answer, content)
        except OSError:
            cut_off.set()

    size = (server.publish(tiny_bundle, NAME) / "step.onnx").stat().st_size
    for file, most in ("index.json", 2**20), ("manifest.json", 2**20), ("step.onnx", size):
        server.faults[file] = iter([no_end_in_sight])
        with pytest.raises(ModelError, match=f"{file}: more comes than the {most} bytes that were announced"):
            hub.find("fashion28")
        assert cut_off.wait(10)
        cut_off.clear()


def test_a_download_goes_on_where_it_stopped(
    server, token_bundle: Path, nothing_shipped: Path, impatient: None
) -> None:
    source = server.publish(token_bundle, "ffhq1024")
    server.faults["encode.onnx"] = iter([cut(5)])  # the fourth of six files
    with pytest.raises(ModelError):
        hub.find("ffhq1024")
    (nothing_shipped / ".ffhq1024.partial" / "tmp1234").touch()  # pooch's, had the process been killed
    server.asked.clear()
    assert same(hub.find("ffhq1024"), source)
    assert server.asked == [
        "index.json",
        *(f"ffhq1024/{role}.onnx" for role in ("encode", "pixel_likelihood", "predict")),
    ]


def test_what_rotted_in_an_unfinished_download_is_fetched_again(
    server, token_bundle: Path, nothing_shipped: Path, impatient: None
) -> None:
    source = server.publish(token_bundle, "ffhq1024")
    server.faults["encode.onnx"] = iter([cut(5)])
    with pytest.raises(ModelError):
        hub.find("ffhq1024")
    os.truncate(nothing_shipped / ".ffhq1024.partial" / "draw.onnx", 100)
    assert same(hub.find("ffhq1024"), source)


def test_nothing_is_fetched_offline(
    server, tiny_bundle: Path, nothing_shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish(tiny_bundle, NAME)
    monkeypatch.setenv("GENFAST_OFFLINE", "1")
    with pytest.raises(AbsentError, match="fashion28 has no weights here"):
        hub.find("fashion28")
    assert server.asked == [] and not nothing_shipped.exists()
    monkeypatch.setenv("GENFAST_OFFLINE", "0")
    assert hub.find("fashion28") == nothing_shipped / NAME


def test_a_mirror_may_be_a_folder(
    server, tiny_bundle: Path, nothing_shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = server.publish(tiny_bundle, NAME)
    place = server.folder.rename(server.folder.with_name("a folder"))
    monkeypatch.setenv("GENFAST_MIRROR", place.with_name("nowhere").as_uri())
    with pytest.raises(ModelError, match="cannot fetch file:///.*/nowhere/index.json: .*No such file or directory"):
        hub.find("fashion28")
    monkeypatch.setenv("GENFAST_MIRROR", place.as_uri() + "/")
    assert same(hub.find("fashion28"), source)
    assert server.asked == []


def test_a_proxy_is_asked_where_one_is_set(
    server, tiny_bundle: Path, nothing_shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = server.publish(tiny_bundle, NAME)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("GENFAST_MIRROR", "http://mirror.invalid")
    assert same(hub.find("fashion28"), source)
    assert server.asked == ["index.json", f"{NAME}/manifest.json", f"{NAME}/step.onnx"]


def test_a_mirror_has_an_address(monkeypatch: pytest.MonkeyPatch, nothing_shipped: Path) -> None:
    for address in "ftp://mirror.invalid", "mirror.invalid/genfast", "/srv/genfast":
        monkeypatch.setenv("GENFAST_MIRROR", address)
        with pytest.raises(UsageError, match=f"GENFAST_MIRROR is {address}; it must begin with http://"):
            hub.find("fashion28")


def test_files_may_have_any_name_and_be_read_by_others(
    server, tiny_bundle: Path, nothing_shipped: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(tiny_bundle, tmp_path / "odd")
    (source / "größe").mkdir()
    (source / "größe" / "1+1.bin").touch()
    fields = bundle.load(source).manifest.model_dump(exclude={"format", "files"})
    bundle.write(source, **fields)
    server.publish(source, NAME)
    folder = hub.find("fashion28")
    assert [path.name for path in folder.glob("größe/*")] == ["1+1.bin"]
    modes = {path.stat().st_mode for path in folder.rglob("*") if path.is_file()}
    assert modes == {(source / "größe" / "1+1.bin").stat().st_mode}
