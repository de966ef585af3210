"""Pictures as people have them: depth, transparency, colour profile and orientation survive a change of pixels."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from genfast.errors import InputError
from genfast.images import io
from genfast.types import Format, Levels, Mask, Pixels

_KEPT = ("icc_profile", "exif", "dpi")
_MEANING = (b"cHRM", b"cICP", b"gAMA", b"sRGB")  # chunks of a PNG that say how its colours are meant
# Tags of EXIF that may hold the picture as it was: thumbnails, previews, those of Photoshop, of XMP and of cameras.
_PREVIEWS = (0x014A, 0x0201, 0x0202, 0x02BC, 0x8649, 0x927C)
_LONGEST = 4096  # bytes of a tag: what is longer is no text
_MOST = 60_000  # bytes of EXIF: a JPEG holds 65533, a comment among them
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
_WEBP_SIDE, _JPEG_SIDE = 16383, 65500  # pixels
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
        io.check_still(image, name)
        deep = image.mode.startswith("I;16")
        if not (deep or image.mode in _MODES) or io.is_rounded(image):
            raise InputError(f"{name} is {_kind(image)}; convert it to RGB of 8 bits first")
        chunks = _meaning(image) if image.format == "PNG" else ()
        upright = ImageOps.exif_transpose(image)
        kept = _kept(upright) | ({"png_chunks": chunks} if chunks else {})
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
    """What a file says beside its pixels, but for what no file can hold, and for pictures of what it showed before."""
    kept = {key: image.info[key] for key in _KEPT if image.info.get(key)}
    if not all(0 < x < _DENSEST for x in kept.get("dpi", ())):  # true of NaN
        kept.pop("dpi")
    try:
        with warnings.catch_warnings(action="error"):
            exif = Image.Exif()
            exif.load(kept.pop("exif", b""))
            below = [exif.get_ifd(each) for each in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) if each in exif]
            for tags in (exif, *below):
                for tag, value in list(tags.items()):
                    if tag in _PREVIEWS or (isinstance(value, bytes | str) and len(value) > _LONGEST):
                        del tags[tag]
            said = exif.tobytes()  # without the thumbnail, which is a directory of its own
            if len(exif) and len(said) <= _MOST:
                kept["exif"] = said
    except Exception:  # it raises all sorts
        kept.pop("exif", None)
    return kept


def _meaning(image: ImageFile.ImageFile) -> tuple[tuple[bytes, bytes], ...]:
    """The chunks of an opened PNG that say how its colours are meant, by name."""
    file = image.fp
    assert file
    place = file.tell()
    file.seek(8)
    found = []
    while len(head := file.read(8)) == 8:
        length, name = int.from_bytes(head[:4]), head[4:]
        if name in (b"IDAT", b"IEND") or length > 2**20 and name in _MEANING:
            break
        if name in _MEANING:
            found.append((name, file.read(length)))
            file.seek(4, os.SEEK_CUR)
        else:
            file.seek(length + 4, os.SEEK_CUR)
    file.seek(place)
    return tuple(found)


def opaque(photo: Photo, name: str) -> tuple[Photo, Mask]:
    """A photo whose fully transparent pixels are shown, to be filled, and where they are [H, W].

    Raises InputError where there are none.
    """
    if photo.alpha is None or not (hole := photo.alpha == 0).any():
        raise InputError(f"{name} has no transparent pixels to fill; give a mask, in which white repaints")
    photo = shown(photo, hole)
    return (replace(photo, alpha=None) if np.all(photo.alpha == 255) else photo), hole


def shown(photo: Photo, hole: Mask) -> Photo:
    """A photo whose fully transparent pixels are opaque in a hole [H, W], since they are to be filled."""
    if photo.alpha is None:
        return photo
    return replace(photo, alpha=np.where(hole & (photo.alpha == 0), np.uint8(255), photo.alpha))


def loses_meaning(photo: Photo, format: Format) -> bool:
    """Whether a format cannot hold what a picture says of how its colours are meant."""
    chunks = photo.kept.get("png_chunks", ())
    names = {name for name, _ in chunks} if isinstance(chunks, tuple) else set()
    plain = b"sRGB" in names or "icc_profile" in photo.kept  # which go before gAMA and cHRM
    return format != "png" and (b"cICP" in names or (bool(names) and not plain))


def fits(photo: Photo, format: Format) -> bool:
    """Whether a format can hold the depth, the size and the transparency of a picture."""
    if format == "png":
        return True
    side = _WEBP_SIDE if format == "webp" else _JPEG_SIDE
    deep = photo.colours.dtype != np.uint8
    return not deep and max(photo.colours.shape) <= side and not (format == "jpeg" and photo.alpha is not None)


def write(file: BinaryIO, photo: Photo, comment: str | None = None, format: Format = "png") -> None:
    """Write a picture, with a comment, as io.encode does."""
    layers = photo.colours if photo.alpha is None else np.dstack([photo.colours, photo.alpha])
    image = Image.fromarray(layers[..., 0] if layers.shape[2] == 1 else layers)
    if photo.black_and_white:
        image = image.convert("1", dither=Image.Dither.NONE)
    io.encode(file, image, format, comment, **photo.kept)


def _kind(image: Image.Image) -> str:
    return f"of mode {image.mode}" if image.mode not in _MODES else "of more than 8 bits a channel"
