"""Bundles fetched from a real server that misbehaves: afterwards a bundle is whole or not there, and the next call works."""

import hashlib
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import genfast
from genfast import bundle, hub, mirror
from genfast.errors import AbsentError, ModelError, UsageError

NAME = "fashion28-t4"
FILES = ("index.json", "manifest.json", "step.onnx")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt at each file, and a short one."""
    monkeypatch.setattr(mirror, "_RETRIES", 0)
    monkeypatch.setattr(mirror, "_TIMEOUT", 0.2)


def same(folder: Path, source: Path) -> bool:
    """Whether two bundles have the same files."""
    contents = ({path.name: path.read_bytes() for path in place.iterdir()} for place in (folder, source))
    return next(contents) == next(contents)


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
    monkeypatch.setattr(mirror, "_RETRIES", 1)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    source = server.publish(tiny_bundle, NAME)
    server.faults["step.onnx"] = iter([{**HARMFUL, **HARMLESS}[fault]])
    if fault in ("403", "404"):  # asking again would not help
        with pytest.raises(ModelError, match=f"^cannot fetch .*/step.onnx: {fault} "):
            hub.find("fashion28")
    assert same(hub.find("fashion28"), source)
