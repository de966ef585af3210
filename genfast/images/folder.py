"""Folders of images, of any length: names are sorted on disk, and few images are in memory at a time."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from PIL import Image

from genfast.errors import InputError
from genfast.images import io
from genfast.images.params import read_params
from genfast.images.sheets import shrink
from genfast.types import Pixels

SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".tga", ".tif", ".tiff", ".webp"})
Size = tuple[int, int]  # width and height
_BATCH = 2**26  # bytes of the images of a folder that are read at a time


class Folder:
    """The images under a folder, chosen by suffix, in the order of their paths. Hidden ones are passed over.

    So are sheets, strips and histories that genfast wrote, unless there is nothing else. Names lie in a temporary
    database, so that memory does not grow with their number. Raises InputError where there is no folder, or nothing in
    it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder")
        self.folder = folder
        # Kept on disk where it grows. Names are bytes: on Linux they need not be text.
        self._names = sqlite3.connect("", check_same_thread=False)
        self._names.execute("CREATE TABLE image (sort BLOB PRIMARY KEY, stem BLOB) WITHOUT ROWID")
        self._names.execute("CREATE INDEX by_stem ON image (stem)")
        self._insert(name for name in _walk(folder, "") if not _shows_several(folder / name))
        if not len(self):
            self._insert(_walk(folder, ""))
        if not len(self):
            raise InputError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")

    def _insert(self, names: Iterable[str]) -> None:
        self._names.executemany("INSERT INTO image VALUES (?, ?)", map(_keys, names))

    def __len__(self) -> int:
        count: int = self._names.execute("SELECT count(*) FROM image").fetchone()[0]
        return count

    def __iter__(self) -> Iterator[Path]:
        """Their paths, relative to the folder."""
        with closing(self._names.execute("SELECT sort FROM image ORDER BY sort")) as found:
            for (name,) in found:
                yield _path(name)

    def like(self, relative: Path) -> Path | None:
        """The last image whose path differs from this one in its suffix at most; None where there is none."""
        stem = _keys(os.fspath(relative))[1]
        found = self._names.execute("SELECT max(sort) FROM image WHERE stem = ?", (stem,)).fetchone()
        return None if found[0] is None else _path(found[0])

    def twins(self) -> Iterator[tuple[Path, Path]]:
        """Pairs of images whose paths differ in their suffix alone."""
        query = "SELECT min(sort), max(sort) FROM image GROUP BY stem HAVING count(*) > 1 ORDER BY 1"
        with closing(self._names.execute(query)) as found:
            for first, second in found:
                yield _path(first), _path(second)


def _walk(folder: Path, under: str) -> Iterator[str]:
    """Names of image files under a folder, with the folders that they lie in."""
    with os.scandir(folder / under) as entries:
        for entry in entries:
            name = f"{under}{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, f"{name}/")
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
                yield name


def _keys(name: str) -> tuple[bytes, bytes]:
    """What a name is sorted by, folder by folder, and that of its stem."""
    sort, stem = (os.fsencode(text).replace(b"/", b"\0") for text in (name, os.path.splitext(name)[0]))
    return sort, stem


def _path(sort: bytes) -> Path:
    return Path(os.fsdecode(sort.replace(b"\0", b"/")))


def read_all(paths: Sequence[Path], side: int | None = None) -> Pixels:
    """Read images of one shape: uint8 [N, H, W, C], those larger than `side` shrunk by a whole factor.

    Raises InputError as io.read does, and where shapes differ.
    """
    return np.stack([shrink(image, side or max(image.shape)) for image in _alike(map(_read, paths))])


def pictures(folder: Path) -> Iterator[Path]:
    """The paths of all images under a folder, in their order. Raises InputError as Folder does."""
    return (folder / path for path in Folder(folder))


def read_folder(
    folder: Path, resize: Size | None = None, rows: range | None = None, mixed: bool = False
) -> Iterator[Pixels]:
    """Read all `pictures` of a folder, or those rows of them, some 64 MB at a time: uint8 [B, H, W, C].

    Those of other sizes, or grey among colour, are made alike by `resize`: RGB, by Pillow's bicubic filter; `mixed`
    ones stay as they are, and what is read at a time ends where the next differs. Raises InputError as Folder and
    `read_all` do.
    """
    paths = pictures(folder) if rows is None else islice(pictures(folder), rows.start, rows.stop)
    images = map(partial(_read, resize=resize), paths)
    alike = (image for _, image in images) if mixed else _alike(images, "; give --resize WxH")
    for _, run in groupby(alike, np.shape):
        yield from _stacked(run)


def _stacked(images: Iterator[Pixels]) -> Iterator[Pixels]:
    """Images of one shape, so many at a time as _BATCH holds."""
    for image in images:
        yield np.stack([image, *islice(images, max(1, _BATCH // image.nbytes) - 1)])


def _read(path: Path, resize: Size | None = None) -> tuple[Path, Pixels]:
    image = io.read(path)
    if resize:
        image = np.asarray(io.to_pillow(image).convert("RGB").resize(resize, Image.Resampling.BICUBIC))
    return path, image


def _alike(images: Iterable[tuple[Path, Pixels]], cure: str = "") -> Iterator[Pixels]:
    """Images of files, one by one. Raises InputError as `read_all` does, with a cure."""
    first: tuple[Path, Pixels] | None = None
    for path, image in images:
        first = first or (path, image)
        if image.shape != first[1].shape:
            raise InputError(
                f"images differ in shape: {first[0]} is {_shape(first[1])}, {path} is {_shape(image)}{cure}"
            )
        yield image


def _shows_several(path: Path) -> bool:
    """Whether an image is a sheet, strip or history that genfast wrote."""
    if not any(mark in path.stem for mark in ("-grid-", "-history", "-strip")):
        return False
    try:
        return read_params(path).shows_several()
    except InputError:
        return False


def _shape(image: Pixels) -> str:
    height, width, channels = image.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
