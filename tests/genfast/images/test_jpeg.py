"""JPEGs that are repainted keep the coefficients of every block that the hole does not touch."""

import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import jpeglib
import numpy as np
import pytest
from PIL import Image

from genfast.errors import UsageError
from genfast.images import io, photo
from genfast.images.jpeg import repainted

ORIENTATION, MAKE = 0x0112, 0x010F


def picture(grey: bool) -> Image.Image:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8)).resize((203, 151), Image.Resampling.BICUBIC)
    return image.convert("L") if grey else image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("grey", "progressive", "subsampling"), [(0, 0, 0), (0, 1, 1), (0, 0, 2), (1, 0, 0)])
def test_blocks_outside_the_hole_keep_their_coefficients(
    tmp_path: Path, orientation: int, grey: bool, progressive: bool, subsampling: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, "Camera"
    before, after = tmp_path / "before.jpg", tmp_path / "after.jpg"
    settings = {"quality": 83, "subsampling": subsampling, "progressive": bool(progressive)}
    picture(bool(grey)).save(before, exif=exif.tobytes(), dpi=(300, 300), **settings)
    old = photo.read(before)
    hole = np.zeros(old.colours.shape[:2], bool)
    hole[40:70, 33:80] = True
    colours = old.colours.copy()
    colours[hole] = 200
    content = repainted(before.read_bytes(), replace(old, colours=colours), hole, '{"seed": 1}')
    assert content
    after.write_bytes(content)

    a, b = jpeglib.read_dct(str(before)), jpeglib.read_dct(str(after))
    assert np.array_equal(a.qt, b.qt) and np.array_equal(a.samp_factor, b.samp_factor)
    turned = hole if orientation < 5 else hole.T
    for name, factor in zip(("Y", "Cb", "Cr"), a.samp_factor, strict=False):
        changed = (getattr(a, name) != getattr(b, name)).any((2, 3))
        size = 64 * np.prod(a.samp_factor.max(0) // factor)  # pixels of a block
        assert 0 < changed.sum() <= turned.sum() / size + 2 * (turned.shape[0] + turned.shape[1]) / np.sqrt(size)
    new = photo.read(after)
    far = np.ones_like(hole)
    far[40 - 24 : 70 + 24, 33 - 24 : 80 + 24] = False
    assert np.array_equal(new.colours[far], old.colours[far])
    assert np.abs(new.colours[hole].astype(int) - 200).mean() < 8
    assert io.read_comment(after) == b'{"seed": 1}'
    with Image.open(after) as image:
        found = image.getexif()
        assert (found.get(ORIENTATION, 1), found[MAKE], image.info["dpi"]) == (orientation, "Camera", (300, 300))


def test_what_is_no_such_jpeg_is_left_to_others() -> None:
    colours = np.zeros((16, 16, 3), np.uint8)
    hole = np.ones((16, 16), bool)
    png = BytesIO()
    Image.fromarray(colours).save(png, "png")
    assert repainted(png.getvalue(), photo.Photo(colours), hole) is None
    jpeg = BytesIO()
    Image.fromarray(colours).save(jpeg, "jpeg")
    assert repainted(jpeg.getvalue(), photo.Photo(colours, alpha=colours[..., 0]), hole) is None
    rgb = BytesIO()
    Image.fromarray(colours).save(rgb, "jpeg", keep_rgb=True)
    assert repainted(rgb.getvalue(), photo.Photo(colours), hole) is None


@pytest.mark.parametrize("subsampling", ["411", "420", "422", "440", "444"])
def test_a_subsampling_that_pillow_does_not_write_is_left_to_others(tmp_path: Path, subsampling: str) -> None:
    path = tmp_path / "a.jpg"
    option = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{subsampling}")
    cv2.imwrite(str(path), np.asarray(picture(False)), [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, option])
    old = photo.read(path)
    hole = np.zeros(old.colours.shape[:2], bool)
    hole[40:70, 33:80] = True
    content = repainted(path.read_bytes(), old, hole)
    assert (content is None) == (subsampling in ("411", "440"))
    if content:
        assert np.array_equal(np.asarray(Image.open(BytesIO(content)))[:16], old.colours[:16])


def test_an_empty_hole_changes_no_coefficient(tmp_path: Path) -> None:
    before, after = tmp_path / "before.jpg", tmp_path / "after.jpg"
    picture(False).save(before, quality=70)
    old = photo.read(before)
    content = repainted(before.read_bytes(), old, np.zeros(old.colours.shape[:2], bool))
    assert content
    after.write_bytes(content)
    a, b = jpeglib.read_dct(str(before)), jpeglib.read_dct(str(after))
    assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("Y", "Cb", "Cr"))


def test_without_jpeglib_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jpeglib", None)
    file = BytesIO()
    picture(False).save(file, "jpeg")
    old = photo.read(file)
    with pytest.raises(UsageError, match=r"by jpeglib; pip install 'genfast\[jpeg\]'"):
        repainted(file.getvalue(), old, np.ones(old.colours.shape[:2], bool))
