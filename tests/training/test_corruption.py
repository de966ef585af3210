"""What is hidden of tokens in training: holes in one piece or few, and shares of random tokens."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from training.corruption import LARGEST, POWER, corrupt, corrupt_by_frequency, hide_attributes, holes, noise_ratios
from training.nets.vqgan import region_map


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_hole_is_of_any_size_and_of_few_pieces() -> None:
    found = holes(2000, 32, rng()).view(-1, 32, 32)
    sizes = found.float().mean((1, 2))
    torch.testing.assert_close(sizes.quantile(torch.arange(5) / 4), LARGEST * torch.arange(5) / 4, atol=0.02, rtol=0)
    assert (found.float().mean(0) - LARGEST / 2).abs().max() < 0.1  # anywhere
    assert np.median([ndimage.label(hole)[1] for hole in found.numpy()]) <= 4


def test_noise_is_everywhere_or_in_a_hole_alone() -> None:
    hole, told = (torch.arange(16) < 4).expand(4000, -1), torch.arange(4000)[:, None] < 2000
    ratio = noise_ratios(hole, told, rng())
    inside, outside = ratio[:, 0], ratio[:, -1]
    assert torch.equal(ratio, torch.where(hole, inside[:, None], outside[:, None]))
    even = inside == outside
    assert abs(even.float().mean() - 0.5) < 0.03 and (outside[~even] == 0).all()
    quarters = torch.arange(5) / 4
    torch.testing.assert_close(inside[2000:].quantile(quarters), quarters, atol=0.04, rtol=0)
    torch.testing.assert_close(inside[:2000].quantile(quarters), 1 - (1 - quarters) ** POWER, atol=0.04, rtol=0)


def test_a_share_of_tokens_becomes_random() -> None:
    z = torch.full((3, 20_000), 5)
    noisy = corrupt(z, torch.tensor([[0.0], [0.3], [1.0]]), 8, rng())
    assert torch.equal(noisy[0], z[0])
    torch.testing.assert_close((noisy != z).float().mean(1), torch.tensor([0, 0.3 * 7 / 8, 7 / 8]), atol=0.02, rtol=0)
    torch.testing.assert_close(noisy[2].bincount(minlength=8) / 20_000, torch.full((8,), 1 / 8), atol=0.01, rtol=0)


def test_attributes_are_told_all_in_part_or_not_at_all() -> None:
    rows = torch.arange(1, 21).expand(10_000, 20)
    hidden = hide_attributes(rows, rng())
    assert torch.equal(hidden[hidden > 0], rows[hidden > 0])
    told = (hidden > 0).float().mean(1)
    assert (
        abs((told == 1).float().mean() - 0.5 - 0.2 / 21) < 0.02
        and abs((told == 0).float().mean() - 0.3 - 0.2 / 21) < 0.02
    )
    some = told[(told > 0) & (told < 1)]
    torch.testing.assert_close(some.quantile(torch.arange(1, 4) / 4), torch.arange(1, 4) / 4, atol=0.06, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_wrong_tokens_are_as_many_and_as_frequent(share: float) -> None:
    regions = region_map(8, 8, 2)
    counts = torch.zeros(4, 16)
    counts[:, 3:] = torch.arange(4)[:, None] + 1  # three that are never met, the others alike
    tokens = torch.zeros(200, 8, 8, dtype=torch.int64)  # one that is never drawn
    rng = torch.Generator().manual_seed(0)
    corrupted = corrupt_by_frequency(tokens, torch.full((200, 1, 1), share), counts, regions, rng)
    wrong = corrupted != 0
    assert wrong.float().mean().item() == pytest.approx(share, abs=0.02)
    assert (corrupted[wrong] >= 3).all()
    if share:
        often = torch.bincount(corrupted[wrong], minlength=16)[3:].float()
        assert often.min() > 0.8 * often.mean()
