import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from genfast import images
from genfast.errors import InputError

RECIPE = images.Recipe(model="tiny", bundle="0" * 64, steps=4, seed=7, index=50, version="0.1.0")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_pixels_and_the_recipe(tmp_path: Path, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    images.write(tmp_path / "a.png", image, RECIPE)
    assert np.array_equal(images.read(tmp_path / "a.png"), image)
    assert images.read_recipe(tmp_path / "a.png") == RECIPE
    with Image.open(tmp_path / "a.png") as png:
        assert (png.mode, png.size) == ("L" if channels == 1 else "RGB", (7, 5))


def test_a_png_without_a_recipe_says_so(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8))
    with pytest.raises(InputError, match="a.png carries no recipe"):
        images.read_recipe(tmp_path / "a.png")


@pytest.mark.parametrize("change", [{"seed": -1}, {"model": "\x1b[2J"}, {"bundle": "abc"}, {"steps": None}])
def test_a_forged_recipe_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    text = PngInfo()
    text.add_text("genfast", json.dumps({**RECIPE.model_dump(), **change}))
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(InputError, match="carries a recipe that this version cannot read"):
        images.read_recipe(tmp_path / "a.png")


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


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="a.png cannot be read as an image: No such file"):
        images.read(path)
    path.write_text("hello")
    with pytest.raises(InputError, match="a.png is no image$"):
        images.read(path)
    images.write(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="a.png cannot be read as an image: "):
        images.read(path)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_bomb_is_not_unpacked(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="decompression bomb"):
        images.read(tmp_path / "a.png")


def test_a_folder_is_read_in_order_and_in_depth(tmp_path: Path) -> None:
    for value, name in enumerate(["a.png", "b/c.PNG", "d.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (3, 2), value).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    read = images.read_folder(tmp_path)
    assert read.shape == (3, 2, 3, 1)
    assert read[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing is no folder"):
        images.read_folder(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no images"):
        images.read_folder(tmp_path)
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="differ in shape: .*a.png is 3x2 grey, .*b.png is 3x2 RGB"):
        images.read_folder(tmp_path)


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
