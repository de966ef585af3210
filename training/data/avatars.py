"""Cartoon faces without end: face `index` is always the same picture, at any size. The style is its class.

Drawn by DiceBear in styles whose licence lets anybody share and adapt what is drawn (CC0 1.0 or CC BY 4.0); see
`credits`.
"""

import json
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import resvg_py
from dicebear import Avatar, Style
from filelock import FileLock
from PIL import Image

from genfast.progress import progress
from genfast.types import Pixels
from training.data.images import Labels, Split

# Each style with what is changed of its defaults: rarer beards, nothing that hides half of a face.
STYLES: dict[str, dict[str, Any]] = {
    "adventurer": {},
    "big-smile": {
        "accessoriesProbability": 30,
        "accessoriesVariant": ["catEars", "glasses", "mustache", "sailormoonCrown", "sunglasses"],
    },
    "micah": {},
    "open-peeps": {"maskProbability": 0},
    "toon-head": {"beardProbability": 20},
}
CLASSES = tuple(STYLES)

BACKGROUNDS = (
    *("#b6e3f4", "#c0aede", "#d1d4f9", "#ffd5dc", "#ffdfbf", "#c8e6c9"),
    *("#fff3c4", "#f4f1ea", "#a7d8d0", "#f6b8a6", "#8fb8de", "#b8c4d6"),
)

FIRST: dict[Split, int] = {"train": 0, "validation": 10**9, "test": 2 * 10**9}  # index of each split's first face
CHUNK = 20  # faces that a process draws at a time

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Credit:
    """Whom a style is owed to."""

    style: str
    creator: str
    source: str
    licence: str
    licence_url: str


@lru_cache
def _style(name: str) -> Style:
    return Style(json.loads((files("dicebear_styles") / f"{name}.json").read_text("utf-8")))


def credits() -> tuple[Credit, ...]:
    """What the styles say of themselves, for a model's card."""
    found = []
    for name in STYLES:
        meta = _style(name).meta()
        said = meta.creator().name(), meta.source().url(), meta.license().name(), meta.license().url()
        found.append(Credit(name, *(each or "unknown" for each in said)))
    return tuple(found)


def label(index: int) -> int:
    """The class of a face: styles take turns."""
    return index % len(CLASSES)


def draw(index: int, size: int) -> Pixels:
    """Draw face number `index` as [size, size, 3] uint8."""
    style = CLASSES[label(index)]
    options = {"seed": str(index), "backgroundColor": list(BACKGROUNDS), **STYLES[style]}
    svg = str(Avatar(_style(style), options))
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    with Image.open(BytesIO(bytes(png))) as image:
        return np.array(image.convert("RGB"))


def load(split: Split, count: int, size: int, folder: Path) -> tuple[Pixels, Labels]:
    """The first `count` faces of a split: images [N, size, size, 3] uint8, mapped from disk, and labels [N] int64.

    Faces that `folder` lacks are drawn first, by every core, and kept there: a drawing that was killed is gone on with,
    and a larger count draws only what is new.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}-{size}-{_fingerprint():08x}.u8"
    with FileLock(f"{path}.lock"):
        done = _map(path.with_suffix(".done"), (count,), "r+")  # 1 where a face is drawn
        missing = np.flatnonzero(done == 0)
        if len(missing):
            _map(path, (count, size, size, 3), "r+")  # makes room
            _draw_all(split, missing, size, path, done)
    images = _map(path, (count, size, size, 3), "c")
    return images, np.array([label(FIRST[split] + i) for i in range(count)])


def _fingerprint() -> int:
    """Changes whenever faces would look different."""
    versions = [version(package) for package in ("dicebear-core", "dicebear-styles", "resvg_py")]
    return zlib.crc32(repr((STYLES, BACKGROUNDS, versions)).encode())


def _map(path: Path, shape: tuple[int, ...], mode: Literal["r+", "c"]) -> Pixels:
    path.open("ab").close()
    return np.memmap(path, np.uint8, mode, shape=shape)  # grows a file that is too short, with zeros


def _draw_all(split: Split, missing: Indices, size: int, path: Path, done: Pixels) -> None:
    """Draw missing faces of a split into the file at `path`, and mark them in `done`."""
    chunks = [missing[i : i + CHUNK] for i in range(0, len(missing), CHUNK)]
    tasks = [(split, chunk, size, path) for chunk in chunks]
    # Fresh processes: a fork of one whose threads compute may hang.
    pool = ProcessPoolExecutor(mp_context=get_context("spawn"))
    with pool, progress(f"drawing {split} faces", len(missing)) as advance:
        for chunk in pool.map(_draw_chunk, tasks):
            done[chunk] = 1  # after the pixels, so that a face is whole or missing
            advance(len(chunk))


def _draw_chunk(task: tuple[Split, Indices, int, Path]) -> Indices:
    split, chunk, size, path = task
    for i in chunk.tolist():
        row = np.memmap(path, np.uint8, "r+", offset=i * size * size * 3, shape=(size, size, 3))
        row[:] = draw(FIRST[split] + i, size)
    return chunk
