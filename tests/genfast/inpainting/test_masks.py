import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genfast.errors import InputError
from genfast.inpainting import masks

WANTED = np.zeros((6, 8), bool)
WANTED[1:4, 2:7] = True
LEVELS = WANTED.astype(np.uint8) * 255


def palette() -> Image.Image:
    image = Image.fromarray(WANTED.astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 250, 240, 230])
    return image


def layered(colours: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.broadcast_to(colours, (6, 8, 3)), alpha]).astype(np.uint8))


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(LEVELS),
        Image.fromarray(LEVELS).convert("1"),
        Image.fromarray(LEVELS).convert("RGB"),
        Image.fromarray(np.where(WANTED, 128, 127).astype(np.uint8)),
        Image.fromarray(np.where(WANTED, 32768, 32767).astype(np.uint16)),
        palette(),
        layered(LEVELS[..., None], np.full((6, 8), 255)),
        layered(np.full(3, 255), LEVELS),  # white strokes on nothing
        layered(np.zeros(3), LEVELS),  # black ones
        layered(np.where(WANTED[..., None], 255, [90, 80, 70]), LEVELS),  # what is transparent has no colour
    ],
    ids=["grey", "1-bit", "RGB", "half", "16-bit", "palette", "opaque", "white layer", "black layer", "hidden colours"],
)
@pytest.mark.parametrize("invert", [False, True])
def test_white_repaints_in_any_mode(tmp_path: Path, image: Image.Image, invert: bool) -> None:
    image.save(tmp_path / "mask.png")
    assert np.array_equal(masks.read(tmp_path / "mask.png", (6, 8), invert=invert), WANTED != invert)


def test_jpeg_and_its_grey_fringes(tmp_path: Path) -> None:
    wanted = np.zeros((64, 64), bool)
    wanted[16:40, 8:48] = True
    Image.fromarray(wanted.astype(np.uint8) * 255).save(tmp_path / "mask.jpg", quality=50)
    assert np.array_equal(masks.read(tmp_path / "mask.jpg", (64, 64)), wanted)


def test_a_mask_in_transparency_alone_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layered(LEVELS[..., None], np.full((6, 8), 255)).save(tmp_path / "grey.png")
    layered(np.zeros(3), LEVELS).save(tmp_path / "layer.png")
    with caplog.at_level(logging.WARNING):
        masks.read(tmp_path / "grey.png", (6, 8))
        assert not caplog.messages
        masks.read(tmp_path / "layer.png", (6, 8))
    assert caplog.messages == [
        f"genfast: {tmp_path}/layer.png has one colour alone: what is opaque is repainted (--invert for what is not)"
    ]


def test_the_right_way_up(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it
    Image.fromarray(np.rot90(LEVELS)).save(tmp_path / "mask.png", exif=exif)
    assert np.array_equal(masks.read(tmp_path / "mask.png", (6, 8)), WANTED)


def test_sizes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "mask.png")
    assert np.array_equal(masks.read(tmp_path / "mask.png", (6, 8)), WANTED) and not caplog.messages
    assert np.array_equal(masks.read(tmp_path / "mask.png", (18, 24)), WANTED.repeat(3, 0).repeat(3, 1))
    assert caplog.messages == [f"genfast: {tmp_path}/mask.png is scaled from 8x6 to 24x18"]
    assert masks.read(tmp_path / "mask.png", (601, 800)).shape == (601, 800)  # 600 and a rounded half
    for shape in (8, 6), (6, 9), (600, 900), (1, 1):
        with pytest.raises(InputError, match=r"mask.png is 8x6, which does not fit an image of"):
            masks.read(tmp_path / "mask.png", shape)


def test_floats_are_no_mask(tmp_path: Path) -> None:
    Image.new("F", (8, 6)).save(tmp_path / "mask.tiff")
    with pytest.raises(InputError, match="more than 16 bits"):
        masks.read(tmp_path / "mask.tiff", (6, 8))


random_masks = st.integers(0, 2**32).flatmap(
    lambda seed: st.tuples(st.integers(1, 12), st.integers(1, 12)).map(
        lambda shape: np.random.default_rng(seed).random(shape) < 0.2
    )
)


@settings(max_examples=50, deadline=None)
@given(random_masks, st.integers(0, 20))
def test_grown_is_what_lies_within_so_many_rows_and_columns(mask: np.ndarray, by: int) -> None:
    places = np.argwhere(mask)
    grid = np.argwhere(np.ones_like(mask))
    near = (np.abs(grid[:, None] - places[None]).max(2) <= by).any(1) if len(places) else np.zeros(len(grid), bool)
    assert np.array_equal(masks.grown(mask, by), near.reshape(mask.shape))


@settings(max_examples=50, deadline=None)
@given(random_masks, st.integers(0, 9))
def test_feathering_stays_inside(mask: np.ndarray, by: int) -> None:
    weights = masks.feathered(mask, by)
    assert ((weights >= 0) & (weights <= 1)).all() and not weights[~mask].any()
    assert np.array_equal(masks.feathered(np.ones_like(mask), by), np.ones_like(mask))


def test_feathering_rises_evenly_from_an_edge() -> None:
    mask = np.arange(40) >= 10
    weights = masks.feathered(np.tile(mask, (5, 1)), 8)
    assert np.array_equal(weights, np.tile(np.clip((np.arange(40) - 9) / 9, 0, 1).astype(np.float32), (5, 1)))


def test_tokens() -> None:
    hole = np.zeros((8, 12), bool)
    hole[1, 3:8] = True  # of patches of 4x4, it touches the first two of the upper row
    hole[4:8, 8:12] = True
    assert masks.tokens(hole, (2, 3)).tolist() == [[True, True, False], [False, False, True]]
    assert masks.tokens(~hole, (2, 3)).tolist() == [[True, True, True], [True, True, False]]


@pytest.mark.parametrize("spot", [False, True])
def test_a_radius_beyond_the_image_is_no_more_than_the_image(spot: bool) -> None:
    mask = np.zeros((5, 7), bool)
    mask[2, 6] = spot
    assert (masks.grown(mask, 100_000) == spot).all() and (masks.grown(mask, 7) == spot).all()
    assert np.array_equal(masks.feathered(mask, 100_000), np.zeros((5, 7)))
    assert masks.feathered(np.ones((5, 7), bool), 100_000).min() == 1


@pytest.mark.parametrize("side", [1000, 999, 1001, 990, 950, 1050, 500, 10, 2000])
def test_a_mask_that_is_off_by_a_few_pixels_is_refused(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side), 1).save(tmp_path / "mask.png")
    if side in (1000, 500, 10, 2000):
        assert masks.read(tmp_path / "mask.png", (1000, 1000)).all()
    else:
        with pytest.raises(InputError, match=f"is {side}x{side}, and the image 1000x1000; give a mask of the same si"):
            masks.read(tmp_path / "mask.png", (1000, 1000))
