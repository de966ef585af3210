"""Logits against their definition, draws against the inverse of their distribution."""

import pytest
import torch
from torch import Tensor

from training.nets.token_head import TokenHead, pick

SIDE, VOCABULARY, WIDTH = 8, 96, 12 + 2


def make(codes: int | None = 10, regions: int = 2) -> TokenHead:
    """A head of random codes, keys and biases."""
    head = TokenHead(side=SIDE, regions=regions, vocabulary=VOCABULARY, codes=codes, features=12, unigram_rank=2)
    if codes:
        head.set_codes(torch.randn_like(head.codes))
    for tensor in (head.bias, head.unigram_keys):
        torch.nn.init.normal_(tensor)
    return head.requires_grad_(False)


def inputs() -> tuple[Tensor, Tensor]:
    """Tokens (3, N), and what a transformer might make of them (3, N, W + 1)."""
    return torch.randint(VOCABULARY, (3, SIDE**2)), torch.randn(3, SIDE**2, WIDTH + 1)


@pytest.mark.parametrize(("codes", "regions"), [(10, 2), (None, 1)], ids=["codes", "learned"])
def test_logits_are_products_with_keys_a_bias_and_a_bonus(codes: int | None, regions: int) -> None:
    head, (tokens, hidden) = make(codes, regions), inputs()
    keys = torch.cat([head.key(head.codes), head.unigram_keys], dim=2)
    expected = torch.empty(3, 64, VOCABULARY)
    for i in range(3):
        for row in range(SIDE):
            for column in range(SIDE):
                n = SIDE * row + column
                region = (row // 4 * 2 + column // 4) if regions == 2 else 0
                expected[i, n] = keys[region] @ hidden[i, n, :-1] + head.bias[region]
                expected[i, n, tokens[i, n]] += hidden[i, n, -1]
    torch.testing.assert_close(head.logits(hidden, tokens), expected)


def test_codes_of_unit_mean_square_are_taken_over() -> None:
    head, codebook = make(), torch.randn(4, 96, 10) * 7
    head.set_codes(codebook)
    torch.testing.assert_close(head.codes.square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(head.codes / head.codes[0, 0, 0], codebook / codebook[0, 0, 0])
    with pytest.raises(ValueError, match=r"made for codes \[4, 96, 10\], not \[1, 96, 10\]"):
        head.set_codes(codebook[:1])


@pytest.mark.parametrize("informed", [False, True])
def test_draws_invert_the_distribution(informed: bool) -> None:
    head, (tokens, hidden) = make(), inputs()
    uniform, temperature = torch.rand(3, 64), torch.tensor([1.0, 0.5, 2.0])
    logits = head.logits(hidden, tokens).double()
    logit_bias = torch.randn(logits.shape) if informed else None
    update = torch.rand(3, 64) < 0.6
    asked = torch.tensor([False, True, False])
    drawn, probability = head.draw(hidden, tokens, update, temperature, uniform, asked, logit_bias)
    logits = logits + (0 if logit_bias is None else logit_bias)
    cdf = (logits / temperature[:, None, None]).softmax(2).cumsum(2)
    assert torch.equal(drawn, torch.where(update, (cdf <= uniform[..., None]).sum(2), tokens))
    expected = torch.where(update, logits.softmax(2).gather(2, drawn[..., None])[..., 0], 1)
    torch.testing.assert_close(probability.double(), expected, atol=1e-6, rtol=1e-4)
    assert torch.equal(head.draw(hidden, tokens, update, temperature, uniform, None, logit_bias)[0], drawn)
    assert torch.equal(
        head.draw(hidden, tokens, update, temperature, uniform, None, logit_bias, keys=head.keys())[0], drawn
    )


@pytest.mark.parametrize("vocabulary", [8, 64, 97, 192])
def test_numbers_spread_evenly_pick_tokens_as_often_as_they_are_likely(vocabulary: int) -> None:
    p = torch.rand(vocabulary).square() * (torch.rand(vocabulary) < 0.7)
    p /= p.sum()
    n = 100_000
    uniform = (torch.arange(n) + 0.5) / n
    drawn = torch.cat([pick(p.expand(len(part), -1), part) for part in uniform.split(5_000)])
    counts = drawn.bincount(minlength=vocabulary)
    torch.testing.assert_close(counts / n, p, atol=3 / n, rtol=1e-3)
    assert (drawn.diff() >= 0).all() and (counts[p == 0] == 0).all()


def test_the_largest_number_picks_a_token_that_is_possible() -> None:
    p = torch.tensor([[0.3, 0.7, 0.0, 0.0]])
    assert pick(p, torch.tensor([1 - 2**-24])).tolist() == [1]
