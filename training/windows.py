"""Windows of images, where tokens begin."""

import torch
from torch import Tensor

from training.nets.vqgan import FACTOR, region_map


def windows(images: Tensor, side: int, regions: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random window of each image (B, C, H, W), where tokens begin, and the regions of its tokens.

    Returns images (B, C, side, side) and (B, side/32, side/32) int64; whole images where side is 0.
    """
    height, width = (n // FACTOR for n in images.shape[2:])
    places = region_map(height, width, regions).to(images.device).expand(len(images), 1, -1, -1)
    crops, places = windows_of(side, rng, images, places)
    return crops, places[:, 0]


def windows_of(side: int, rng: torch.Generator, *grids: Tensor) -> list[Tensor]:
    """A random window of each image, where tokens begin, in all of `grids`: (B, C, H, W), of pixels or of latents.

    `side` is in pixels; whole images where it is 0. The coarsest of the grids is one of latents.
    """
    if side == 0:
        return list(grids)
    n = side // FACTOR
    height, width = min(grid.shape[2:] for grid in grids)
    free = height - n + 1, width - n + 1
    places = [[int(torch.randint(m, (), generator=rng, device=rng.device)) for m in free] for _ in grids[0]]

    def cut(grid: Tensor) -> Tensor:
        scale = grid.shape[2] // height
        rows = [
            image[:, top * scale : (top + n) * scale, left * scale : (left + n) * scale]
            for image, (top, left) in zip(grid, places, strict=True)
        ]
        return torch.stack(rows)

    return [cut(grid) for grid in grids]
