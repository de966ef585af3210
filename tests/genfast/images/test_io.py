import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from genfast.errors import InputError
from genfast.images import io

COMMENT = '{"model": "tiny", "of": "\\u00e9.png"}'


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_pixels_and_the_comment(tmp_path: Path, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    io.write(tmp_path / "a.png", image, COMMENT)
    assert np.array_equal(io.read(tmp_path / "a.png"), image)
    assert io.read_comment(tmp_path / "a.png") == COMMENT
    with Image.open(tmp_path / "a.png") as png:
        assert (png.mode, png.size) == ("L" if channels == 1 else "RGB", (7, 5))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats_hold_both_as_well(tmp_path: Path, format: str, channels: int) -> None:
    image = np.repeat(np.random.default_rng(0).integers(0, 256, (6, 9, channels), np.uint8), 8, axis=1)
    path = tmp_path / f"a.{format}"
    io.write(path, image, COMMENT)
    found = io.read(path)
    off = np.abs(found.astype(int) - image)
    assert found.shape == image.shape
    assert off.max() == 0 if format == "webp" else 0 < off.mean() < 60  # random colours are the worst case
    assert io.read_comment(path) == COMMENT.encode("ascii")
    with Image.open(path) as written:
        assert (written.format, written.size) == (format.upper(), (72, 6))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_holds_all_frames_and_shows_the_last(tmp_path: Path, channels: int) -> None:
    frames = list(np.random.default_rng(0).integers(0, 256, (5, 6, 8, channels), np.uint8))
    frames[2] = frames[1]  # nothing happens
    (tmp_path / "a.png").write_bytes(io.animation(frames, COMMENT))
    assert io.read_comment(tmp_path / "a.png") == COMMENT
    assert np.array_equal(io.read(tmp_path / "a.png"), frames[-1])
    with Image.open(tmp_path / "a.png") as png:
        assert png.is_animated and png.n_frames == 5  # the still image; frames 1 and 2 are one
        shown, seconds = [], []
        for i in range(1, 5):
            png.seek(i)
            shown.append(np.asarray(png.convert("RGB" if channels == 3 else "L")).reshape(6, 8, channels))
            seconds.append(png.info["duration"] / 1000)
    assert np.array_equal(shown, [frames[i] for i in (0, 1, 3, 4)])
    assert np.allclose(seconds, [0.15, 0.3, 0.15, 2])


def test_images_are_read_as_a_person_sees_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert io.read(tmp_path / "a.png").tolist() == [[[0]], [[255]]]


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("CMYK", 3)]
)
def test_modes_become_grey_or_colour(tmp_path: Path, mode: str, channels: int) -> None:
    Image.new(mode, (4, 2)).save(tmp_path / "a.tif")
    assert io.read(tmp_path / "a.tif").shape == (2, 4, channels)


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_deep_images_are_refused_rather_than_clipped(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 2)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="a.tif has more than 8 bits a channel"):
        io.read(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_refused_though_pillow_rounds_them(tmp_path: Path, name: str, channels: int) -> None:
    cv2.imwrite(str(tmp_path / name), np.full((2, 4, channels), 1000, np.uint16))
    with pytest.raises(InputError, match=f"{name} has more than 8 bits a channel"):
        io.read(tmp_path / name)


def test_formats_that_nobody_asked_for_stay_closed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="a.png is no image; known are"):
        io.read(tmp_path / "a.png")


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="a.png cannot be read as an image: No such file"):
        io.read(path)
    path.write_text("hello")
    with pytest.raises(InputError, match="a.png is no image; known are AVIF, BMP, "):
        io.read(path)
    io.write(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="a.png cannot be read as an image: "):
        io.read(path)


def bomb(path: Path, side: int) -> None:
    """A small image whose header promises side x side pixels."""
    Image.new("L", (8, 8)).save(path, lossless=True)
    content = path.read_bytes()
    if path.suffix == ".png":
        header = b"IHDR" + struct.pack(">II", side, side) + content[24:29]
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    elif path.suffix == ".webp":
        start = content.index(b"VP8L") + 9
        content = content[:start] + struct.pack("<I", (side - 1) << 14 | side - 1) + content[start + 4 :]
    elif path.suffix == ".jpeg":
        start = content.index(b"\xff\xc0") + 5
        content = content[:start] + struct.pack(">HH", side, side) + content[start + 4 :]
    else:
        for tag in 256, 257:
            entry = struct.pack("<HHI", tag, 4, 1)
            assert entry in content
            start = content.index(entry) + len(entry)
            content = content[:start] + struct.pack("<I", side) + content[start + 4 :]
    path.write_bytes(content)


@pytest.mark.parametrize("side", [10_000, 16_000])
@pytest.mark.parametrize("format", ["png", "webp", "jpeg", "tiff"])
def test_a_bomb_is_not_unpacked(tmp_path: Path, format: str, side: int) -> None:
    bomb(tmp_path / f"a.{format}", side)
    with pytest.raises(InputError, match=rf"a.{format} cannot be read as an image: Image size \({side**2} pixels\)"):
        io.read(tmp_path / f"a.{format}")


def test_a_bomb_of_text_is_not_unpacked(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("comment", "a" * 2_000_000, zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(InputError, match="Decompressed data too large"):
        io.read(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_uncompressed_tiff_is_read_as_a_person_sees_it(tmp_path: Path, orientation: int) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(tmp_path / "a.tif", exif=exif)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(io.read(tmp_path / "a.tif"), io.read(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("name", "bits", "options"),
    [
        ("a.avif", 8, [cv2.IMWRITE_AVIF_DEPTH, 8]),
        ("a.avif", 10, [cv2.IMWRITE_AVIF_DEPTH, 10]),
        ("a.avif", 12, [cv2.IMWRITE_AVIF_DEPTH, 12]),
        ("a.jp2", 8, []),
        ("a.jp2", 16, []),
        ("a.tga", 8, []),
    ],
)
def test_depth_of_formats_that_pillow_rounds(tmp_path: Path, name: str, bits: int, options: list[int]) -> None:
    levels = np.random.default_rng(0).integers(0, 2**bits, (64, 80, 3), np.uint16)
    if name == "a.tga":
        Image.fromarray(levels.astype(np.uint8)).save(tmp_path / name)
    else:
        assert cv2.imwrite(str(tmp_path / name), levels.astype(np.uint8) if bits == 8 else levels, options)
    if bits == 8:
        assert io.read(tmp_path / name).shape == (64, 80, 3)
    else:
        with pytest.raises(InputError, match=f"{name} has more than 8 bits a channel"):
            io.read(tmp_path / name)


def test_what_is_transparent_is_seen_on_white(tmp_path: Path) -> None:
    alpha = np.array([[255, 0, 128]], np.uint8)
    for mode in "L", "RGB":
        image = Image.new(mode, (3, 1), 100 if mode == "L" else (100, 50, 0))
        image.putalpha(Image.fromarray(alpha))
        image.save(tmp_path / "a.png")
        seen = io.read(tmp_path / "a.png")
        expected = [[100], [255], [177]] if mode == "L" else [[100, 50, 0], [255] * 3, [177, 152, 127]]
        assert seen.shape == (1, 3, len(expected[0])) and np.abs(seen[0].astype(int) - expected).max() <= 1
    Image.new("P", (3, 1)).save(tmp_path / "a.png", transparency=0)
    assert (io.read(tmp_path / "a.png") == 255).all()
    Image.new("RGBA", (3, 1), (9, 8, 7, 255)).save(tmp_path / "a.png")
    assert io.read(tmp_path / "a.png").tolist() == [[[9, 8, 7]] * 3]


def test_that_there_are_more_frames_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
    for name in "a.gif", "a.webp", "a.tif", "a.mpo":
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert np.abs(io.read(tmp_path / name)[0, 0] - np.array([255.0, 0, 0])).max() < 3
    said = [f"genfast: {tmp_path}/{name} has 3 frames; the first is read" for name in ("a.gif", "a.webp", "a.tif")]
    assert caplog.messages == said  # a camera's second picture is a preview
