"""Where a VQ-GAN starts: principal components of patches, and k-means of what they make of them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.images import Images, signed
from training.nets.vqgan import FACTOR, VQGAN, blocks, nearest
from training.threads import every_core

SAMPLE = 60_000  # patches that the principal components are taken from
ROUNDS = 10  # of k-means


@torch.no_grad()
def init_vqgan(network: VQGAN, images: Images, rng: torch.Generator) -> Tensor:
    """Set the linear paths and the codes of a VQ-GAN from images, on every core that this process may use.

    Returns how often each code is used in them (R * R, V), as shares of all tokens. A region with fewer different
    patches than codes leaves codes at zero, and unused.
    """
    with every_core():
        _init_linear(network, images, rng)
        return _init_codes(network, images, rng)


def _normalised(images: Images, index: int, device: torch.device) -> Tensor:
    return signed(torch.from_numpy(images[index].copy()).to(device).permute(2, 0, 1)[None])  # (1, 3, H, W)


def _init_linear(network: VQGAN, images: Images, rng: torch.Generator) -> None:
    device, latent = network.codebook.device, network.config.latent
    few = max(1, SAMPLE // len(images))
    patches = torch.empty(len(images), few, 3 * FACTOR**2, device=device)
    for i in range(len(images)):
        every = F.pixel_unshuffle(_normalised(images, i, device), FACTOR).flatten(2)[0].T  # (N, 3 * 32 * 32)
        patches[i] = every[torch.randint(len(every), (few,), generator=rng, device=device)]
    patches = patches.flatten(0, 1)
    colour = patches.view(-1, 3, FACTOR**2).mean((0, 2))  # (3,)
    patches -= colour.repeat_interleave(FACTOR**2)
    _, values, axes = torch.svd_lowrank(patches, latent + 16, niter=4)
    basis = axes.T[:latent].view(latent, 3, FACTOR, FACTOR)
    scale = values[:latent].square().mean().div(len(patches)).sqrt()  # latents of unit mean square
    encoder, decoder = network.encoder.linear, network.decoder.linear
    assert isinstance(decoder, nn.ConvTranspose2d)  # of codes: none is lapped
    encoder.weight.copy_(basis / scale)
    encoder.get_parameter("bias").copy_(-(basis.sum((2, 3)) @ colour) / scale)
    decoder.weight.copy_(basis * scale)
    decoder.get_parameter("bias").copy_(colour)


def _init_codes(network: VQGAN, images: Images, rng: torch.Generator) -> Tensor:
    device, config = network.codebook.device, network.config
    height, width = (n // FACTOR // config.regions for n in images[0].shape[:2])  # of a region
    points = torch.empty(config.regions**2, len(images), height * width, config.latent, device=device)
    for i in range(len(images)):
        latents = network.encoder.linear(_normalised(images, i, device)).permute(0, 2, 3, 1)
        points[:, i] = blocks(latents, config.regions)
    network.codebook.zero_()
    shares = torch.zeros_like(network.codebook[..., 0])
    for region, part in enumerate(points.flatten(1, 2)):  # (N, D)
        centres, share = kmeans(part, config.codes, rng)
        network.codebook[region, : len(centres)] = centres
        shares[region, : len(centres)] = share / config.regions**2
    return shares


def kmeans(points: Tensor, k: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Centres (K, D) of points (N, D), and the share of points that each has (K,); K is k, or the number of different
    points where that is less.

    Equal points count as the square root of their number: a plain background would win all centres otherwise. A centre
    that loses its points moves to one that is far from its own.
    """
    line = points.double() @ torch.randn(points.shape[1], dtype=torch.double, generator=rng, device=points.device)
    _, group, counts = line.mul(1e5).round().unique(return_inverse=True, return_counts=True)
    first = torch.empty_like(counts).scatter_(0, group, torch.arange(len(group), device=points.device))
    different = points[first]  # (M, D)
    if len(different) <= k:
        return different, counts / len(points)
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
    chosen = torch.empty(len(points), dtype=torch.int64, device=points.device)
    for part, into in zip(points.split(1024), chosen.split(1024), strict=True):
        into.copy_(nearest(part, centres))
    return chosen, (points - centres[chosen]).square().sum(1)
