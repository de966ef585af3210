"""Shapes, nearest codes against brute force, and that windows give what whole images give."""

from dataclasses import replace

import pytest
import torch

from training.nets.vqgan import VQGAN, PatchDiscriminator, VQGANConfig, blocks, nearest, region_map, unblocks

TINY = VQGANConfig(
    codes=16, latent=4, encoder=(8, 8, 8), encoder_blocks=(1, 1, 1), decoder=(8, 8, 8, 8), decoder_blocks=(1, 1, 1, 1)
)


@pytest.fixture
def network() -> VQGAN:
    torch.manual_seed(0)
    return VQGAN(TINY)


def test_nearest_is_the_smallest_distance() -> None:
    points, codes = torch.randn(3, 5, 4), torch.randn(9, 4)
    assert torch.equal(nearest(points, codes), torch.cdist(points, codes.expand(3, -1, -1)).argmin(-1))


def test_one_token_stands_for_32_pixels_squared(network: VQGAN) -> None:
    tokens = network.encode(torch.randn(2, 3, 64, 96))
    assert tokens.shape == (2, 2, 3) and tokens.dtype == torch.int64 and tokens.max() < 16
    assert network.decode(tokens).shape == (2, 3, 64, 96)


def test_codes_are_their_own_nearest(network: VQGAN) -> None:
    tokens, regions = torch.arange(16).view(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    assert torch.equal(network.quantise(network.embed(tokens, regions), regions), tokens)


def test_each_region_has_its_own_codes() -> None:
    network = VQGAN(replace(TINY, regions=2))
    assert network.codebook.shape == (4, 16, 4)
    tokens = torch.randint(16, (3, 4, 6))
    codes = network.embed(tokens, region_map(4, 6, 2))
    assert torch.equal(codes[1, :, 3, 2], network.codebook[2, tokens[1, 3, 2]])
    assert torch.equal(network.quantise(codes, region_map(4, 6, 2).expand(3, -1, -1)), tokens)
    with pytest.raises(ValueError, match="3x4 tokens cannot be cut into 2x2"):
        network.decode(tokens[:, :3, :4])


def test_blocks_are_regions() -> None:
    grid = torch.randn(3, 4, 6, 5)
    parts = blocks(grid, 2)  # (4, 3 * 2 * 3, 5)
    assert torch.equal(parts[1], grid[:, :2, 3:].reshape(-1, 5))
    assert torch.equal(unblocks(parts, 3, 4, 6), grid)
    regions = blocks(region_map(4, 6, 2).expand(3, -1, -1), 2)
    assert torch.equal(regions, torch.arange(4)[:, None].expand(4, 18))


def test_only_the_linear_paths_speak_at_first(network: VQGAN) -> None:
    images, latents = torch.randn(1, 3, 64, 64), torch.randn(1, 4, 2, 2)
    assert torch.equal(network.encoder(images), network.encoder.linear(images))
    assert torch.equal(network.decoder(latents), network.decoder.linear(latents))


def test_a_refiner_is_silent_at_first_and_mends_what_it_is_given() -> None:
    network = VQGAN(replace(TINY, refiner=(8, 8, 8, 8))).decoder
    latents = torch.randn(2, 4, 2, 3)
    drawn = network.draw(latents)
    assert torch.equal(network(latents), drawn) and drawn.shape == (2, 3, 64, 96)
    torch.nn.init.normal_(network.refiner.leave.weight)
    changed = drawn.clone()
    changed[:, :, :4, :4] += 1
    difference = network.mend(changed, latents) - network.mend(drawn, latents)
    assert difference[..., 4:12, 4:12].abs().max() > 0 and not torch.equal(network(latents), drawn)


@pytest.mark.parametrize(
    "wrong", [{"refiner": (8, 8, 8)}, {"decoder": (8, 8, 8), "decoder_blocks": (1, 1, 1)}, {"decoder": ()}]
)
def test_levels_that_are_not_those_of_the_paths_are_refused(wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="have four|has four"):
        replace(TINY, **wrong)


def test_attention_sees_the_whole_image() -> None:
    torch.manual_seed(0)
    network = VQGAN(replace(TINY, attention=True)).decoder
    tokens = torch.randn(1, 4, 8, 8, requires_grad=True)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, std=0.2)
    network(tokens)[..., 0, 0].sum().backward()
    assert (tokens.grad.abs().sum((0, 1)) > 0).all()


@torch.no_grad()
def test_the_middle_of_a_window_is_that_of_the_whole() -> None:
    """Beyond the reach of the convolutions, that is: in these levels less than 8 tokens."""
    torch.manual_seed(0)
    network = VQGAN(TINY).double()
    for path in (network.encoder, network.decoder):
        for layer in path.network:
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.normal_(layer.weight, std=0.2)
    tokens = torch.randint(16, (1, 20, 20))
    whole, window = network.decode(tokens), network.decode(tokens[:, 1:])
    torch.testing.assert_close(whole[:, :, 9 * 32 :], window[:, :, 8 * 32 :])
    images = torch.randn(1, 3, 20 * 32, 32, dtype=torch.double)
    whole, window = network.encoder(images), network.encoder(images[:, :, 32:])
    torch.testing.assert_close(whole[:, :, 9:], window[:, :, 8:])


def test_each_neighbourhood_has_a_score() -> None:
    assert PatchDiscriminator()(torch.randn(2, 3, 64, 96)).shape == (2, 1, 4, 6)


def test_without_convolutions_the_linear_path_draws_alone() -> None:
    network = VQGAN(replace(TINY, decoder=(), decoder_blocks=(), lapped=6))
    latents = torch.randn(2, 4, 3, 3)
    assert torch.equal(network.decoder(latents), network.decoder.linear(latents))
    assert network.decoder(latents).shape == (2, 3, 96, 96)
