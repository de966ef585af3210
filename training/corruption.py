"""What training hides of a picture: tokens in a hole, tokens that random ones take the place of, its class."""

import torch
from torch import Tensor
from torch.nn import functional as F

COARSE = 5  # random numbers along a side, of which the shapes of holes are made
LARGEST = 0.5  # share of the tokens that a hole has
POWER = 3  # of the mask schedule that training prepares for: see genfast.samplers.maskgit


def holes(count: int, side: int, rng: torch.Generator) -> Tensor:
    """Holes of any shape, true, in grids of tokens: (B, N) bool. Half are blobs, half winding bands."""
    coarse = torch.randn(count, 1, COARSE, COARSE, generator=rng, device=rng.device)
    heights = F.interpolate(coarse, size=side, mode="bicubic").flatten(1)  # (B, N)
    band = torch.rand(count, 1, generator=rng, device=rng.device) < 0.5  # along the level of zero
    ranks = torch.where(band, heights.abs(), heights).argsort(1).argsort(1)
    return ranks < LARGEST * side**2 * torch.rand(count, 1, generator=rng, device=rng.device)


def noise_ratios(hole: Tensor, told: Tensor, rng: torch.Generator) -> Tensor:
    """Share (B, N) of tokens that are to be random: even in half of the pictures, else in the hole (B, N) alone.

    Uniform as of Savinov et al.; where it is told (B, 1) which tokens are random, one of those that the sampler goes
    through: a picture begins with few known tokens, or none.
    """
    ratio, kind = torch.rand(2, len(hole), 1, generator=rng, device=rng.device)
    ratio = torch.where(told, 1 - ratio**POWER, ratio)
    return torch.where(hole | (kind < 0.5), ratio, 0)


def corrupt(z: Tensor, ratio: Tensor, vocabulary: int, rng: torch.Generator) -> Tensor:
    """Replace a share, (B, N) or (B, 1), of tokens (B, N), on average, by random ones."""
    noise = torch.randint(vocabulary, z.shape, generator=rng, device=z.device)
    return torch.where(torch.rand(z.shape, generator=rng, device=z.device) < ratio, noise, z)


def corrupt_by_frequency(
    tokens: Tensor, share: Tensor, counts: Tensor, regions: Tensor, rng: torch.Generator
) -> Tensor:
    """Put random tokens in place of a share (B, 1, 1) of tokens (B, h, w), as frequent as they are in their region.

    `counts` (R * R, V) says how often they are met, `regions` (h, w) where.
    """
    u = torch.rand(tokens.shape, generator=rng, device=tokens.device)
    other = torch.empty_like(tokens)
    for region, count in enumerate(counts):
        cumulative = count.cumsum(0)
        here = regions == region
        other[:, here] = torch.searchsorted(cumulative, u[:, here] * cumulative[-1]).clamp(max=len(count) - 1)
    wrong = torch.rand(tokens.shape, generator=rng, device=tokens.device) < share
    return torch.where(wrong, other, tokens)


def count(tokens: Tensor, regions: Tensor, counts: Tensor) -> Tensor:
    """How often tokens (B, h, w) are met in each region; of the shape and the type of `counts` (R * R, V)."""
    numbered = tokens + counts.shape[1] * regions
    return torch.bincount(numbered.flatten(), minlength=counts.numel()).view_as(counts).to(counts.dtype)


def corrupt_some(
    tokens: Tensor, corrupted: float, most: float, counts: Tensor, regions: Tensor, rng: torch.Generator
) -> Tensor:
    """Corrupt up to a share `most` of the tokens (B, h, w) in a share `corrupted` of the pictures."""
    wrong, share = torch.rand(2, len(tokens), 1, 1, generator=rng, device=tokens.device)
    return corrupt_by_frequency(tokens, torch.where(wrong < corrupted, most * share, 0), counts, regions, rng)


def hide_attributes(rows: Tensor, rng: torch.Generator) -> Tensor:
    """Hide attributes of rows (B, A): all of three pictures in ten, none of five, any share of the other two."""
    kind, ratio = torch.rand(2, len(rows), 1, generator=rng, device=rng.device)
    ratio = torch.where(kind < 0.5, 0, torch.where(kind < 0.8, 1, ratio))
    return torch.where(torch.rand(rows.shape, generator=rng, device=rng.device) < ratio, 0, rows)


def hide_labels(labels: Tensor, classes: int, share: float, rng: torch.Generator) -> Tensor | None:
    """Labels (B,), a share of which is `classes` instead, which stands for none; None where a network is told none."""
    if not classes:
        return None
    return torch.where(torch.rand(len(labels), generator=rng, device=labels.device) < share, classes, labels)
