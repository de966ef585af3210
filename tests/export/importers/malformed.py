"""Files that are no checkpoints, or bad ones: how each is made, and what is said of it."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

State = dict[str, Tensor]
WEIGHTS: State = {"a.weight": torch.ones(4, 3), "a.bias": torch.zeros(4)}


class Command:
    """What runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


class Evaluated(Command):
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return eval, (f"open({str(self.marker)!r}, 'w')",)


def saved(held: object, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(held, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def zipped(content: bytes = b"\x80\x02}.", name: str = "x/data.pkl", compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def lying(size: int) -> bytes:
    """A zip file whose table of contents says that a part has another size."""
    content = bytearray(zipped())
    place = content.rindex(b"PK\x01\x02")
    content[place + 20 : place + 28] = struct.pack("<II", size, size)
    return bytes(content)


def script() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"net/{name}", b"\x80\x02}.")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return file.getvalue()


def huge_storage() -> bytes:
    """The format before zip, with a storage of an exabyte."""
    content = saved({"a": torch.zeros(1000)}, legacy=True)
    number = b"M\xe8\x03"  # 1000, in two bytes
    assert content.count(number) >= 1
    return content.replace(number, b"\x8a\x08" + (2**60).to_bytes(8, "little"), 1)


ZIP, LEGACY = saved(WEIGHTS), saved(WEIGHTS, legacy=True)

# By name: its bytes, given a path that a command in it would touch, and a part of the complaint.
FILES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda _: b"", "is empty"),
    "a web page": (lambda _: b"<!DOCTYPE html><html>Quota exceeded</html>", "is a web page"),
    "a web page with a mark of its order": (lambda _: b"\n  <html>", "is a web page"),
    "a pointer of Git LFS": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "text": (lambda _: b"no such file", "begins as neither"),
    "gzip": (lambda _: gzip.compress(ZIP), "begins as neither"),
    "tar": (lambda _: tarred(), "begins as neither"),
    "an array": (lambda _: b"\x93NUMPY\x01\x00", "begins as neither"),
    "a zip file cut off": (lambda _: ZIP[: len(ZIP) // 2], "is cut off or damaged"),
    "the start of a zip file": (lambda _: ZIP[:4], "is cut off or damaged"),
    "a zip file of something else": (lambda _: zipped(name="x/readme.txt"), "holds no data.pkl"),
    "a program": (lambda _: script(), "is a TorchScript program"),
    "a zip bomb": (lambda _: zipped(bytes(10**7), compression=zipfile.ZIP_DEFLATED), "would unpack to 10000000"),
    "a zip file that lies": (lambda _: lying(2**31), "would unpack to 2147483648"),
    "a zip file without a version": (lambda _: zipped(), "is cut off, damaged or no checkpoint"),
    "a command": (lambda path: saved({"a": Command(path)}), "names posix.system"),
    "a command in the older format": (lambda path: saved({"a": Command(path)}, legacy=True), "names posix.system"),
    "a command in a plain pickle": (lambda path: pickle.dumps(Command(path), protocol=2), "names posix.system"),
    "an expression": (lambda path: saved({"a": Evaluated(path)}), "names eval"),
    "a whole network": (lambda _: saved(nn.Linear(2, 2)), "names torch.nn.modules.linear.Linear"),
    "an array of numpy": (lambda _: saved({"a": np.ones(3)}), "names numpy"),
    "a path": (lambda _: saved({"a": Path("/")}), "names pathlib"),
    "a plain pickle": (lambda _: pickle.dumps({"a": 1}, protocol=2), "Invalid magic number"),
    "a later pickle": (lambda path: pickle.dumps(Command(path), protocol=5), "begins as neither"),
    "a list": (lambda _: saved([torch.ones(2)]), "holds a list"),
    "a tensor": (lambda _: saved(torch.ones(2)), "holds a Tensor"),
    "numbers as names": (lambda _: saved({1: torch.ones(2)}), "by name"),
    "the older format cut off": (lambda _: LEGACY[:-20], "is cut off, damaged or no checkpoint"),
    "the older format cut off early": (lambda _: LEGACY[:60], "is cut off, damaged or no checkpoint"),
    "a storage of an exabyte": (lambda _: huge_storage(), "is cut off, damaged or no checkpoint"),
    "noise": (lambda _: b"\x80\x02" + bytes(range(256)) * 9, "is cut off, damaged or no checkpoint"),
}

# Checkpoints that can be read, and hold no state dict.
STATES: dict[str, tuple[object, str]] = {
    "no dictionary": ([1], "holds a list where tensors"),
    "nothing": ({}, "holds no tensors"),
    "a number": ({"a": 1.0}, "holds a float as a"),
    "a dictionary": ({"a": {"b": torch.ones(1)}}, "holds tables of tensors, such as a"),
    "a sparse tensor": ({"a": torch.eye(3).to_sparse()}, "dense tensor was expected"),
    "a bomb": ({"a": torch.zeros(1).expand(10**6, 10**6)}, "holds a as 1000000x1000000, which is more than"),
}
