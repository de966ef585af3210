"""A picture that is given as a mask is refused; whatever people paint as a mask is none."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from genfast.errors import InputError
from genfast.inpainting import masks
from genfast.types import Mask, Pixels
from tests.genfast.cli.world import photograph

HEIGHT, WIDTH = 100, 140
PICTURE = photograph()
GREY = PICTURE.mean(2).astype(np.uint8)
HOLE = np.zeros((HEIGHT, WIDTH), bool)
HOLE[20:60, 30:110] = True
DEPTH = cv2.distanceTransform(HOLE.astype(np.uint8), cv2.DIST_L2, 5)  # of the hole, in pixels


def image(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels.astype(np.uint8))


def brush(colour: tuple[int, int, int], background: int, softness: float) -> Image.Image:
    """The hole in a colour, its edge fading into black or white."""
    weight = np.clip(DEPTH / softness, 0, 1)[..., None]
    return image(weight * np.array(colour) + (1 - weight) * background)


def layer(colour: tuple[int, int, int], softness: float) -> Image.Image:
    """The hole painted on nothing."""
    alpha = 255 * np.clip(DEPTH / softness, 0, 1)
    return image(np.dstack([np.broadcast_to(colour, (HEIGHT, WIDTH, 3)), alpha]))


def noisy() -> Pixels:
    """A hole as a JPEG of little quality has it."""
    file = BytesIO()
    image(255 * HOLE).save(file, "jpeg", quality=10)
    return np.asarray(Image.open(file))


PICTURES = {
    "colour": image(PICTURE),
    "grey": image(GREY),
    "16 bits": Image.fromarray(GREY.astype(np.uint16) * 257),
    "inverted": image(255 - PICTURE),
    "palette": image(PICTURE).quantize(64),
    "hole in its transparency": image(np.dstack([PICTURE, np.where(HOLE, 0, 255)])),
    "most of it transparent": image(np.dstack([PICTURE, np.where(HOLE, 255, 0)])),
    "red stroke": image(np.where(HOLE[..., None], [255, 0, 0], PICTURE)),
    "white stroke": image(np.where(HOLE[..., None], 255, PICTURE)),
    "black stroke on grey": image(np.where(HOLE, 0, GREY)),
    "hole in grey transparency": image(np.dstack([GREY, np.where(HOLE, 0, 255)])),
}


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_no_mask(tmp_path: Path, name: str, invert: bool) -> None:
    PICTURES[name].save(tmp_path / "a.png")
    with pytest.raises(InputError, match="a.png is a picture, and no mask; a mask is black where the image stays and"):
        masks.read(tmp_path / "a.png", (HEIGHT, WIDTH), invert=invert)


SOFT = 12.5  # pixels
HALF = DEPTH / SOFT >= 0.5
BOX = Image.new("RGB", (WIDTH, HEIGHT))
ImageDraw.Draw(BOX).ellipse((30, 20, 110, 60), fill="white", outline="grey", width=3)
MASKS: dict[str, tuple[Image.Image, Mask]] = {
    "hard": (image(255 * HOLE), HOLE),
    "inverted": (image(255 * ~HOLE), ~HOLE),
    "soft": (brush((255, 255, 255), 0, SOFT), HALF),
    "soft inverted": (brush((0, 0, 0), 255, SOFT), ~HALF),
    "soft yellow": (brush((255, 255, 0), 0, SOFT), DEPTH / SOFT >= 0.57),
    "soft cyan": (brush((0, 255, 255), 0, SOFT), DEPTH / SOFT >= 0.72),
    "green": (brush((0, 255, 0), 0, 0.1), HOLE),
    "all of one colour": (Image.new("RGB", (WIDTH, HEIGHT), (255, 200, 90)), np.ones_like(HOLE)),
    "all of one grey": (Image.new("L", (WIDTH, HEIGHT), 130), np.ones_like(HOLE)),
    "two greys": (image(np.where(HOLE, 150, 100)), HOLE),
    "two colours": (image(np.where(HOLE[..., None], [255, 255, 0], [0, 0, 160])), HOLE),
    "red layer": (layer((255, 0, 0), 0.1), HOLE),
    "soft blue layer": (layer((0, 0, 255), SOFT), HALF),
    "grey layer": (layer((128, 128, 128), SOFT), HALF),
    "black layer": (layer((0, 0, 0), 0.1), HOLE),
    "JPEG": (image(noisy()), noisy() >= 128),
    "ellipse with an edge": (BOX, np.asarray(BOX)[..., 0] >= 128),
    "16 bits": (Image.fromarray(HOLE.astype(np.uint16) * 65535), HOLE),
    "noise of two levels": (Image.fromarray(GREY > 128), GREY > 128),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_no_picture(tmp_path: Path, name: str) -> None:
    mask, wanted = MASKS[name]
    mask.save(tmp_path / "a.png")
    found = masks.read(tmp_path / "a.png", (HEIGHT, WIDTH))
    assert (found != wanted).mean() < 0.01 and 0.05 < found.mean()


def test_few_pixels_are_no_picture(tmp_path: Path) -> None:
    image(PICTURE[:31, :31]).save(tmp_path / "a.png")
    assert masks.read(tmp_path / "a.png", (31, 31)).shape == (31, 31)
