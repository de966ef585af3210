"""Cartoon faces without end: face `index` is always the same picture, at any size. The style is its class.

Drawn by DiceBear in styles whose licence lets anybody share and adapt what is drawn (CC0 1.0 or CC BY 4.0); see
`credits`.
"""

import json
import zlib
from collections.abc import Mapping
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

from genfast.attributes import NONE, Attribute, Rows
from genfast.progress import progress
from genfast.types import Pixels
from training.data.attributes import encode
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

# What people call DiceBear's components and colours, where that is not their name, or with `-colour`.
NAMES = {
    "backgroundColor": "background",
    "baseColor": "skin",
    "clothingColor": "clothes-colour",
    "earringColor": "earrings-colour",
    "eyeShadowColor": "eye-shadow",
    "facialHairVariant": "beard",
    "headContrastColor": "hair-colour",
    "headVariant": "hair",
    "rearHairVariant": "rear-hair",
    "shirtColor": "clothes-colour",
    "skinColor": "skin",
}

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


def _avatar(index: int) -> Avatar:
    style = CLASSES[label(index)]
    return Avatar(_style(style), {"seed": str(index), "backgroundColor": list(BACKGROUNDS), **STYLES[style]})


def draw(index: int, size: int) -> Pixels:
    """Draw face number `index` as [size, size, 3] uint8."""
    return render(_avatar(index), size)


def render(avatar: Avatar, size: int) -> Pixels:
    """Draw DiceBear's picture as [size, size, 3] uint8."""
    svg = str(avatar)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    with Image.open(BytesIO(bytes(png))) as image:
        return np.array(image.convert("RGB"))


def attributes(split: Split, count: int) -> tuple[tuple[Attribute, ...], Rows]:
    """What the first `count` faces of a split show: attributes, and rows [N, A]."""
    values: dict[str, list[str]] = {}
    colours: set[str] = set()
    for style in CLASSES:
        for name, key in options(style).items():
            values.setdefault(name, []).extend(_palette(style, key) or [NONE, *_variants(style, key)])
            colours.update({name} if _palette(style, key) else ())
    return encode([told(FIRST[split] + i) for i in range(count)], values, colours)


def told(index: int) -> dict[str, str]:
    """What face number `index` shows, by attribute: a component's variant, or `none`, and colours.

    A colour that nothing of this face has (that of hair, say, on a bald head) is any of its style's, for it would have
    been true as well.
    """
    style, picked = CLASSES[label(index)], _avatar(index).to_json()["options"]
    found = {}
    for name, key in options(style).items():
        palette = _palette(style, key)
        said = picked.get(key, palette[index * 7919 % len(palette)] if palette else NONE)
        found[name] = said[0] if isinstance(said, list) else said
    return found


@lru_cache
def options(style: str) -> dict[str, str]:
    """The option of DiceBear that each attribute of a style is, of those that differ from face to face."""
    components = [f"{name}Variant" for name, each in _style(style).components().items() if len(each.variants()) > 1]
    colours = [f"{name}Color" for name, each in _style(style).colors().items() if len(each.values()) > 1]
    hidden = {key.removesuffix("Probability") for key, value in STYLES[style].items() if value == 0}
    keys = [key for key in ["backgroundColor", *components, *colours] if key.removesuffix("Variant") not in hidden]
    return {_name(style, key): key for key in keys}


def _name(style: str, key: str) -> str:
    if (style, key) == ("open-peeps", "accessoriesVariant"):
        return "glasses"  # all of them are, or an eyepatch
    return NAMES.get(key, key.removesuffix("Variant").replace("Color", "-colour"))


def _variants(style: str, key: str) -> list[str]:
    return [*_style(style).components()[key.removesuffix("Variant")].variants()]


@lru_cache
def _palette(style: str, key: str) -> list[str]:
    """The colours that an option is taken from; nothing where it is no colour."""
    if key == "backgroundColor":
        return list(BACKGROUNDS)
    return [*_style(style).colors()[key.removesuffix("Color")].values()] if key.endswith("Color") else []


def picture(style: str, attributes: Mapping[str, str], size: int) -> Pixels:
    """DiceBear's own picture of a style with these attributes, all of them, as [size, size, 3] uint8."""
    asked: dict[str, object] = {"seed": "0", **STYLES[style]}
    for name, key in options(style).items():
        if key.endswith("Variant"):
            asked[key.replace("Variant", "Probability")] = 0 if attributes[name] == NONE else 100
        if attributes[name] != NONE:
            asked[key] = [attributes[name]]
    return render(Avatar(_style(style), asked), size)


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
