"""Windows: the parts of an image that a model sees while it fills the holes in them."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from genfast.bundles.manifest import ImageSize
from genfast.inpainting.blending import resized, smooth, with_channels
from genfast.types import Floats, Levels, Mask, Pixels

Area = tuple[slice, slice]  # rows and columns of an image


def windows(hole: Mask, size: ImageSize, context: int = 0) -> Iterator[tuple[Area, Area]]:
    """Windows on an image that cover its hole [H, W], each with its core: the part of the hole to fill in it.

    Windows have the shape of the model's images, `size`. They are larger where a hole and its `context` are, and
    smaller where the image is. Cores are disjoint, and keep a distance from their window's edge wherever that is not
    the image's.
    """
    sides = np.array([size.height, size.width])
    extents = np.array([np.ptp(np.flatnonzero(hole.any(1 - axis))) + 1 for axis in (0, 1)])
    scale = max(1, *(extents + 2 * context) / sides) if context else 1
    scale = min(scale, *np.array(hole.shape) / sides)
    height, width = np.maximum(1, np.rint(sides * scale)).astype(int).tolist()
    tall, wide = (
        length if length == whole else length - 2 * min(context or length // 8, length // 4)
        for length, whole in zip((height, width), hole.shape, strict=True)
    )
    todo = hole.copy()
    while todo.any():
        top = int(todo.any(1).argmax())
        left = int(todo[top : top + tall].any(0).argmax())
        core = slice(top, top + tall), slice(left, left + wide)
        rows, columns = (np.flatnonzero(todo[core].any(1 - axis)) for axis in (0, 1))
        first_row = _start(top + rows[0], top + rows[-1], height, hole.shape[0])
        first_column = _start(left + columns[0], left + columns[-1], width, hole.shape[1])
        yield (slice(first_row, first_row + height), slice(first_column, first_column + width)), core
        todo[core] = False


def touched(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Which pixels of the same area, of another shape [h, w], a mask [H, W] touches."""
    return np.asarray(resized(mask[..., None].astype(np.float32), shape, Image.Resampling.BOX)[..., 0] > 0)


def _start(first: int, last: int, length: int, whole: int) -> int:
    """Where a window begins that has first .. last in its middle, as far as the image allows."""
    return int(min(max((first + last + 1 - length) // 2, 0), whole - length))


class Window:
    """A part of an image: what the model sees of it, and how a fill is pasted into it."""

    def __init__(self, area: Levels, todo: Mask, now: Mask, weight: Floats) -> None:
        """`area` [H, W, C] is unknown where `todo` is true, and filled where `now` is, by `weight`, all [H, W]."""
        self._area, self._todo, self._now, self._weight = area.copy(), todo.copy(), now, weight[..., None]
        self._levels = np.iinfo(area.dtype).max
        self._around = smooth(area.astype(np.float32) * (255 / self._levels), ~todo)  # 0 .. 255

    def seen(self, size: ImageSize) -> tuple[Pixels, Mask]:
        """The window as uint8 [h, w, c], blank where it is unknown, and its hole [h, w], in the model's size."""
        shape = size.height, size.width
        picture = with_channels(resized(self._around, shape, Image.Resampling.LANCZOS), size.channels)
        return picture.round().clip(0, 255).astype(np.uint8), touched(self._todo, shape)

    def pasted(self, picture: Pixels) -> Levels:
        """The window [H, W, C] with a model's picture where it is to be filled."""
        height, width, channels = self._area.shape
        fill = resized(picture.astype(np.float32), (height, width), Image.Resampling.LANCZOS)
        fill = with_channels(fill, channels)
        fill += smooth(self._around - fill, ~self._todo)
        mixed = (self._around + self._weight * (fill - self._around)) * (self._levels / 255)
        levels = mixed.round().clip(0, self._levels).astype(self._area.dtype)
        return np.where(self._now[..., None], levels, self._area)
