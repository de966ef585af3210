"""What closes the step at the edge of a hole: the smoothest field that does, which is what Poisson blending amounts to.

Perez et al. 2003, section 3.
"""

import numpy as np
from PIL import Image

from genfast.types import Floats, Mask

_SWEEPS = 4  # of relaxation on each level of a pyramid
_FADE = 6  # pixels
_NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G, B (ITU-R BT.601)


def smooth(values: Floats, known: Mask) -> Floats:
    """Values f32 [H, W, C] where they are `known` [H, W], elsewhere their smooth continuation, 0 where none is.

    Far from the boundary this is close to the solution of Laplace's equation with the known values there. That loses
    fine detail, such as an outline that meets the boundary, within a pixel; so values start from the nearest ones.
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


def resized(x: Floats, shape: tuple[int, int], by: Image.Resampling) -> Floats:
    """Scale f32 [H, W, C] to (H', W')."""
    return x if x.shape[:2] == shape else np.moveaxis(_scaled(np.moveaxis(x, 2, 0), shape, by), 0, 2)


def _scaled(planes: Floats, shape: tuple[int, int], by: Image.Resampling) -> Floats:
    """Scale f32 [C, H, W] to (H', W')."""
    return np.stack([np.asarray(Image.fromarray(plane).resize(shape[::-1], by)) for plane in planes])


def with_channels(x: Floats, channels: int) -> Floats:
    """Grey as RGB, or RGB as grey: f32 [H, W, channels]."""
    if x.shape[2] == channels:
        return x
    return x.repeat(3, axis=2) if channels == 3 else x @ _LUMA[:, None]
