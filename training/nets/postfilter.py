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
WIDTH = 2 * RADIUS + 1  # of these squares
GRAIN, EDGE = 6 * LEVEL, 24 * LEVEL  # ranges up to which there is none, and from which on there is an edge
SMOOTH, SHARPEN = 0.3, 2.0  # how much nearer to the mean a pixel comes in planes, and how much farther at edges


def postfilter(images: Tensor, side: int) -> Tensor:
    """Smooth the steps between patches of side x side pixels, then sharpen edges, of images (B, C, H, W) in [-1, 1]."""
    with torch.autocast(images.device.type, enabled=False):  # bfloat16 does not hold levels
        return sharpened(deblocked(deblocked(images.float(), side, 3), side, 2))


def deblocked(images: Tensor, side: int, axis: int) -> Tensor:
    """Spread small steps across borders of patches along an axis of images (B, C, H, W), where all around is plain.

    As the deblocking filter of H.264 (List et al. 2003), but over more pixels, of which those of other colours stay.
    """
    dim = axis + 1
    size = images.shape[axis] - side
    first, body, last = images.split([side - REACH, size, REACH], axis)
    near, rest = body.unflatten(axis, (size // side, side)).split([2 * REACH, side - 2 * REACH], dim)
    at_border = near.narrow(dim, REACH - 1, 1), near.narrow(dim, REACH, 1)
    step = at_border[1] - at_border[0]
    sides = zip(near.split(REACH, dim), at_border, strict=True)
    alike = torch.cat([_within(pixels - own, ALIKE) for pixels, own in sides], dim)
    plain = alike.narrow(dim, REACH - PLAIN, 2 * PLAIN).amin(dim, keepdim=True) * _within(step, STEP)
    place = torch.arange(0.5 - REACH, REACH, device=images.device)  # in pixels from the border
    ramp = ((place.sign() - place / REACH) / 2).view(-1, *[1] * (near.dim() - 1 - dim))  # half of the step on each side
    near = near - step * (alike * plain * ramp)
    return torch.cat([first, torch.cat([near, rest], dim).flatten(axis, dim), last], axis)


def _within(differences: Tensor, limit: float) -> Tensor:
    """1 where all channels of differences (B, C, ...) are at most `limit`, falling to 0 at twice that: (B, 1, ...)."""
    return (2 - differences.abs().amax(1, keepdim=True) / limit).clamp(0, 1)


def sharpened(images: Tensor) -> Tensor:
    """Bring pixels farther from the mean around them at edges, nearer in planes: images (B, C, H, W).

    No pixel leaves the range of those around it, so that edges get no rings.
    """
    around = F.pad(images, [RADIUS] * 4, mode="replicate")
    mean_kernel = images.new_full((1, 1, WIDTH, WIDTH), WIDTH**-2).expand(images.shape[1], -1, -1, -1)
    from_mean = images - F.conv2d(around, mean_kernel, groups=images.shape[1])
    most, least = _highest(images), -_highest(-images)
    slope = (SHARPEN + SMOOTH) / (EDGE - GRAIN)
    gain = ((most - least) * slope - (GRAIN * slope + SMOOTH)).clamp(-SMOOTH, SHARPEN)
    return torch.minimum(torch.maximum(images + gain * from_mean, least), most)


def _highest(images: Tensor) -> Tensor:
    """The highest of the pixels around each."""
    rows = F.max_pool2d(images, (1, WIDTH), 1, (0, RADIUS))
    return F.max_pool2d(rows, (WIDTH, 1), 1, (RADIUS, 0))
