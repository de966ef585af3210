"""Inpainting: repaint what a mask marks of an image of any size, and not a bit of the rest.

A model sees windows of the image, scaled to its own size where it must be, with the hole blanked: what lies under the
mask has no influence on the result. Each window is filled in turn and sees the fills of those before it. A fill is then
moved towards its surroundings by the smoothest of fields that closes the step at the hole's edge, which is what Poisson
blending amounts to (Perez et al. 2003), and pasted where the mask is true, nowhere else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from genfast import images, masks
from genfast.errors import UsageError
from genfast.masks import Mask

if TYPE_CHECKING:
    from genfast.bundle import ImageSize
    from genfast.models import Model

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.uint8 | np.uint16]
Area = tuple[slice, slice]  # rows and columns of an image

_SWEEPS = 4  # of relaxation on each level of a pyramid
_FADE = 6  # pixels
_NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G, B (ITU-R BT.601)
_FRAME_SIDE = 1024  # pixels: the pictures of a history are shrunk to this at most


@dataclass(frozen=True)
class Fill:
    """One way to fill a hole.

    `image` is as the one that was given, `index` its place in the row of its seed. `score` is the mean log-probability,
    in nats, of the tokens drawn given all others: None for a model without tokens, or where there was nothing to rank.
    `history` shows how it came about, uint8 [H', W', C], the last picture being the whole image.
    """

    image: Levels
    index: int
    score: float | None = None
    history: tuple[Pixels, ...] = ()


def inpaint(
    model: "Model",
    image: Levels,
    mask: Mask,
    *,
    n: int = 1,
    seed: int = 0,
    grow: int = 0,
    feather: int | None = None,
    context: int = 0,
    history: bool = False,
    advance: Callable[[int], object] | None = None,
    **options: Any,
) -> list[Fill]:
    """Fill the hole of an image, uint8 or uint16 [H, W, C], C being 1 or 3, where the mask [H, W] is true.

    Returns `n` fills, the likeliest first. Outside the mask, `grow` pixels wider in every direction than it was given,
    each equals the image to the bit. Over the outermost `feather` pixels inside it, a fill fades into the smooth
    continuation of what is around; by default over a 256th of the height of the model's images. `context` is how many
    pixels around the hole the model is to see, even if it must see them smaller; 0 is as much as there is at full size.
    `advance` is called with 1 for each fill that is done. Options are those of Model.fill. Raises UsageError for what
    makes no sense.

    >>> best, *others = genfast.inpaint(genfast.load("avatars1024"), image, mask, n=4)
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype not in (np.uint8, np.uint16) or not image.size:
        raise UsageError("the image must be uint8 or uint16 [H, W, 1] or [H, W, 3]")
    if mask.shape != image.shape[:2] or mask.dtype != np.bool_:
        raise UsageError(f"the mask must be bool {list(image.shape[:2])}, as the image is")
    feather = model.image.height // 256 if feather is None else feather
    for name, value, least in ("n", n, 1), ("grow", grow, 0), ("feather", feather, 0), ("context", context, 0):
        if not least <= value <= 100_000:
            raise UsageError(f"{name} must lie in {least} .. 100000, not {value}")
    hole = masks.grown(mask, grow)
    if not hole.any():
        sides = model.image.height, model.image.width
        blank = np.zeros((*sides, model.image.channels), np.uint8), np.zeros(sides, bool)
        model.fill(*blank, index=n - 1, seed=seed, **options)  # which refuses what makes no sense
        if advance:
            advance(n)
        return [Fill(image.copy(), index) for index in range(n)]
    plan = list(windows(hole, model.image, context))
    weight = masks.feathered(hole, feather)

    def fill(index: int) -> Fill:
        canvas, todo = image.copy(), hole.copy()
        logs: list[Floats] = []
        frames: list[Pixels] = []
        for number, (frame, core) in enumerate(plan):
            now = np.zeros_like(todo)
            now[core] = todo[core]
            window = _Window(canvas[frame], todo[frame], now[frame], weight[frame])
            picture, hole_seen = window.seen(model.image)

            def watch(picture: Pixels, window: _Window = window, frame: Area = frame) -> None:
                shown = canvas.copy()
                shown[frame] = window.pasted(picture)
                frames.append(images.shrink(_eight_bits(shown), _FRAME_SIDE))

            filled, some = model.fill(
                picture,
                hole_seen,
                index=index + (number << 32),  # random numbers of its own
                seed=seed,
                rank=n > 1,
                watch=watch if history else None,
                **options,
            )
            canvas[frame] = window.pasted(filled)
            todo[core] = False
            logs.append(some)
        if advance:
            advance(1)
        judged = np.concatenate(logs)
        return Fill(canvas, index, float(judged.mean()) if judged.size else None, tuple(frames))

    return sorted(map(fill, range(n)), key=lambda fill: -(fill.score or 0))


def windows(hole: Mask, size: "ImageSize", context: int = 0) -> Iterator[tuple[Area, Area]]:
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


def _start(first: int, last: int, length: int, whole: int) -> int:
    """Where a window begins that has first .. last in its middle, as far as the image allows."""
    return int(min(max((first + last + 1 - length) // 2, 0), whole - length))


class _Window:
    """A part of an image: what the model sees of it, and how a fill is pasted into it."""

    def __init__(self, area: Levels, todo: Mask, now: Mask, weight: Floats) -> None:
        """`area` [H, W, C] is unknown where `todo` is true, and filled where `now` is, by `weight`, all [H, W]."""
        self._area, self._todo, self._now, self._weight = area.copy(), todo.copy(), now, weight[..., None]
        self._levels = np.iinfo(area.dtype).max
        self._around = smooth(area.astype(np.float32) * (255 / self._levels), ~todo)  # 0 .. 255

    def seen(self, size: "ImageSize") -> tuple[Pixels, Mask]:
        """The window as uint8 [h, w, c], blank where it is unknown, and its hole [h, w], in the model's size."""
        shape = size.height, size.width
        picture = _channels(_resized(self._around, shape, Image.Resampling.LANCZOS), size.channels)
        touched = _resized(self._todo[..., None].astype(np.float32), shape, Image.Resampling.BOX)
        return picture.round().clip(0, 255).astype(np.uint8), touched[..., 0] > 0

    def pasted(self, picture: Pixels) -> Levels:
        """The window [H, W, C] with a model's picture where it is to be filled."""
        height, width, channels = self._area.shape
        fill = _resized(picture.astype(np.float32), (height, width), Image.Resampling.LANCZOS)
        fill = _channels(fill, channels)
        fill += smooth(self._around - fill, ~self._todo)
        mixed = (self._around + self._weight * (fill - self._around)) * (self._levels / 255)
        levels = mixed.round().clip(0, self._levels).astype(self._area.dtype)
        return np.where(self._now[..., None], levels, self._area)


def smooth(values: Floats, known: Mask) -> Floats:
    """Values f32 [H, W, C] where they are `known` [H, W], elsewhere their smooth continuation, 0 where none is.

    In the depth about the solution of Laplace's equation with the known values at its boundary. That one forgets fine
    detail of the boundary, such as an outline that meets it, within a pixel; so it begins with the nearest values.
    """
    values = np.where(known[..., None], values, np.float32(0))
    if known.all() or not known.any():
        return values
    rows, columns = (np.flatnonzero(~known.all(1 - axis)) for axis in (0, 1))
    # Nothing beyond the boundary of the hole has any influence.
    box = slice(max(rows[0] - 2, 0), rows[-1] + 3), slice(max(columns[0] - 2, 0), columns[-1] + 3)
    planes = np.ascontiguousarray(np.moveaxis(values[box], 2, 0))
    values[box] = _carried_on(np.moveaxis(_relaxed(planes, known[box]), 0, 2), known[box])
    return values


def _carried_on(values: Floats, known: Mask) -> Floats:
    """Values [H, W, C] of which those next to known ones [H, W] fade in from them, layer by layer."""
    near, reached = np.pad(values, ((1, 1), (1, 1), (0, 0))), np.pad(known, 1)
    result = near.copy()
    for layer in range(_FADE):
        inner = reached[1:-1, 1:-1]
        touched = np.any([reached[1 + y : -1 + y or None, 1 + x : -1 + x or None] for y, x in _NEIGHBOURS], axis=0)
        rows, columns = (places + 1 for places in np.nonzero(touched & ~inner))
        there = [(rows + y, columns + x) for y, x in _NEIGHBOURS]
        weights = np.stack(
            [reached[place] / (y * y + x * x) ** 2 for place, (y, x) in zip(there, _NEIGHBOURS, strict=True)]
        )
        weights = (weights / weights.sum(0)).astype(np.float32)
        near[rows, columns] = sum(weight[:, None] * near[place] for weight, place in zip(weights, there, strict=True))
        reached[rows, columns] = True
        share = np.float32(1 - layer / _FADE)
        result[rows, columns] += share * (near[rows, columns] - result[rows, columns])
    return result[1:-1, 1:-1]


def _relaxed(values: Floats, known: Mask) -> Floats:
    """The solution of Laplace's equation for `smooth`, for values [C, H, W] that are 0 where they are not known [H, W].

    By a pyramid: each level starts from the one of half its size, and is relaxed.
    """
    if known.all() or not known.any():
        return values
    height, width = known.shape
    counts = _sums(known[None].astype(np.float32))
    coarse = _relaxed(_sums(values) / counts.clip(1), counts[0] > 0)
    shape = 2 * coarse.shape[1], 2 * coarse.shape[2]
    guess = _scaled(coarse, shape, Image.Resampling.BILINEAR)[:, :height, :width]
    padded = np.pad(np.where(known, values, guess), ((0, 0), (1, 1), (1, 1)), "edge")
    inner, free = padded[:, 1:-1, 1:-1], ~known
    for _ in range(_SWEEPS):
        mean = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
        mean += padded[:, 1:-1, :-2]
        mean += padded[:, 1:-1, 2:]
        mean /= 4
        np.copyto(inner, mean, where=free)
        for edge, beside in (0, 1), (-1, -2):
            padded[:, edge], padded[:, :, edge] = padded[:, beside], padded[:, :, beside]
    return inner


def _sums(x: Floats) -> Floats:
    """Sums of squares of 2x2 pixels, of [C, H, W], with zeros beyond its edge."""
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2)))
    x = x[:, ::2] + x[:, 1::2]
    return x[..., ::2] + x[..., 1::2]


def _resized(x: Floats, shape: tuple[int, int], by: Image.Resampling) -> Floats:
    """Scale f32 [H, W, C] to (H', W')."""
    return x if x.shape[:2] == shape else np.moveaxis(_scaled(np.moveaxis(x, 2, 0), shape, by), 0, 2)


def _scaled(planes: Floats, shape: tuple[int, int], by: Image.Resampling) -> Floats:
    """Scale f32 [C, H, W] to (H', W')."""
    return np.stack([np.asarray(Image.fromarray(plane).resize(shape[::-1], by)) for plane in planes])


def _channels(x: Floats, channels: int) -> Floats:
    """Grey as RGB, or RGB as grey: f32 [H, W, channels]."""
    if x.shape[2] == channels:
        return x
    return x.repeat(3, axis=2) if channels == 3 else x @ _LUMA[:, None]


def _eight_bits(image: Levels) -> Pixels:
    return (image // (np.iinfo(image.dtype).max // 255)).astype(np.uint8)
