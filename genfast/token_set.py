"""Token sets: pictures as the tokens of a VQ-GAN, in a folder of its own, for a prior to learn (training/).

tokens.json          which VQ-GAN, of what, how many are done
train.npy            [N, h, w] uint16; likewise validation.npy, test.npy
train-labels.npy     [N, 1 + A] int64: label, and attributes as genfast.attributes has them; or [N]
drafts.safetensors   what attributes say of tokens: training/drafts.py
"""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from genfast.attributes import Attribute
from genfast.bundles import external_data
from genfast.bundles.bundle import Bundle
from genfast.errors import UsageError
from genfast.files import atomic
from genfast.types import Split

FILE = "tokens.json"
MOST = 2**16  # tokens of a vocabulary

Grids = npt.NDArray[Any]  # [B, h, w]


class TokenSetInfo(BaseModel):
    """What tokens.json says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vqgan: str  # its identity, a hash of what makes tokens
    vocabulary: int
    regions: int | None = None  # of the codebook, along a side, where that is known
    data: str  # name of the data set
    classes: tuple[str, ...] = ()  # names of the labels
    attributes: tuple[Attribute, ...] = ()
    done: dict[Split, int] = {}  # grids that have been written
    names: dict[Split, str] = {}  # of the files that they were made of, as a hash


def about(folder: Path) -> TokenSetInfo:
    """Read a token set's description; raises UsageError where it is none."""
    try:
        return TokenSetInfo.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(f"{folder} is no token set; make one with genfast tokenize") from error


def check(folder: Path, vqgan: str) -> None:
    """Raise UsageError where the tokens of a folder are not those of the VQ-GAN of this identity."""
    if about(folder).vqgan != vqgan:
        raise UsageError(f"{folder} holds the tokens of another VQ-GAN; encode the pictures anew, into another folder")


def identity(bundle: Bundle) -> str:
    """A hash of what makes tokens in a bundle: its encoder. With another decoder it stays the same."""
    path = bundle.graph("encode")
    graph = PurePosixPath(path.relative_to(bundle.directory).as_posix())
    hashes = {file.path: file.sha256 for file in bundle.manifest.files}
    read = sorted(str(graph.parent / name) for name in external_data.files(path))
    return hashlib.sha256("".join(hashes[name] for name in (str(graph), *read)).encode()).hexdigest()


class Writer:
    """Writes the grids of a split as they come, after those that are done already."""

    def __init__(self, folder: Path, split: Split, described: TokenSetInfo, count: int) -> None:
        """Go on with, or begin, a token set in `folder`, for `count` pictures in all.

        Raises UsageError where the folder holds the tokens of another VQ-GAN, or other classes, and where a token needs
        more than 16 bits.
        """
        if described.vocabulary > MOST:
            raise UsageError(f"a token set holds tokens below {MOST}, and this vocabulary has {described.vocabulary}")
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / FILE).exists():
            check(folder, described.vqgan)
            before = about(folder)
            if (before.classes, before.attributes) != (described.classes, described.attributes):
                raise UsageError(f"{folder} holds the tokens of other classes or attributes; name another folder")
            described = before
        self.folder, self.split, self.count, self._described = folder, split, count, described
        self.done = described.done.get(split, 0)
        self.names = described.names.get(split, "")
        self._grids: np.memmap[Any, Any] | None = None
        self._labels: np.memmap[Any, Any] | None = None

    def add(self, grids: Grids, labels: npt.NDArray[np.int64], names: str = "") -> None:
        """Write grids [B, h, w] and their labels [B]; `names` is a hash of the names of all files up to these."""
        if self._grids is None or self._labels is None:
            self._grids = _room(self.folder / f"{self.split}.npy", self.done, (self.count, *grids.shape[1:]), np.uint16)
            shape = self.count, *labels.shape[1:]
            self._labels = _room(self.folder / f"{self.split}-labels.npy", self.done, shape, np.int64)
        for array, rows in (self._grids, grids), (self._labels, labels):
            array[self.done : self.done + len(rows)] = rows
            array.flush()  # before the count, so that what counts as done is done
        self.done += len(grids)
        with FileLock(self.folder / f".{FILE}.lock"):  # other splits may be encoded meanwhile
            if (self.folder / FILE).exists():
                self._described = about(self.folder)
            more: dict[str, Any] = {"done": self._described.done | {self.split: self.done}}
            if names:
                more["names"] = self._described.names | {self.split: names}
            self._described = self._described.model_copy(update=more)
            with atomic(self.folder / FILE) as file:
                file.write(self._described.model_dump_json(indent=2, exclude_defaults=True).encode())


def _room(path: Path, done: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> "np.memmap[Any, Any]":
    """A file of an array at `path`, whose first `done` rows are those that lie there."""
    old = np.load(path, mmap_mode="r+", allow_pickle=False) if done else None
    if isinstance(old, np.memmap) and len(old) == shape[0]:
        return old
    partial = path.with_suffix(".partial.npy")
    new = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
    if old is not None:
        new[:done] = old[:done]
    new.flush()
    partial.replace(path)
    return new
