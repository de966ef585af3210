"""What the transformer sees of tokens, and of drafts."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from training.nets.hourglass import Hourglass, HourglassConfig

TINY = HourglassConfig(
    **{"tokens": 8, "vocabulary": 96, "classes": 3, "widths": (16, 24), "heads": (2, 3), "depths": (1, 1, 1)},
    **{"head": 8, "features": 12, "regions": 2, "codes": 10, "unigram_rank": 2, "draft": 5},
)


def speaking(config: HourglassConfig = TINY) -> Hourglass:
    """A network that is not at its start, where the biases alone speak."""
    network = Hourglass(config)
    if config.codes:
        network.token_head.set_codes(torch.randn_like(network.token_head.codes))
    for parameter in (network.out.weight, network.out.bias, network.token_head.bias, network.unigram_queries):
        torch.nn.init.normal_(parameter)
    for layer in (network.draft.enter, network.draft.outer, network.draft.inner) if network.draft else ():
        torch.nn.init.normal_(layer.weight, std=0.1)
    return network.requires_grad_(False)


def inputs(config: HourglassConfig = TINY) -> tuple[Tensor, Tensor]:
    return torch.randint(config.vocabulary, (3, config.tokens**2)), torch.tensor([0, 2, 3])


def test_at_first_tokens_are_as_likely_as_their_biases_say() -> None:
    network = Hourglass(TINY)
    torch.nn.init.normal_(network.token_head.bias)
    tokens, labels = inputs()
    assert torch.equal(network(tokens, labels), network.token_head.bias[network.token_head.regions].expand(3, -1, -1))


@pytest.mark.parametrize("config", [TINY, replace(TINY, regions=1, codes=None, draft=0)], ids=["codes", "learned"])
def test_logits_are_those_of_the_head_which_is_given_what_is_constant(config: HourglassConfig) -> None:
    network, (tokens, labels) = speaking(config), inputs()
    hidden = network.predict(tokens, labels)
    assert hidden.shape == (3, 64, 12 + 2 + 1)
    assert torch.equal(hidden[:, :, 12:14], network.unigram_queries[labels])
    assert torch.equal(network(tokens, labels), network.token_head.logits(hidden, tokens))


def test_at_first_a_draft_changes_nothing() -> None:
    """What reads it is silent until it has learned."""
    network, (tokens, labels) = Hourglass(TINY), inputs()
    torch.nn.init.normal_(network.out.weight)
    assert torch.equal(network.predict(tokens, labels, torch.randn(3, 64, 5)), network.predict(tokens, labels))


def test_a_draft_of_zeros_says_nothing_and_another_is_heard_everywhere() -> None:
    """At the input, between the layers of both levels, and before the output: each alone is heard by all tokens."""
    network, (tokens, labels) = speaking(), inputs()
    none = network.predict(tokens, labels)
    torch.testing.assert_close(network.predict(tokens, labels, torch.zeros(3, 64, 5)), none)
    draft = torch.zeros(3, 64, 5)
    draft[:, 20] = torch.randn(3, 5)
    layers = {name: getattr(network.draft, name).weight.clone() for name in ("enter", "outer", "inner")}
    for heard in layers:
        for name, weight in layers.items():
            getattr(network.draft, name).weight.copy_(weight if name == heard else torch.zeros_like(weight))
        changed = network.predict(tokens, labels, draft)[..., :12]
        assert (changed != none[..., :12]).any(2).all(), heard


def test_a_draft_shifts_what_leaves_each_norm_at_its_place() -> None:
    """By as much for each token, and by what squares of tokens say at the inner level."""
    network = speaking()
    draft = torch.randn(3, 64, 5)
    added, (before, within, after) = network.draft(draft, network.shorten)
    assert added.shape == (3, 64, 16) and [len(each) for each in (before, within, after)] == [2, 2, 3]
    assert {each.shape for each in (*before, *after)} == {(3, 64, 16)} and {each.shape for each in within} == {
        (3, 16, 24)
    }
    entered: list[Tensor] = []
    network.before.attention[0].qkv.register_forward_pre_hook(lambda module, arguments: entered.append(*arguments))
    x = torch.randn(3, 64, 16)
    network.before(x, before)
    network.before(x)
    torch.testing.assert_close(entered[0] - entered[1], before[0])
    moved = draft.clone()
    moved[:, 9] += 1  # the second row and column of tokens lie in the first square
    _, (_, changed, _) = network.draft(moved, network.shorten)
    assert ((changed[0] != within[0]).any(2).nonzero()[:, 1] == 0).all()


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
    network.before.register_forward_pre_hook(lambda module, arguments: entered.append(arguments[0]))
    network.predict(tokens, labels)
    network.token_head.codes[3] = torch.randn(96, 10)
    network.predict(tokens, labels)
    changed = (entered[0] != entered[1]).any(2).view(3, 8, 8)
    assert changed[:, 4:, 4:].all() and changed.sum() == 3 * 16


def test_squares_of_tokens_become_one_and_are_told_apart_again() -> None:
    network = Hourglass(TINY)
    x = torch.arange(64.0).view(1, 64, 1).repeat(2, 1, 3)
    short = network.shorten(x)
    assert short.shape == (2, 16, 12)
    assert short[0, 0].view(4, 3)[:, 0].tolist() == [0, 1, 8, 9]
    assert short[0, 6].view(4, 3)[:, 0].tolist() == [20, 21, 28, 29]
    assert torch.equal(network.widen(short), x)


def test_every_token_depends_on_every_other() -> None:
    network, (tokens, labels) = speaking(), inputs()
    changed = tokens.clone()
    changed[:, 0] = (tokens[:, 0] + 1) % 96
    assert (network.predict(tokens, labels) != network.predict(changed, labels)).any(2).all()


@pytest.mark.parametrize("fields", [{"shorten": 3}, {"shorten": 9}, {"regions": 3}])
def test_what_does_not_divide_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="side of 8 tokens"):
        replace(TINY, **fields)
