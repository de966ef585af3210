"""Pictures as people have them: depth, transparency, colour profile and orientation survive a change of pixels."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from genfast.errors import InputError
from genfast.images import io
from genfast.types import Format, Levels, Pixels

_KEPT = ("icc_profile", "exif", "dpi")
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
_WEBP_SIDE = 16383  # pixels
_DENSEST = 1e8  # dots an inch: PNG counts those of a metre in 32 bits


@dataclass(frozen=True)
class Photo:
    """A picture, the right way up.

    `colours` is uint8 or uint16 [H, W, C], C being 1 or 3; `alpha` uint8 [H, W]; `kept` what its file says beside the
    pixels, by the names that Pillow gives it.
    """

    colours: Levels
    alpha: Pixels | None = None
    black_and_white: bool = False
    kept: Mapping[str, object] = field(default_factory=dict)


def read(source: Path | BinaryIO) -> Photo:
    """Read a picture. One with a palette becomes RGB.

    Raises InputError for what is no image, or moves, or has other than grey or RGB colours of 8 bits or grey ones of
    16, and for more than 89 million pixels.
    """
    with io.opened(source) as image:
        name = io.name(source)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # which cameras write, previews included
            raise InputError(f"{name} has {frames} frames; give one of them as a file of its own")
        deep = image.mode.startswith("I;16")
        if not (deep or image.mode in _MODES) or io.is_rounded(image):
            raise InputError(f"{name} is {_kind(image)}; convert it to RGB of 8 bits first")
        upright = ImageOps.exif_transpose(image)
        kept = _kept(upright)
        if deep:
            if "transparency" in upright.info:
                kept["transparency"] = upright.info["transparency"]
            return Photo(np.asarray(upright)[..., None].astype(np.uint16), kept=kept)
        channels = 1 if upright.mode in ("1", "L", "LA") else 3
        target = ("L" if channels == 1 else "RGB") + ("A" if upright.has_transparency_data else "")
        pixels = np.asarray(upright.convert(target)).reshape(upright.height, upright.width, len(target))
    alpha = pixels[..., channels] if len(target) > channels else None
    return Photo(pixels[..., :channels], alpha, upright.mode == "1" and alpha is None, kept)


def _kept(image: Image.Image) -> dict[str, object]:
    """What a file says beside its pixels, but for what no file can hold."""
    kept = {key: image.info[key] for key in _KEPT if image.info.get(key)}
    if not all(0 < x < _DENSEST for x in kept.get("dpi", ())):  # true of NaN
        kept.pop("dpi")
    try:
        with warnings.catch_warnings(action="error"):
            exif = Image.Exif()
            exif.load(kept.get("exif", b""))
            exif.get_ifd(ExifTags.IFD.Exif)
            exif.tobytes()
    except Exception:  # it raises all sorts
        kept.pop("exif", None)
    return kept


def fits(photo: Photo, format: Format) -> bool:
    """Whether a format that loses nothing can hold a picture."""
    return format == "png" or (photo.colours.dtype == np.uint8 and max(photo.colours.shape) <= _WEBP_SIDE)


def write(file: BinaryIO, photo: Photo, comment: str | None = None, format: Format = "png") -> None:
    """Write a picture, with a comment, as io.encode does."""
    layers = photo.colours if photo.alpha is None else np.dstack([photo.colours, photo.alpha])
    image = Image.fromarray(layers[..., 0] if layers.shape[2] == 1 else layers)
    if photo.black_and_white:
        image = image.convert("1", dither=Image.Dither.NONE)
    io.encode(file, image, format, comment, **photo.kept)


def _kind(image: Image.Image) -> str:
    return f"of mode {image.mode}" if image.mode not in _MODES else "of 16 bits a channel"
