"""Where a VQ-GAN starts: principal components of patches, and k-means of what they make of them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.data import Images
from training.nets.vqgan import FACTOR, VQGAN, nearest

SAMPLE = 50  # patches of each image that the principal components are taken from
ROUNDS = 10  # of k-means


@torch.no_grad()
def start(network: VQGAN, images: Images, rng: torch.Generator) -> Tensor:
    """Set the linear paths and the codes of a VQ-GAN from images.

    Returns how often each code is used in them (V,), as shares.
    """
    latent, codes = network.codebook.shape[1], network.codebook.shape[0]
    device = network.codebook.device

    def normalised(index: int) -> Tensor:
        return torch.from_numpy(images[index]).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1  # (1, 3, H, W)

    sample = []
    for i in range(len(images)):
        patches = F.pixel_unshuffle(normalised(i), FACTOR).flatten(2)[0].T  # (N, 3 * 32 * 32)
        sample.append(patches[torch.randperm(len(patches), generator=rng, device=device)[:SAMPLE]])
    patches = torch.cat(sample)
    colour = patches.view(-1, 3, FACTOR**2).mean((0, 2))  # (3,)
    centred = patches - colour.repeat_interleave(FACTOR**2)
    _, values, axes = torch.svd_lowrank(centred, latent + 16, niter=4)
    basis = axes.T[:latent].view(latent, 3, FACTOR, FACTOR)
    scale = values[:latent].square().mean().div(len(centred)).sqrt()  # latents of unit mean square
    network.encoder.linear.weight.copy_(basis / scale)
    network.encoder.linear.bias.copy_(-(basis.sum((2, 3)) @ colour) / scale)
    network.decoder.linear.weight.copy_(basis * scale)
    network.decoder.linear.bias.copy_(colour)

    latents = [network.encoder.linear(normalised(i)).flatten(2)[0].T for i in range(len(images))]
    centres, shares = kmeans(torch.cat(latents), codes, rng)
    network.codebook.copy_(centres)
    return shares


def kmeans(points: Tensor, k: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Centres (k, D) of points (N, D), and the share of points that each has (k,).

    Equal points count as the square root of their number: a plain background would win all centres otherwise. A centre
    that loses its points moves to one that is far from its own.

    Raises:
        ValueError: there are fewer different points than centres.
    """
    line = points.double() @ torch.randn(points.shape[1], dtype=torch.double, generator=rng, device=points.device)
    _, group, counts = line.mul(1e3).round().unique(return_inverse=True, return_counts=True)
    first = torch.empty_like(counts).scatter_(0, group, torch.arange(len(group), device=points.device))
    different = points[first]  # (M, D)
    if len(different) < k:
        raise ValueError(f"{len(different)} different patches are too few for {k} codes; take more images")
    weights = counts.sqrt().float()  # (M,)
    centres = different[torch.multinomial(weights, k, generator=rng)]
    for _ in range(ROUNDS):
        chosen, distance = _assign(different, centres)
        mass = torch.zeros(k, device=points.device).index_add_(0, chosen, weights)
        sums = torch.zeros_like(centres).index_add_(0, chosen, different * weights[:, None])
        far = different[torch.multinomial(weights * distance + 1e-9, k, generator=rng)]
        centres = torch.where(mass[:, None] > 0, sums / mass.clamp(min=1e-9)[:, None], far)
    chosen, _ = _assign(different, centres)
    shares = torch.zeros(k, device=points.device).index_add_(0, chosen, counts.float()) / len(points)
    return centres, shares


def _assign(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centre of each point (N,), and its squared distance (N,)."""
    chosen = torch.cat([nearest(part, centres) for part in points.split(4096)])
    return chosen, (points - centres[chosen]).square().sum(1)
