import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

import genfast
from genfast import images
from genfast.errors import InputError

RECIPE = images.Recipe(model="tiny", bundle="0" * 64, steps=4, seed=7, index=50, version="0.1.0")
FORGED = [{"options": {"class": "\x1b[2J"}}, {"options": {"class; rm": 1}}, {"options": {"class": "; rm -rf"}}]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_pixels_and_the_recipe(tmp_path: Path, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    images.write(tmp_path / "a.png", image, RECIPE)
    assert np.array_equal(images.read(tmp_path / "a.png"), image)
    assert images.read_recipe(tmp_path / "a.png") == RECIPE
    with Image.open(tmp_path / "a.png") as png:
        assert (png.mode, png.size) == ("L" if channels == 1 else "RGB", (7, 5))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_other_formats_hold_both_as_well(tmp_path: Path, format: str, channels: int) -> None:
    image = np.repeat(np.random.default_rng(0).integers(0, 256, (6, 9, channels), np.uint8), 8, axis=1)
    path = tmp_path / f"a.{format}"
    recipe = RECIPE.model_copy(update={"inpainted": ("é.png", "mask.png"), "options": {"format": format}})
    images.write(path, image, recipe)
    found = images.read(path)
    off = np.abs(found.astype(int) - image)
    assert found.shape == image.shape
    assert off.max() == 0 if format == "webp" else 0 < off.mean() < 60  # random colours are the worst case
    assert images.read_recipe(path) == recipe
    with Image.open(path) as written:
        assert (written.format, written.size) == (format.upper(), (72, 6))


@pytest.mark.parametrize("comment", [b"ASCII\0\0\0hello", b"ASCII\0\0\0{}", b"", "text", (1, 2)])
def test_the_comment_of_another_program_is_no_recipe(tmp_path: Path, comment: object) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    Image.new("L", (2, 2)).save(tmp_path / "a.jpeg", exif=exif)
    with pytest.raises(InputError, match="a.jpeg carries (no recipe|a recipe that this version cannot read)"):
        images.read_recipe(tmp_path / "a.jpeg")


def test_a_png_without_a_recipe_says_so(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8))
    with pytest.raises(InputError, match="a.png carries no recipe"):
        images.read_recipe(tmp_path / "a.png")


@pytest.mark.parametrize("change", [{"seed": -1}, {"model": "\x1b[2J"}, {"bundle": "abc"}, {"steps": None}, *FORGED])
def test_a_forged_recipe_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    text = PngInfo()
    text.add_text("genfast", json.dumps({**RECIPE.model_dump(), **change}))
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(InputError, match="carries a recipe that this version cannot read"):
        images.read_recipe(tmp_path / "a.png")


def test_a_recipe_keeps_its_options(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(
        update={"options": {"class": "light blue", "temperature": 0.5, "min-steps": 3, "history": True}}
    )
    images.write(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8), recipe)
    read = images.read_recipe(tmp_path / "a.png")
    assert read == recipe
    assert [type(value) for value in read.options.values()] == [str, float, int, bool]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_holds_all_frames_and_shows_the_last(tmp_path: Path, channels: int) -> None:
    frames = list(np.random.default_rng(0).integers(0, 256, (5, 6, 8, channels), np.uint8))
    frames[2] = frames[1]  # nothing happens
    images.write_animation(tmp_path / "a.png", frames, RECIPE)
    assert images.read_recipe(tmp_path / "a.png") == RECIPE
    assert np.array_equal(images.read(tmp_path / "a.png"), frames[-1])
    with Image.open(tmp_path / "a.png") as png:
        assert png.is_animated and png.n_frames == 5  # the still image; frames 1 and 2 are one
        shown, seconds = [], []
        for i in range(1, 5):
            png.seek(i)
            shown.append(np.asarray(png.convert("RGB" if channels == 3 else "L")).reshape(6, 8, channels))
            seconds.append(png.info["duration"] / 1000)
    assert np.array_equal(shown, [frames[i] for i in (0, 1, 3, 4)])
    assert np.allclose(seconds, [0.15, 0.3, 0.15, 2])


def test_a_strip_goes_from_the_first_to_the_last() -> None:
    frames = [np.full((6, 12, 3), 10 * i, np.uint8) for i in range(15)]
    strip = images.strip(frames)
    assert strip.shape == (48, 8 * 96, 3)
    assert strip[0, ::96, 0].tolist() == [0, 20, 40, 60, 80, 100, 120, 140]
    assert images.strip(frames[:3]).shape == (48, 3 * 96, 3)
    large = images.strip([np.zeros((512, 1024, 1), np.uint8)] * 2)
    assert large.shape == (128, 512, 1)


def test_large_images_are_shrunk_by_averages(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    small = images.shrink(image, 4)
    assert small.shape == (3, 4, 3)
    assert np.abs(small - image.reshape(3, 3, 4, 3, 3).mean((1, 3))).max() < 1
    assert np.array_equal(images.shrink(image, 12), image)
    images.write(tmp_path / "a.png", image)
    assert np.array_equal(images.read_all([tmp_path / "a.png"] * 2, side=4), [small, small])


def test_images_are_read_as_a_person_sees_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert images.read(tmp_path / "a.png").tolist() == [[[0]], [[255]]]


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("CMYK", 3)]
)
def test_modes_become_grey_or_colour(tmp_path: Path, mode: str, channels: int) -> None:
    Image.new(mode, (4, 2)).save(tmp_path / "a.tif")
    assert images.read(tmp_path / "a.tif").shape == (2, 4, channels)


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_deep_images_are_refused_rather_than_clipped(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 2)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="a.tif has more than 8 bits a channel"):
        images.read(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_refused_though_pillow_rounds_them(tmp_path: Path, name: str, channels: int) -> None:
    cv2.imwrite(str(tmp_path / name), np.full((2, 4, channels), 1000, np.uint16))
    with pytest.raises(InputError, match=f"{name} has more than 8 bits a channel"):
        images.read(tmp_path / name)


def test_formats_that_nobody_asked_for_stay_closed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="a.png is no image; known are"):
        images.read(tmp_path / "a.png")


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="a.png cannot be read as an image: No such file"):
        images.read(path)
    path.write_text("hello")
    with pytest.raises(InputError, match="a.png is no image; known are BMP, "):
        images.read(path)
    images.write(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="a.png cannot be read as an image: "):
        images.read(path)


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
        images.read(tmp_path / f"a.{format}")


def test_a_bomb_of_text_is_not_unpacked(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("comment", "a" * 2_000_000, zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(InputError, match="Decompressed data too large"):
        images.read(tmp_path / "a.png")


def test_a_folder_is_read_in_order_and_in_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, name in enumerate(["a.png", "b/c.PNG", "d.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (3, 2), value).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (read,) = images.read_folder(tmp_path)
    monkeypatch.setattr(images, "_BATCH", 13)
    assert np.array_equal(np.concatenate([*images.read_folder(tmp_path)]), read)
    assert read.shape == (3, 2, 3, 1)
    assert read[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_folders_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="missing is no folder"):
        next(images.read_folder(tmp_path / "missing"))
    with pytest.raises(InputError, match="holds no images"):
        list(images.read_folder(tmp_path))
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "b.png")
    for size in 2**26, 1:
        monkeypatch.setattr(images, "_BATCH", size)
        with pytest.raises(InputError, match="differ in shape: .*a.png is 3x2 grey, .*b.png is 3x2 RGB"):
            list(images.read_folder(tmp_path))


@pytest.mark.parametrize(
    ("n", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (6, 3, 2), (7, 3, 3), (8, 4, 2), (10, 5, 2), (64, 8, 8)]
)
def test_a_contact_sheet(n: int, columns: int, rows: int) -> None:
    tiles = np.arange(1, n + 1, dtype=np.uint8)[:, None, None, None] * np.ones((1, 30, 40, 3), np.uint8)
    sheet = images.contact_sheet(tiles)
    assert sheet.shape == (rows * 60, columns * 80, 3)  # twice as large: 40 fits into 96 twice
    seen = sheet[30::60, 40::80, 0].ravel()
    assert seen.tolist() == [*range(1, n + 1)] + [0] * (rows * columns - n)
    assert np.array_equal(sheet[:60, :80], np.ones((60, 80, 3)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_uncompressed_tiff_is_read_as_a_person_sees_it(tmp_path: Path, orientation: int) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(tmp_path / "a.tif", exif=exif)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(images.read(tmp_path / "a.tif"), images.read(tmp_path / "a.png"))


def test_a_folder_is_read_without_what_shows_several_of_its_images(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    cli("sample", "--model", tiny_bundle, "-n", 3, "--history", "--out", tmp_path, check=True)
    (tmp_path / "folder.png").mkdir()
    assert len(images.find(tmp_path)) == 10
    assert np.array_equal(*images.read_folder(tmp_path), genfast.load(str(tiny_bundle)).sample(3))
