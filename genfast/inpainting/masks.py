"""Masks: true where an image is to be repainted."""

import logging
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from genfast.errors import InputError
from genfast.images import io
from genfast.types import Floats, Mask

_NEAR = 0.1  # share of the image's width by which a mask that is off is a mistake, not another scale
_PICTURE = 1024  # pixels that a picture has at least
_LEVELS = 16  # of grey, that a mask has at most where most of it is grey

_log = logging.getLogger("genfast")


def read(source: Path | BinaryIO, shape: tuple[int, int], *, invert: bool = False) -> Mask:
    """Read a mask for an image of `shape` (H, W): bool [H, W], true where it is at least half white.

    `invert` is for masks in which black repaints. What is transparent counts as black. Where all that is visible has
    one colour, transparency alone carries the mask, which is true where it is opaque, and said on the log. A mask of
    another size but the same aspect is scaled (nearest neighbour), and that is said as well. Raises InputError for
    another aspect, for one that misses the size by a few pixels, for a picture of many colours or greys, and for what
    is no image.
    """
    path = io.name(source)
    with io.opened(source) as image:
        io.check_still(image, path)
        upright = ImageOps.exif_transpose(image)
        if _is_picture(upright):
            raise InputError(
                f"{path} is a picture, and no mask; a mask is black where the image stays and white where it is "
                "repainted, and is given second"
            )
        if upright.mode.startswith("I;16"):
            white = np.asarray(upright) / 65535
        elif upright.mode[0] in "IF":
            raise InputError(f"{path} has more than 16 bits a channel; a mask needs but black and white")
        elif upright.has_transparency_data:
            pixels = np.asarray(upright.convert("RGBA"), np.float32) / 255
            colours, opacity = pixels[..., :3], pixels[..., 3]
            visible = colours[opacity > 0]
            if opacity.min() < 1 and (visible == visible[:1]).all():
                _log.warning(
                    "genfast: %s has one colour alone: what is opaque is repainted (--invert for what is not)", path
                )
                white = opacity
            else:
                white = colours.mean(2) * opacity
        else:
            white = np.asarray(upright.convert("L")) / 255
    if 0 < white.max() < 0.5:
        _log.warning("genfast: the brightest of %s is %.0f of 255, and 128 repaints", path, 255 * white.max())
    mask: Mask = (white >= 0.5) != invert
    if mask.shape == shape:
        return mask
    (height, width), (rows, columns) = shape, mask.shape
    if columns != round(rows * width / height) and rows != round(columns * height / width):
        turned = " as it is seen: its EXIF turns it" if (columns, rows) == (height, width) else ""
        fits = f"does not fit an image of {width}x{height}{turned}; give a mask of the same size"
        raise InputError(f"{path} is {columns}x{rows}, which {fits}")
    if abs(columns / width - 1) < _NEAR:
        raise InputError(f"{path} is {columns}x{rows}, and the image {width}x{height}; give a mask of the same size")
    _log.warning("genfast: %s is scaled from %dx%d to %dx%d", path, columns, rows, width, height)
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _is_picture(image: Image.Image) -> bool:
    """Whether an image shows several colours, or shades of grey for the most part: masks have soft edges at most."""
    if image.mode.startswith("I;16"):
        seen = (np.asarray(image) >> 8).astype(np.uint8).repeat(3).reshape(-1, 3)
    else:
        pixels = np.asarray(image.convert("RGBA")) if image.mode[0] not in "IF" else np.zeros((0, 4), np.uint8)
        seen = pixels[pixels[..., 3] > 0][:, :3]  # (M, 3)
    if len(seen) < _PICTURE:
        return False
    darkest, brightest = seen.min(1), seen.max(1)
    vivid = brightest - darkest > 48
    grey = brightest[~vivid & (brightest > 48) & (darkest < 208)]
    if len(grey) > len(seen) / 2 and len(np.unique(grey)) > _LEVELS:
        return True
    coloured = seen[vivid].astype(np.uint16)
    hues = coloured * 3 // coloured.max(1, initial=1, keepdims=True)  # each channel in 0 .. 3, beside the brightest
    shades = np.bincount(hues @ np.array([16, 4, 1], np.uint16), minlength=64)
    return bool((shades > len(seen) / 200).sum() >= 3)


def grown(mask: Mask, by: int) -> Mask:
    """A mask [H, W] and all that lies within so many rows and columns of it."""
    touched: Mask = _mean(mask, by) > 0 if by else mask
    return touched


def feathered(mask: Mask, by: int) -> Floats:
    """Weights f32 [H, W] that rise from 0 at the edge of a mask to 1 at a depth of about `by` pixels inside it.

    The edge of the image is none of the mask.
    """
    if by == 0:
        return mask.astype(np.float32)
    radius = (by + 1) // 2
    return np.asarray(_mean(~grown(~mask, radius), radius), np.float32)


def tokens(hole: Mask, grid: tuple[int, int]) -> Mask:
    """Which tokens of a grid (h, w) the hole [H, W] of an image asks to draw: bool [h, w], those that it touches."""
    rows, columns = grid
    patches = hole.reshape(rows, hole.shape[0] // rows, columns, hole.shape[1] // columns)
    return np.asarray(patches.any((1, 3)))


def _mean(mask: Mask, radius: int) -> npt.NDArray[np.float64]:
    """The share of a mask [H, W] in the square of 2 * radius + 1 around each pixel; its edge goes on beyond it."""
    radius = min(radius, max(mask.shape))  # beyond, nothing changes
    side = 2 * radius + 1
    sums: npt.NDArray[np.int64] = mask.astype(np.int64)
    for _ in range(2):
        reached = np.pad(sums, ((radius + 1, radius), (0, 0)), "edge").cumsum(0)
        sums = (reached[side:] - reached[:-side]).T
    return sums / side**2
