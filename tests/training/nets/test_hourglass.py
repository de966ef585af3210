"""Logits against their definition, draws against the inverse of their distribution, positions against geometry."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.nets.hourglass import FEW, Hourglass, HourglassConfig, attend, axial_rotation, pick, rotate

TINY = HourglassConfig(
    **{"tokens": 8, "vocabulary": 96, "classes": 3, "widths": (16, 24), "heads": (2, 3), "depths": (1, 1, 1)},
    **{"head": 8, "features": 12, "regions": 2, "codes": 10, "theme": 5},
)


def speaking(config: HourglassConfig = TINY) -> Hourglass:
    """A network that is not at its start, where the biases alone speak."""
    network = Hourglass(config)
    if config.codes:
        network.set_codes(torch.randn_like(network.codes))
    for parameter in (network.out.weight, network.out.bias, network.bias, network.theme.weight, network.tint[2].weight):
        torch.nn.init.normal_(parameter)
    return network.requires_grad_(False)


def inputs(config: HourglassConfig = TINY) -> tuple[Tensor, Tensor]:
    return torch.randint(config.vocabulary, (3, config.tokens**2)), torch.tensor([0, 2, 3])


def test_at_first_tokens_are_as_likely_as_their_biases_say() -> None:
    network = Hourglass(TINY)
    torch.nn.init.normal_(network.bias)
    tokens, labels = inputs()
    assert torch.equal(network(tokens, labels), network.bias[network.regions].expand(3, -1, -1))


@pytest.mark.parametrize("config", [TINY, replace(TINY, regions=1, codes=None)], ids=["codes", "learned"])
def test_logits_are_products_with_keys_a_bias_and_a_bonus(config: HourglassConfig) -> None:
    network, (tokens, labels) = speaking(config), inputs()
    theme = torch.randn(3, 5)
    hidden = network.predict(tokens, labels, theme)
    assert hidden.shape == (3, 64, 18)
    assert torch.equal(hidden[:, :, 12:17], theme[:, None].expand(3, 64, 5))
    keys = torch.cat([network.key(network.codes), network.tint(network.codes)], dim=2)
    expected = torch.empty(3, 64, 96)
    for i in range(3):
        for row in range(8):
            for column in range(8):
                n = 8 * row + column
                region = (row // 4 * 2 + column // 4) if config.regions == 2 else 0
                expected[i, n] = keys[region] @ hidden[i, n, :-1] + network.bias[region]
                expected[i, n, tokens[i, n]] += hidden[i, n, -1]
    torch.testing.assert_close(network(tokens, labels, theme), expected)


def test_a_theme_of_zeros_is_none_and_another_is_heard_everywhere() -> None:
    network, (tokens, labels) = speaking(), inputs()
    none = network.predict(tokens, labels)
    assert torch.equal(none, network.predict(tokens, labels, torch.zeros(3, 5)))
    features = network.predict(tokens, labels, torch.randn(3, 5))[..., :12]
    assert (features != none[..., :12]).any(2).all()


def test_of_tokens_that_are_not_known_their_place_alone_is_seen() -> None:
    """They get no bonus for staying as they are, either."""
    network, (tokens, labels) = speaking(), inputs()
    torch.nn.init.normal_(network.hidden)
    known = torch.rand(3, 64) < 0.5
    hidden = network.predict(tokens, labels, known=known)
    others = torch.where(known, tokens, torch.randint(96, tokens.shape))
    assert torch.equal(network.predict(others, labels, known=known), hidden)
    assert torch.equal(hidden[..., -1] != 0, known)
    everything = torch.ones_like(known)
    assert torch.equal(network.predict(tokens, labels, known=everything), network.predict(tokens, labels))
    assert (network.predict(tokens, labels) != hidden).any(2).all()


def test_what_is_recognised_depends_on_the_set_of_known_tokens() -> None:
    """Not on the others, nor on where they lie; each numeral of a theme lies in -1 .. 1."""
    network, (tokens, _) = Hourglass(replace(TINY, regions=1, codes=None)), inputs()
    known = torch.rand(3, 64) < 0.5
    theme, labels = network.recognise(tokens, known)
    assert theme.shape == (3, 5) and labels.shape == (3, 4) and theme.abs().max() < 1
    others = torch.where(known, tokens, torch.randint(96, tokens.shape))
    torch.testing.assert_close(network.recognise(others, known), (theme, labels))
    order = torch.randperm(64)
    torch.testing.assert_close(network.recognise(tokens[:, order], known[:, order]), (theme, labels))
    assert (network.recognise(tokens, ~known)[0] != theme).any(1).all()
    assert all(x.isfinite().all() for x in network.recognise(tokens, torch.zeros_like(known)))


def test_logits_are_linear_so_that_guidance_may_mix_what_they_are_made_of() -> None:
    network, (tokens, labels) = speaking(), inputs()
    with_class, without = (network.predict(tokens, y) for y in (labels, torch.full_like(labels, 3)))
    mixed = network.logits(without + 2.5 * (with_class - without), tokens)
    logits = [network.logits(hidden, tokens) for hidden in (with_class, without)]
    torch.testing.assert_close(mixed, logits[1] + 2.5 * (logits[0] - logits[1]), atol=1e-4, rtol=1e-4)


def test_codes_of_unit_mean_square_are_taken_over() -> None:
    network, codebook = Hourglass(TINY), torch.randn(4, 96, 10) * 7
    network.set_codes(codebook)
    torch.testing.assert_close(network.codes.square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(network.codes / network.codes[0, 0, 0], codebook / codebook[0, 0, 0])
    with pytest.raises(ValueError, match=r"made for codes \[4, 96, 10\], not \[1, 96, 10\]"):
        network.set_codes(codebook[:1])


def test_equal_codes_mean_the_same_and_are_as_likely() -> None:
    network, (tokens, labels) = speaking(), inputs()
    network.codes[:, 5] = network.codes[:, 7]
    network.bias[:, 5] = network.bias[:, 7]
    a, b = tokens.clone(), tokens
    a[0, 3], b[0, 3] = 5, 7
    hidden = network.predict(a, labels)
    torch.testing.assert_close(hidden, network.predict(b, labels))
    logits = network.logits(hidden, torch.zeros_like(tokens))
    torch.testing.assert_close(logits[..., 5], logits[..., 7])


def test_a_region_reads_its_own_codes() -> None:
    network, (tokens, labels) = speaking(), inputs()
    entered: list[Tensor] = []
    network.before.register_forward_pre_hook(lambda module, arguments: entered.append(*arguments))
    network.predict(tokens, labels)
    network.codes[3] = torch.randn(96, 10)
    network.predict(tokens, labels)
    changed = (entered[0] != entered[1]).any(2).view(3, 8, 8)
    assert changed[:, 4:, 4:].all() and changed.sum() == 3 * 16


def test_squares_of_tokens_become_one_and_are_told_apart_again() -> None:
    network = Hourglass(TINY)
    x = torch.arange(64.0).view(1, 64, 1).repeat(2, 1, 3)
    short = network._shorten(x)
    assert short.shape == (2, 16, 12)
    assert short[0, 0].view(4, 3)[:, 0].tolist() == [0, 1, 8, 9]
    assert short[0, 6].view(4, 3)[:, 0].tolist() == [20, 21, 28, 29]
    assert torch.equal(network._widen(short), x)


def test_every_token_depends_on_every_other() -> None:
    network, (tokens, labels) = speaking(), inputs()
    changed = tokens.clone()
    changed[:, 0] = (tokens[:, 0] + 1) % 96
    assert (network.predict(tokens, labels) != network.predict(changed, labels)).any(2).all()


def test_rotation_tells_by_how_much_positions_differ() -> None:
    """Products of rotated vectors depend on the distance between two tokens in each axis, and on nothing else."""
    q, k = torch.randn(2, 16, dtype=torch.double)
    rotation = axial_rotation(8, 16).double()
    products = rotate(q.expand(64, -1), rotation) @ rotate(k.expand(64, -1), rotation).T
    products = products.view(8, 8, 8, 8)  # row and column of q, row and column of k
    torch.testing.assert_close(products[2, 3, 4, 1], products[5, 6, 7, 4], atol=1e-5, rtol=0)
    torch.testing.assert_close(products[3, 3, 3, 3], q @ k, atol=1e-5, rtol=0)
    assert abs(products[2, 3, 4, 1] - products[2, 3, 1, 4]) > 1e-3


@pytest.mark.parametrize("tokens", [16, FEW + 1])
def test_attention_is_the_same_in_parts(tokens: int) -> None:
    q, k, v, gradient = torch.randn(4, 2, 3, tokens, 8)
    fused, own = ([x.clone().requires_grad_() for x in (q, k, v)] for _ in range(2))
    F.scaled_dot_product_attention(*fused).backward(gradient)
    attend(*own).backward(gradient)
    torch.testing.assert_close(attend(q, k, v), attend(*own).detach())
    for a, b in zip(own, fused, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("informed", [False, True])
def test_draws_invert_the_distribution(informed: bool) -> None:
    network, (tokens, labels) = speaking(), inputs()
    hidden = network.predict(tokens, labels)
    uniform, temperature = torch.rand(3, 64), torch.tensor([1.0, 0.5, 2.0])
    logits = network.logits(hidden, tokens).double()
    evidence = torch.randn(logits.shape) if informed else None
    update = torch.rand(3, 64) < 0.6
    judge = torch.tensor([False, True, False])
    drawn, chances = network.draw(hidden, tokens, update, temperature, uniform, judge, evidence)
    logits = logits + (0 if evidence is None else evidence)
    cdf = (logits / temperature[:, None, None]).softmax(2).cumsum(2)
    assert torch.equal(drawn, torch.where(update, (cdf <= uniform[..., None]).sum(2), tokens))
    expected = torch.where(update, logits.softmax(2).gather(2, drawn[..., None])[..., 0], 1)
    torch.testing.assert_close(chances.double(), expected, atol=1e-6, rtol=1e-4)
    assert torch.equal(network.draw(hidden, tokens, update, temperature, uniform, None, evidence)[0], drawn)


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


@pytest.mark.parametrize("fields", [{"shorten": 3}, {"shorten": 9}, {"regions": 3}])
def test_what_does_not_divide_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="side of 8 tokens"):
        replace(TINY, **fields)
