"""Masks: true where an image is to be repainted."""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from genfast.errors import InputError
from genfast.images import io
from genfast.types import Floats, Mask

_log = logging.getLogger("genfast")


def read(path: Path, shape: tuple[int, int], *, invert: bool = False) -> Mask:
    """Read a mask for an image of `shape` (H, W): bool [H, W], true where it is at least half white.

    `invert` is for masks in which black repaints. What is transparent counts as black. Where all that is visible has
    one colour, transparency alone carries the mask, which is true where it is opaque, and said on the log. A mask of
    another size but the same aspect is scaled (nearest neighbour). Raises InputError for another aspect, and for what
    is no image.
    """
    with io.opened(path) as image:
        upright = ImageOps.exif_transpose(image)
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
    mask: Mask = (white >= 0.5) != invert
    if mask.shape == shape:
        return mask
    (height, width), (rows, columns) = shape, mask.shape
    if columns != round(rows * width / height) and rows != round(columns * height / width):
        raise InputError(f"{path} is {columns}x{rows}, which does not fit an image of {width}x{height}")
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


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
