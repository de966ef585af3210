"""Principal components and k-means where both are known."""

import numpy as np
import pytest
import torch

from training.data.images import signed
from training.init.pca_kmeans import init_vqgan, kmeans
from training.nets.vqgan import VQGAN, VQGANConfig


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_kmeans_finds_clusters_however_unequal() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    sizes = [2000, 50, 10]
    points = torch.cat([c + 0.1 * torch.randn(n, 2) for c, n in zip(centres, sizes, strict=True)])
    found, shares = kmeans(points, 3, rng())
    order = torch.cdist(centres, found).argmin(1)
    torch.testing.assert_close(found[order], centres, atol=0.15, rtol=0)
    torch.testing.assert_close(shares[order], torch.tensor(sizes) / sum(sizes))


def test_equal_points_win_one_centre() -> None:
    points = torch.cat([torch.zeros(10_000, 2), torch.randn(40, 2) + 5])
    found, shares = kmeans(points, 8, rng())
    assert (found == 0).all(1).sum() == 1 and shares.max() == pytest.approx(10_000 / 10_040)
    assert shares.sum() == pytest.approx(1)


def test_few_points_are_centres_themselves() -> None:
    found, shares = kmeans(torch.tensor([[0.0], [2.0], [0.0], [0.0]]), 3, rng())
    assert sorted(zip(found.flatten().tolist(), shares.tolist(), strict=True)) == [(0, 0.75), (2, 0.25)]


@pytest.mark.slow
@pytest.mark.parametrize("regions", [1, 2])
def test_a_start_that_can_be_exact_is(regions: int) -> None:
    """Patches of few colours and few brightness ramps: as many dimensions and codes as there are draw them again."""
    generator = np.random.default_rng(0)
    colours = generator.integers(40, 200, size=(6, 3))
    ramp = np.arange(32)[:, None, None] - 15.5
    patches = np.stack([colour + ramp * slope for colour in colours for slope in (-1, 0, 1)])  # [18, 32, 1, 3]
    grid = patches.repeat(32, 2)[generator.integers(18, size=(12, 4, 4))]  # [12, 4, 4, 32, 32, 3]
    images = grid.swapaxes(2, 3).reshape(12, 128, 128, 3).round().astype(np.uint8)

    network = VQGAN(VQGANConfig(codes=18, latent=6, regions=regions))
    shares = init_vqgan(network, images, rng())
    assert shares.shape == (regions**2, 18) and (shares.sum(1) * regions**2).tolist() == pytest.approx([1] * regions**2)
    pixels = signed(torch.from_numpy(images).permute(0, 3, 1, 2))
    with torch.no_grad():
        latents = network.encoder(pixels)
        drawn = network.decode(network.encode(pixels))
    assert latents.square().mean() == pytest.approx(1, rel=0.3)
    assert (drawn - pixels).square().mean().sqrt() < 0.02
