"""Nothing of a picture as it was before survives in the file of a repainted one: thumbnails, previews, trailers."""

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from genfast.images import photo
from genfast.images.jpeg import repainted

BYTES, TEXT, SHORT, LONG, UNDEFINED = 1, 2, 3, 4, 7  # types of TIFF
SIZES = {BYTES: 1, TEXT: 1, SHORT: 2, LONG: 4, UNDEFINED: 1}
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def jpeg(colour: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (16, 12), colour).save(file, "jpeg")
    return file.getvalue()


THUMBNAIL = jpeg("red")
SECRETS = {
    name: f"secret of {name} ".encode() + jpeg("blue") for name in ("XMP", "Photoshop", "MakerNote", "GPS", "MPF")
}


def directory(place: int, tags: dict[int, tuple[int, bytes]], following: int = 0) -> bytes:
    """A directory of EXIF that lies at a place of it: type and content of each tag, and where the next one lies."""
    content, entries = b"", b""
    for tag, (kind, value) in sorted(tags.items()):
        where = struct.pack("<I", place + 2 + 12 * len(tags) + 4 + len(content))
        entries += struct.pack("<HHI", tag, kind, len(value) // SIZES[kind])
        entries += value.ljust(4, b"\0") if len(value) <= 4 else where
        content += b"" if len(value) <= 4 else value
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + content


def exif() -> bytes:
    """EXIF as a camera and Photoshop write it, with pictures wherever it may hold them."""
    below = {
        ExifTags.Base.DateTimeOriginal: (TEXT, b"2020:01:02 03:04:05\0"),
        ExifTags.Base.MakerNote: (UNDEFINED, SECRETS["MakerNote"]),
    }
    gps = {1: (TEXT, b"N\0"), 27: (UNDEFINED, SECRETS["GPS"] * 8)}  # where none is to be, and longer than a text

    def top(at_below: int, at_gps: int) -> dict[int, tuple[int, bytes]]:
        return {
            ExifTags.Base.Make: (TEXT, b"Camera\0"),
            ExifTags.IFD.Exif: (LONG, struct.pack("<I", at_below)),
            ExifTags.IFD.GPSInfo: (LONG, struct.pack("<I", at_gps)),
            0x02BC: (BYTES, SECRETS["XMP"]),
            0x8649: (BYTES, SECRETS["Photoshop"]),
        }

    at_below = 8 + len(directory(8, top(0, 0)))
    at_gps = at_below + len(directory(at_below, below))
    at_thumbnail = at_gps + len(directory(at_gps, gps))
    preview = {0x0103: (SHORT, b"\6\0"), 0x0201: (LONG, bytes(4)), 0x0202: (LONG, struct.pack("<I", len(THUMBNAIL)))}
    picture = at_thumbnail + len(directory(at_thumbnail, preview))
    preview[0x0201] = (LONG, struct.pack("<I", picture))
    return b"".join(
        (
            b"Exif\0\0II*\0\x08\0\0\0",
            directory(8, top(at_below, at_gps), at_thumbnail),
            directory(at_below, below),
            directory(at_gps, gps),
            directory(at_thumbnail, preview),
            THUMBNAIL,
        )
    )


def write(path: Path) -> None:
    """A picture with previews in all the places that its format has."""
    image = Image.fromarray(PIXELS)
    xmp = b"<x:xmpmeta>" + SECRETS["XMP"] + b"</x:xmpmeta>"
    if path.suffix == ".mpo":  # JPEG, as phones write it: a second picture follows the first
        second = Image.open(BytesIO(SECRETS["MPF"].partition(b" MPF ")[2]))
        image.save(path, "MPO", save_all=True, append_images=[second], exif=exif())
    elif path.suffix == ".tif":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[ExifTags.Base.Make] = "Camera"
        for tag, name in (0x02BC, "XMP"), (0x8649, "Photoshop"):
            tags[tag] = SECRETS[name]
            tags.tagtype[tag] = BYTES
        image.save(path, tiffinfo=tags)
    else:
        image.save(path, exif=exif(), **({} if path.suffix == ".png" else {"xmp": xmp}))
    if path.suffix == ".jpg":
        block = b"Photoshop 3.0\x008BIM\x04\x0c\0\0" + SECRETS["Photoshop"]
        content = path.read_bytes()
        segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
        path.write_bytes(content[:2] + segment + content[2:] + b"trailer" + SECRETS["MPF"])


def is_clean(content: bytes, format: str) -> bool:
    """Whether a file holds one picture, and none of those that it held."""
    with Image.open(BytesIO(content)) as image:
        held = image.info.get("exif", b"")
        more = getattr(image, "n_frames", 1) > 1 or image.getexif().get_ifd(ExifTags.IFD.IFD1)
    marks = content.count(b"\xff\xd8\xff") - (format == "jpeg")
    return not (more or marks or b"\xff\xd8" in held or THUMBNAIL in content or b"secret of" in content)


@pytest.mark.parametrize("source", ["a.jpg", "a.mpo", "a.png", "a.webp", "a.tif", "a.avif"])
def test_no_preview_survives(tmp_path: Path, source: str) -> None:
    write(tmp_path / source)
    before = (tmp_path / source).read_bytes()
    assert b"secret of" in before and (THUMBNAIL in before or source == "a.tif")
    assert not is_clean(before, "jpeg" if source in ("a.jpg", "a.mpo") else "")
    picture = photo.read(tmp_path / source)
    for format in "png", "webp", "jpeg":
        file = BytesIO()
        photo.write(file, picture, '{"seed": 1}', format)
        assert is_clean(file.getvalue(), format), format
        if source != "a.tif":
            with Image.open(file) as written:
                found = written.getexif()
                assert found[ExifTags.Base.Make] == "Camera"
                assert found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == "2020:01:02 03:04:05"
                assert found.get_ifd(ExifTags.IFD.GPSInfo) == {1: "N"}


@pytest.mark.parametrize("source", ["a.jpg", "a.mpo"])
def test_none_survives_where_blocks_of_a_jpeg_do(tmp_path: Path, source: str) -> None:
    write(tmp_path / source)
    hole = np.zeros(PIXELS.shape[:2], bool)
    hole[8:16, 8:24] = True
    content = repainted((tmp_path / source).read_bytes(), photo.read(tmp_path / source), hole, '{"seed": 1}')
    assert content and is_clean(content, "jpeg") and content.endswith(b"\xff\xd9")
    with Image.open(BytesIO(content)) as written:
        assert written.format == "JPEG" and written.getexif()[ExifTags.Base.Make] == "Camera"


def test_long_texts_are_no_text(tmp_path: Path) -> None:
    """A PNG holds EXIF of any length, a JPEG 64 kB of it."""
    held = Image.Exif()
    held[ExifTags.Base.Make], held[ExifTags.Base.ImageDescription] = "Camera", "base64 " * 20_000
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=held)
    picture = photo.read(tmp_path / "a.png")
    for format in "png", "webp", "jpeg":
        file = BytesIO()
        photo.write(file, picture, '{"seed": 1}', format)
        with Image.open(file) as written:
            assert written.getexif()[ExifTags.Base.Make] == "Camera" and b"base64" not in file.getvalue()
    for tag in range(0xC000, 0xC000 + 60):  # more than any JPEG holds
        held[tag] = "x" * 3000
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=held)
    for format in "png", "webp", "jpeg":
        photo.write(BytesIO(), photo.read(tmp_path / "a.png"), '{"seed": 1}', format)
