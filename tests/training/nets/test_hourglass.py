"""What the transformer sees of tokens, and positions against geometry."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.nets.hourglass import FEW, Hourglass, HourglassConfig, attend, axial_rotation, rotate

TINY = HourglassConfig(
    **{"tokens": 8, "vocabulary": 96, "classes": 3, "widths": (16, 24), "heads": (2, 3), "depths": (1, 1, 1)},
    **{"head": 8, "features": 12, "regions": 2, "codes": 10, "image_embedding": 5},
)


def speaking(config: HourglassConfig = TINY) -> Hourglass:
    """A network that is not at its start, where the biases alone speak."""
    network = Hourglass(config)
    if config.codes:
        network.token_head.set_codes(torch.randn_like(network.token_head.codes))
    for parameter in (
        *(network.out.weight, network.out.bias, network.image_embedding_in.weight),
        *(network.token_head.bias, network.token_head.image_key[2].weight),
    ):
        torch.nn.init.normal_(parameter)
    return network.requires_grad_(False)


def inputs(config: HourglassConfig = TINY) -> tuple[Tensor, Tensor]:
    return torch.randint(config.vocabulary, (3, config.tokens**2)), torch.tensor([0, 2, 3])


def test_at_first_tokens_are_as_likely_as_their_biases_say() -> None:
    network = Hourglass(TINY)
    torch.nn.init.normal_(network.token_head.bias)
    tokens, labels = inputs()
    assert torch.equal(network(tokens, labels), network.token_head.bias[network.token_head.regions].expand(3, -1, -1))


@pytest.mark.parametrize("config", [TINY, replace(TINY, regions=1, codes=None)], ids=["codes", "learned"])
def test_logits_are_those_of_the_head_which_is_given_the_image_embedding(config: HourglassConfig) -> None:
    network, (tokens, labels) = speaking(config), inputs()
    embedding = torch.randn(3, 5)
    hidden = network.predict(tokens, labels, embedding)
    assert hidden.shape == (3, 64, 18)
    assert torch.equal(hidden[:, :, 12:17], embedding[:, None].expand(3, 64, 5))
    assert torch.equal(network(tokens, labels, embedding), network.token_head.logits(hidden, tokens))


def test_an_embedding_of_zeros_is_none_and_another_is_heard_everywhere() -> None:
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


def test_an_image_is_embedded_by_the_codes_of_its_known_tokens() -> None:
    network, (tokens, _) = speaking(), inputs()
    known = torch.rand(3, 64) < 0.5
    embedding, labels = network.embed_image(tokens, known)
    assert embedding.shape == (3, 5) and labels.shape == (3, 4)
    expected = network.image_embedder(network.token_head.codes_of(tokens), known)
    torch.testing.assert_close((embedding, labels), expected)
    others = torch.where(known, tokens, torch.randint(96, tokens.shape))
    torch.testing.assert_close(network.embed_image(others, known), (embedding, labels))


def test_logits_are_linear_so_that_guidance_may_mix_what_they_are_made_of() -> None:
    network, (tokens, labels) = speaking(), inputs()
    with_class, without = (network.predict(tokens, y) for y in (labels, torch.full_like(labels, 3)))
    mixed = network.token_head.logits(without + 2.5 * (with_class - without), tokens)
    logits = [network.token_head.logits(hidden, tokens) for hidden in (with_class, without)]
    torch.testing.assert_close(mixed, logits[1] + 2.5 * (logits[0] - logits[1]), atol=1e-4, rtol=1e-4)


def test_equal_codes_mean_the_same_and_are_as_likely() -> None:
    network, (tokens, labels) = speaking(), inputs()
    network.token_head.codes[:, 5] = network.token_head.codes[:, 7]
    network.token_head.bias[:, 5] = network.token_head.bias[:, 7]
    a, b = tokens.clone(), tokens
    a[0, 3], b[0, 3] = 5, 7
    hidden = network.predict(a, labels)
    torch.testing.assert_close(hidden, network.predict(b, labels))
    logits = network.token_head.logits(hidden, torch.zeros_like(tokens))
    torch.testing.assert_close(logits[..., 5], logits[..., 7])


def test_a_region_reads_its_own_codes() -> None:
    network, (tokens, labels) = speaking(), inputs()
    entered: list[Tensor] = []
    network.before.register_forward_pre_hook(lambda module, arguments: entered.append(*arguments))
    network.predict(tokens, labels)
    network.token_head.codes[3] = torch.randn(96, 10)
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


@pytest.mark.parametrize("fields", [{"shorten": 3}, {"shorten": 9}, {"regions": 3}])
def test_what_does_not_divide_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="side of 8 tokens"):
        replace(TINY, **fields)
