"""What a decoder's pictures pass at last, as those of video codecs do: a deblocking filter, and one for edges.

Nothing of it is learned. Both are made for drawings: planes of one colour, and sharp lines.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LEVEL = 1 / 127.5  # of 255, of pixels in [-1, 1]
REACH = 8  # pixels on either side of a border that its step is spread over
STEP = 24 * LEVEL  # a larger one is a line of the picture
ALIKE = 12 * LEVEL  # what differs less from the pixel at the border is of one plane with it
PLAIN = 2  # pixels on either side of a border that are to be
RADIUS = 2  # pixels, of the squares whose range and mean the filter for edges looks at
GRAIN, EDGE = 6 * LEVEL, 24 * LEVEL  # ranges up to which there is none, and from which on there is an edge
SMOOTH, SHARPEN = 0.3, 2.0  # how much nearer to the mean a pixel comes in planes, and how much farther at edges


def postfilter(images: Tensor, side: int) -> Tensor:
    """Smooth the steps between patches of side x side pixels, then sharpen edges, of images (B, C, H, W) in [-1, 1]."""
    return sharpened(deblocked(deblocked(images, side, 3), side, 2))


def deblocked(images: Tensor, side: int, axis: int) -> Tensor:
    """Spread small steps across borders of patches along an axis of images (B, C, H, W), where all around is plain.

    As the deblocking filter of H.264 (List et al. 2003), but over more pixels, of which those of other colours stay.
    """
    half, dim = side // 2, axis + 1
    size = images.shape[axis] - side
    first, middle, last = images.split([half, size, half], axis)
    middle = middle.unflatten(axis, (size // side, side))  # borders lie in the middle
    before, near, after = middle.split([half - REACH, 2 * REACH, half - REACH], dim)
    left, right = near.narrow(dim, REACH - 1, 1), near.narrow(dim, REACH, 1)  # at the border
    step, sides = right - left, torch.cat([left, right], dim).repeat_interleave(REACH, dim)
    alike = _within(near - sides, ALIKE)
    plain = alike.narrow(dim, REACH - PLAIN, 2 * PLAIN).amin(dim, keepdim=True) * _within(step, STEP)
    place = torch.arange(0.5 - REACH, REACH, device=images.device)  # in pixels from the border
    ramp = (place.sign() - place / REACH) / 2  # half of the step on either side
    near = near - step * alike * plain * ramp.view(-1, *[1] * (near.dim() - 1 - dim))
    return torch.cat([first, torch.cat([before, near, after], dim).flatten(axis, dim), last], axis)


def _within(differences: Tensor, limit: float) -> Tensor:
    """1 where all channels of differences (B, C, ...) are at most `limit`, falling to 0 at twice that: (B, 1, ...)."""
    return (2 - differences.abs().amax(1, keepdim=True) / limit).clamp(0, 1)


def sharpened(images: Tensor) -> Tensor:
    """Bring pixels farther from the mean around them at edges, nearer in planes: images (B, C, H, W).

    No pixel leaves the range of those around it, so that edges get no rings.
    """
    mean, most, opposite = images, images, -images
    for size in (1, 2 * RADIUS + 1), (2 * RADIUS + 1, 1):
        around = size[0] // 2, size[1] // 2
        mean = F.avg_pool2d(mean, size, 1, around, count_include_pad=False)
        most, opposite = (F.max_pool2d(x, size, 1, around) for x in (most, opposite))
    least = -opposite
    edge = ((most - least - GRAIN) / (EDGE - GRAIN)).clamp(0, 1)
    gain = edge * (SHARPEN + SMOOTH) - SMOOTH
    return torch.minimum(torch.maximum(images + gain * (images - mean), least), most)
