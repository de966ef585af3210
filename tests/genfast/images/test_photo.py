"""What people's files say beside their pixels survives."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from genfast.errors import InputError
from genfast.images import io, photo

COMMENT = '{"model": "tiny"}'
rng = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (Image.fromarray(pixels(6, 8)), "L"),
        (Image.fromarray(pixels(6, 8)).convert("1"), "1"),
        (Image.fromarray(pixels(6, 8, 2), "LA"), "LA"),
        (Image.fromarray(pixels(6, 8, 3)), "RGB"),
        (Image.fromarray(pixels(6, 8, 4), "RGBA"), "RGBA"),
        (Image.fromarray(rng.integers(0, 65536, (6, 8), np.uint16)), "I;16"),
        (Image.fromarray(pixels(6, 8, 3)).quantize(7), "RGB"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.mode,
)
def test_mode_and_every_bit_of_it(tmp_path: Path, image: Image.Image, mode: str) -> None:
    image.save(tmp_path / "a.png")
    picture = photo.read(tmp_path / "a.png")
    assert picture.colours.shape == (6, 8, 3 if "RGB" in mode else 1)
    with open(tmp_path / "b.png", "xb") as file:
        photo.write(file, picture)
    with Image.open(tmp_path / "b.png") as written:
        assert written.mode == mode
        assert np.array_equal(np.asarray(written), np.asarray(image.convert(mode) if image.mode == "P" else image))


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_becomes_an_alpha_channel(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (8, 6)).convert(mode)
    image.save(tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else image.getpixel((0, 0)))
    picture = photo.read(tmp_path / "a.png")
    assert picture.alpha is not None and not picture.alpha.any()


def test_profile_density_and_orientation(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"  # turn clockwise to see it
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:, :24] = 255
    Image.fromarray(np.rot90(upright)).save(
        tmp_path / "a.jpg", exif=exif, icc_profile=profile, dpi=(300, 300), quality=95
    )
    picture = photo.read(tmp_path / "a.jpg")
    assert np.array_equal(picture.colours > 128, upright > 128)
    file = BytesIO()
    photo.write(file, picture)
    with Image.open(file) as written:
        assert written.info["icc_profile"] == profile and round(written.info["dpi"][0]) == 300
        assert dict(written.getexif()) == {0x010F: "Maker"}


def test_the_first_picture_of_a_phone_s_two(tmp_path: Path) -> None:
    main, preview = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (4, 3), "blue")
    main.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    assert photo.read(tmp_path / "a.jpg").colours.shape == (6, 8, 3)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def deep_colours(path: Path) -> None:
    """Sixteen bits a channel, which Pillow cannot write: a PNG whose header says so."""
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" + bytes(range(12)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def moving(path: Path) -> None:
    frames = [Image.new("L", (8, 6), level) for level in (0, 99, 200)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (deep_colours, "of more than 8 bits a channel; convert it to RGB of 8 bits first"),
        (moving, "has 3 frames; give one of them"),
        (lambda path: Image.new("CMYK", (8, 6)).save(path, "JPEG"), "of mode CMYK; convert it to RGB"),
        (lambda path: Image.new("F", (8, 6)).save(path, "TIFF"), "of mode F; convert it to RGB"),
        (lambda path: path.write_bytes(b""), "is no image"),
        (lambda path: path.mkdir(), "cannot be read as an image: Is a directory"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "a")
    with pytest.raises(InputError, match=message):
        photo.read(tmp_path / "a")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_webp_keeps_every_pixel_the_profile_and_the_orientation(tmp_path: Path, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    layers = pixels(6, 8, 4)
    layers[:3, :, 3] = 0  # colours that nobody sees
    Image.fromarray(layers, "RGBA").convert(mode).save(tmp_path / "a.png", exif=exif, icc_profile=b"profile")
    picture = photo.read(tmp_path / "a.png")
    with open(tmp_path / "a.webp", "xb") as file:
        photo.write(file, picture, COMMENT, "webp")
    again = photo.read(tmp_path / "a.webp")
    assert np.array_equal(again.colours, np.broadcast_to(picture.colours, (8, 6, 3)))
    assert (picture.alpha is again.alpha is None) or np.array_equal(picture.alpha, again.alpha)
    assert io.read_comment(tmp_path / "a.webp") == COMMENT.encode("ascii")
    with Image.open(tmp_path / "a.webp") as written:
        assert written.info["icc_profile"] == b"profile" and written.getexif()[0x010F] == "Maker"
        assert 0x0112 not in written.getexif()


def test_what_other_formats_cannot_hold() -> None:
    for colours, webp, jpeg in (
        (pixels(2, 2, 3), True, True),
        (pixels(2, 2, 3).astype(np.uint16), False, False),
        (pixels(1, 16384, 1), False, True),
        (pixels(1, 65501, 1), False, False),
    ):
        picture, veiled = photo.Photo(colours), photo.Photo(colours, alpha=colours[..., 0])
        assert photo.fits(picture, "png") and photo.fits(picture, "webp") == webp
        assert photo.fits(picture, "jpeg") == jpeg
        assert photo.fits(veiled, "png") and photo.fits(veiled, "webp") == webp and not photo.fits(veiled, "jpeg")


def test_a_stream_is_standard_input() -> None:
    with pytest.raises(InputError, match="standard input is no image"):
        photo.read(BytesIO(b"hello"))


@pytest.mark.parametrize(
    ("kept", "format"),
    [
        ({"resolution": 0.0}, "TIFF"),
        ({"resolution": 4294967295}, "TIFF"),
        ({"exif": b"Exif\0\0no TIFF"}, "JPEG"),
        ({"exif": b"Exif\0\0II*\0\xff\xff\xff\x7f"}, "WEBP"),
    ],
)
def test_damaged_metadata_are_left_behind(tmp_path: Path, kept: dict[str, object], format: str) -> None:
    Image.fromarray(pixels(6, 8, 3)).save(tmp_path / "a", format, **kept)
    picture = photo.read(tmp_path / "a")
    for target in "png", "webp":
        file = BytesIO()
        photo.write(file, picture, COMMENT, target)
        with Image.open(file) as written:
            assert np.array_equal(np.asarray(written), picture.colours)


@pytest.mark.parametrize("mode", ["1", "I;16"])
def test_the_transparent_grey_of_unusual_depths_survives(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(pixels(6, 8)).convert(mode)
    image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))
    with open(tmp_path / "b.png", "xb") as file:
        photo.write(file, photo.read(tmp_path / "a.png"))
    seen = [np.asarray(Image.open(tmp_path / name).convert("LA")) for name in ("a.png", "b.png")]
    assert np.array_equal(*seen) and not seen[0][..., 1].all()


MEANING = {  # chunks of a PNG, and what they hold
    b"cHRM": struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
    b"cICP": bytes([9, 16, 0, 1]),
    b"gAMA": struct.pack(">I", 100_000),
    b"sRGB": b"\0",
}


def chunks(content: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG by name, in order."""
    found, place = {}, 8
    while place < len(content):
        length = int.from_bytes(content[place : place + 4])
        found[content[place + 4 : place + 8]] = content[place + 8 : place + 8 + length]
        place += length + 12
    return found


@pytest.mark.parametrize("names", [*([name] for name in MEANING), [b"gAMA", b"cHRM", b"cICP"], [b"sRGB", b"gAMA"]])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_a_png_says_how_its_colours_are_meant(tmp_path: Path, mode: str, names: list[bytes]) -> None:
    file = BytesIO()
    Image.new(mode, (8, 6)).save(file, "png")
    content = file.getvalue()
    said = b"".join(chunk(name, MEANING[name]) for name in names)
    (tmp_path / "a.png").write_bytes(content[:33] + said + content[33:])  # after IHDR
    picture = photo.read(tmp_path / "a.png")
    file = BytesIO()
    photo.write(file, picture, COMMENT)
    found = chunks(file.getvalue())
    assert {name: found.get(name) for name in MEANING} == {name: MEANING[name] for name in MEANING if name in names} | {
        name: None for name in MEANING if name not in names
    }
    order = [*found]
    assert max(order.index(name) for name in names) < order.index(b"IDAT")
    assert not photo.loses_meaning(picture, "png")
    for format in "webp", "jpeg":  # which know sRGB alone
        assert photo.loses_meaning(picture, format) == (b"sRGB" not in names)


def test_a_profile_goes_before_gamma(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = BytesIO()
    Image.new("RGB", (8, 6)).save(file, "png", icc_profile=profile)
    content = file.getvalue()
    for name, loses in (b"gAMA", False), (b"cICP", True):
        (tmp_path / "a.png").write_bytes(content[:33] + chunk(name, MEANING[name]) + content[33:])
        picture = photo.read(tmp_path / "a.png")
        assert picture.kept["icc_profile"] == profile and photo.loses_meaning(picture, "webp") == loses


def test_nothing_is_said_by_who_says_nothing(tmp_path: Path) -> None:
    for name in "a.png", "a.jpg", "a.webp", "a.tif":
        Image.new("RGB", (8, 6)).save(tmp_path / name)
        picture = photo.read(tmp_path / name)
        assert "png_chunks" not in picture.kept and not photo.loses_meaning(picture, "jpeg")


def test_what_is_fully_transparent_is_a_hole() -> None:
    alpha = np.full((6, 8), 255, np.uint8)
    alpha[1, 2:5] = 0
    colours = pixels(6, 8, 3)
    picture, hole = photo.opaque(photo.Photo(colours, alpha), "a.png")
    assert picture.alpha is None and np.array_equal(hole, alpha == 0) and np.array_equal(picture.colours, colours)
    alpha[4, 4] = 1  # hardly to be seen, and no hole
    picture, hole = photo.opaque(photo.Photo(colours, alpha), "a.png")
    assert picture.alpha is not None and np.array_equal(hole, alpha == 0)
    assert np.array_equal(picture.alpha, np.where(hole, 255, alpha))
    for given in None, np.ones((6, 8), np.uint8):
        with pytest.raises(InputError, match="a.png has no transparent pixels to fill; give a mask, in which white"):
            photo.opaque(photo.Photo(colours, given), "a.png")


@pytest.mark.parametrize("name", ["a.avif", "a.jp2", "a.tga"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_other_formats_of_photographs(tmp_path: Path, name: str, mode: str) -> None:
    image = Image.fromarray(pixels(64, 80, 4), "RGBA").convert(mode)
    image.save(tmp_path / name)
    picture = photo.read(tmp_path / name)
    with Image.open(tmp_path / name) as written:
        expected = np.atleast_3d(np.asarray(written))
    assert np.array_equal(picture.colours, expected[..., : picture.colours.shape[2]])
    assert (picture.alpha is not None) == (mode == "RGBA")
    if name != "a.avif":  # which has losses, and no grey
        assert np.array_equal(expected, np.atleast_3d(np.asarray(image)))


def test_only_what_is_filled_and_fully_transparent_becomes_opaque() -> None:
    colours, alpha = np.zeros((1, 4, 3), np.uint8), np.array([[0, 0, 90, 255]], np.uint8)
    hole = np.array([[True, False, True, False]])
    shown = photo.shown(photo.Photo(colours, alpha), hole)
    assert shown.alpha is not None and shown.alpha.tolist() == [[255, 0, 90, 255]]
