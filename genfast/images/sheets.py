"""Several images on one: contact sheets and strips."""

import math
from collections.abc import Sequence

import numpy as np

from genfast.images.io import to_pillow
from genfast.types import Pixels

_TILE = 96  # pixels: a contact sheet enlarges smaller images to about this
_STRIP = 8  # pictures at most
_STRIP_TILE = 256  # pixels: a strip shrinks larger pictures to this at most


def contact_sheet(images: Pixels, columns: int | None = None) -> Pixels:
    """Lay uint8 [N, H, W, C] out on a sheet, row by row: uint8 [H', W', C].

    Small images are enlarged by a whole factor, pixel by pixel; cells that stay empty are black.
    """
    n, height, width, channels = images.shape
    if columns is None:
        root = math.isqrt(n - 1) + 1  # the square root, rounded up
        # Up to twice as wide as high, where that leaves no cell empty.
        columns = next((columns for columns in range(root, 2 * root + 1) if n % columns == 0), root)
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[:n] = images
    sheet = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # [rows, H, columns, W, C]
    factor = max(1, _TILE // max(height, width))
    return sheet.reshape(rows * height, columns * width, channels).repeat(factor, 0).repeat(factor, 1)


def strip(frames: Sequence[Pixels]) -> Pixels:
    """Lay up to eight of uint8 [H, W, C] side by side, from the first to the last: uint8 [H', W', C]."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), _STRIP)).round().astype(int)
    tiles = [shrink(frames[i], _STRIP_TILE) for i in chosen]
    return contact_sheet(np.stack(tiles), columns=len(tiles))


def shrink(image: Pixels, side: int) -> Pixels:
    """Average uint8 [H, W, C] over squares of pixels, until no side is longer than `side`."""
    small = np.asarray(to_pillow(image).reduce(-(-max(image.shape) // side)))
    return small.reshape(*small.shape[:2], image.shape[2])
