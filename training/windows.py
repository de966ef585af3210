"""Windows of images, where tokens begin."""

import torch
from torch import Tensor

from training.nets.vqgan import FACTOR, region_map


def windows(images: Tensor, side: int, regions: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random window of each image (B, C, H, W), where tokens begin, and the regions of its tokens.

    Returns images (B, C, side, side) and (B, side/32, side/32) int64; whole images where side is 0.
    """
    height, width = (n // FACTOR for n in images.shape[2:])
    regions_of_image = region_map(height, width, regions).to(images.device)
    if side == 0:
        return images, regions_of_image.expand(len(images), -1, -1)
    n = side // FACTOR
    parts = []
    for image in images:
        top, left = (int(torch.randint(m - n + 1, (), generator=rng, device=rng.device)) for m in (height, width))
        pixels = image[:, top * FACTOR : (top + n) * FACTOR, left * FACTOR : (left + n) * FACTOR]
        parts.append((pixels, regions_of_image[top : top + n, left : left + n]))
    crops, places = zip(*parts, strict=True)
    return torch.stack(crops), torch.stack(places)


def windows_of(read: Tensor, images: Tensor, side: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random window of each image (B, C, H, W), where tokens begin, and of what is read of it (B, C', H/32, W/32).

    Whole images where side is 0.
    """
    if side == 0:
        return read, images
    n = side // FACTOR
    parts = []
    for latents, image in zip(read, images, strict=True):
        top, left = (int(torch.randint(m - n + 1, (), generator=rng, device=rng.device)) for m in latents.shape[1:])
        pixels = image[:, top * FACTOR : (top + n) * FACTOR, left * FACTOR : (left + n) * FACTOR]
        parts.append((latents[:, top : top + n, left : left + n], pixels))
    crops, pixels_of = zip(*parts, strict=True)
    return torch.stack(crops), torch.stack(pixels_of)
