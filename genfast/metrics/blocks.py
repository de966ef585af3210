"""Blocks: how much more neighbouring pixels differ across the borders of tokens than elsewhere; 1 is no more at all."""

from collections.abc import Iterable

import numpy as np

from genfast.types import Pixels


def steps(picture: Pixels, side: int) -> tuple[float, float]:
    """Mean step between neighbours across borders, and elsewhere, of [H, W, C]: down and to the right, added up.

    Borders are those of squares of side x side pixels.
    """
    across = elsewhere = 0.0
    for axis in (0, 1):
        moved = np.moveaxis(picture, axis, 0).astype(np.int16)  # (H, W, C) or (W, H, C)
        step = np.abs(np.diff(moved, axis=0)).mean((1, 2))  # (H - 1,)
        border = np.arange(1, len(moved)) % side == 0
        across, elsewhere = across + float(step[border].mean()), elsewhere + float(step[~border].mean())
    return across, elsewhere


def ratio(pictures: Iterable[Pixels], side: int = 32) -> float:
    """The mean step across borders over that elsewhere, of all pictures together; each is larger than a square."""
    across, elsewhere = np.sum([steps(picture, side) for picture in pictures], axis=0)
    return float(across / elsewhere)
