"""Inpainting: repaint what a mask marks of an image of any size, and not a bit of the rest.

A model sees windows of the image, scaled to its own size where it must be, with the hole blanked: what lies under the
mask has no influence on the result. Each window is filled in turn and sees the fills of those before it. A fill is then
moved towards its surroundings by the smoothest of fields that closes the step at the hole's edge, which is what Poisson
blending amounts to (Perez et al. 2003), and pasted where the mask is true, nowhere else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from genfast.attributes import Settings
from genfast.errors import UsageError
from genfast.images.io import eight_bits
from genfast.images.sheets import shrink
from genfast.inpainting import masks
from genfast.inpainting.windows import Area, Window, touched, windows
from genfast.metrics.psnr import psnr
from genfast.models.base import Model
from genfast.models.filling import Filling
from genfast.samplers.noise import check_range
from genfast.samplers.options import Options
from genfast.types import Frame, Levels, Mask, Pixels

_Scalar = TypeVar("_Scalar", bound=np.generic)
_SLIM = 8  # times as long as wide
_FRAME_SIDE = 1024  # pixels: the pictures of a history are shrunk to this at most

Callback = Callable[[float, Frame], None]
"""Is given the share of the work that is done, 0 .. 1, and what makes the picture so far; what it raises ends it."""


@dataclass(frozen=True)
class Fill:
    """One way to fill a hole.

    `image` is as the one that was given, `index` its place in the row of its seed. `score` is the mean log-probability,
    in nats, of the tokens drawn given all others: None for a model without tokens, or where there was nothing to rank.
    `label` and `attributes` are those of the first window's Filling. `history` shows how it came about, uint8
    [H', W', C], the last picture being the whole image. `psnr_around` says how near to the known pixels comes what the
    model makes of them, in dB: little where it does not know such pictures, None where it saw none.
    """

    image: Levels
    index: int
    score: float | None = None
    label: str | None = None
    attributes: Settings = field(default_factory=dict)
    history: tuple[Pixels, ...] = ()
    psnr_around: float | None = None


def inpaint(
    model: Model,
    image: Levels,
    mask: Mask,
    *,
    n: int = 1,
    seed: int = 0,
    grow: int = 0,
    feather: int | None = None,
    context: int = 0,
    history: bool = False,
    label: str | None = None,
    attributes: Settings | None = None,
    options: Options | None = None,
    advance: Callable[[int], object] | None = None,
    callback: Callback | None = None,
) -> list[Fill]:
    """Fill the hole of an image, uint8 or uint16 [H, W, C], C being 1 or 3, where the mask [H, W] is true.

    Returns `n` fills, the likeliest first. Outside the mask, `grow` pixels wider in every direction than it was given,
    each equals the image to the bit. Over the outermost `feather` pixels inside it, a fill fades into the smooth
    continuation of what is around; by default over a 256th of the height of the model's images. `context` is how many
    pixels around the hole the model is to see, even if it must see them smaller; 0 is as much as there is at full size.
    `label`, `attributes` and `options` are as Model.fill takes them; `advance` is called with 1 for each fill that is
    done, `callback` before and after each step. Raises UsageError for what makes no sense, InputError where several
    classes can have what is set, and the image shows none of them.

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
    if n > 1 and not model.varied:
        raise UsageError(f"{model.name} has one fill for a hole, not {n}")
    model.fill_label(label, attributes)
    model.take_fill(options)
    check_range(seed, [n - 1])
    hole = masks.grown(mask, grow)
    if not hole.any():
        if advance:
            advance(n)
        return [Fill(image.copy(), index) for index in range(n)]
    weight = masks.feathered(hole, feather)
    whole = image.shape[:2]
    side = min(max(whole), model.image.height)
    image, hole, weight = _widened(image, side), _widened(hole, side), _widened(weight, side)
    plan = list(windows(hole, model.image, context))

    def fill(index: int) -> Fill:
        canvas, todo = image.copy(), hole.copy()
        fillings: list[Filling] = []
        error, known = 0.0, 0  # of the model's pictures around the hole
        frames: list[Pixels] = []
        for number, (frame, core) in enumerate(plan):
            now = np.zeros_like(todo)
            now[core] = todo[core]
            window = Window(canvas[frame], todo[frame], now[frame], weight[frame])
            picture, hole_seen = window.seen(model.image)

            def watch(
                picture: Frame,
                window: Window = window,
                frame: Area = frame,
                before: int = number,
                taken: Iterator[int] = count(),  # noqa: B008, a counter for each window
            ) -> None:
                def shown() -> Pixels:
                    now = canvas.copy()
                    now[frame] = window.pasted(picture())
                    return shrink(eight_bits(now[: whole[0], : whole[1]]), _FRAME_SIDE)

                if history:
                    frames.append(shown())
                if callback:
                    steps = getattr(model.take_fill(options), "steps", model.fill_steps)
                    done = before + min(1, next(taken) / steps)
                    callback((index + done / len(plan)) / n, shown)

            filling = model.fill(
                picture,
                hole_seen,
                index=index + (number << 32),  # random numbers of its own
                seed=seed,
                label=label,
                attributes=attributes,
                options=options,
                rank=n > 1,
                callback=watch if history or callback else None,
            )
            off = np.subtract(filling.picture, picture, dtype=np.float32)[~touched(hole[frame], hole_seen.shape)]
            error, known = error + float(np.square(off).sum()), known + off.size
            canvas[frame] = window.pasted(filling.picture)
            todo[core] = False
            fillings.append(filling)
        if advance:
            advance(1)
        judged = np.concatenate([filling.logs for filling in fillings])
        score = float(judged.mean()) if judged.size else None
        return Fill(
            canvas[: whole[0], : whole[1]],
            index,
            score,
            fillings[0].label,
            fillings[0].attributes,
            tuple(frames),
            psnr(error / known) if known else None,
        )

    return sorted(map(fill, range(n)), key=lambda fill: -(fill.score or 0))


def _widened(x: npt.NDArray[_Scalar], side: int) -> npt.NDArray[_Scalar]:
    """An image, mask or weights [H, W, ...], at least so high and wide if one side is tiny beside the other.

    Of an image of 1x500 there would be five hundred windows. What is added repeats the edge, of a mask as well: what
    lies under it stays unseen.
    """
    height, width = x.shape[:2]
    if max(height, width) <= _SLIM * min(height, width):
        return x
    rows, columns = max(side - height, 0), max(side - width, 0)
    padding = [(0, rows), (0, columns)] + [(0, 0)] * (x.ndim - 2)
    return np.pad(x, padding, "edge")
