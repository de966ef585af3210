"""What a token is to a prior: a code that enters for it, a key that leaves for it, logits and draws.

A token is known by its code, the vector that it stands for in the VQ-GAN's codebook: both what enters for it and its
key are functions of that vector. Tokens that look alike are likely together, without having been seen together. Where
tokens have no codes (grey levels), vectors are learned.

The logit of a token is the product of its key with `hidden`, what the transformer makes of a place, and a bias; the
token that the place has now gets a bonus beside.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.nets.transformer import perceptron
from training.nets.vqgan import blocks, region_map, unblocks

LEARNED = 64  # length of the codes of tokens that have none
ROWS = 256  # logits of so many tokens are held at a time
BLOCK = 64  # tokens of the vocabulary among which one is looked for at a time


class TokenHead(nn.Module):
    """Codes, keys and biases of V tokens in R x R regions of a grid of side x side = N places.

    A key consists of `features` numbers, which the transformer's features are multiplied by, and of `unigram_rank`
    numbers for what is constant by label and place: W in all. `hidden` has one number more, the bonus.
    """

    codes: Tensor  # (R * R, V, D)
    unigram_keys: Tensor  # (R * R, V, unigram_rank): see training/init/unigram_logits.py
    regions: Tensor  # (N,)

    def __init__(
        self,
        *,
        side: int,
        regions: int,
        vocabulary: int,
        codes: int | None,
        features: int,
        unigram_rank: int,
    ) -> None:
        """`codes` is the length of the VQ-GAN's, or None where they are learned."""
        super().__init__()
        self.side = side
        shape = (regions**2, vocabulary, codes or LEARNED)
        if codes:
            self.register_buffer("codes", torch.zeros(shape))
        else:
            self.codes = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(shape[:2]))  # (R * R, V)
        self.register_buffer("unigram_keys", torch.zeros(*shape[:2], unigram_rank))
        self.register_buffer("regions", region_map(side, side, regions).flatten(), persistent=False)
        self.key = perceptron(shape[2], features)

    def set_codes(self, codebook: Tensor) -> None:
        """Take over a VQ-GAN's codebook (R * R, V, D), at unit mean square. Raises ValueError where it does not fit."""
        if codebook.shape != self.codes.shape:
            raise ValueError(f"hourglass is made for codes {list(self.codes.shape)}, not {list(codebook.shape)}")
        self.codes.copy_(codebook / codebook.square().mean().sqrt())

    def codes_of(self, tokens: Tensor) -> Tensor:
        """The codes (B, N, D) of tokens (B, N)."""
        return F.embedding(tokens + self.bias.shape[1] * self.regions, self.codes.flatten(0, 1))

    def keys(self) -> Tensor:
        """The key of each token in each region (R * R, V, W)."""
        learned = self.key(self.codes)
        return torch.cat([learned, self.unigram_keys.to(learned.dtype)], dim=2)

    def by_region(self, x: Tensor) -> Tensor:
        """(B, N, ...) to (R * R, B * n, ...), n being the tokens of a region."""
        return blocks(x.unflatten(1, (self.side, self.side)), math.isqrt(len(self.codes)))

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Logits (B, N, V) of `hidden` (B, N, W + 1), which was made of tokens (B, N); linear in it."""
        queries = self.by_region(hidden[..., :-1])  # (R * R, B * n, W)
        by_region = torch.baddbmm(self.bias[:, None], queries, self.keys().transpose(1, 2))  # (R * R, B * n, V)
        logits = unblocks(by_region, len(tokens), self.side, self.side).flatten(1, 2)  # (B, N, V)
        return logits.scatter_add(2, tokens[..., None], hidden[..., -1:].to(logits.dtype))

    @torch.no_grad()
    def draw(
        self,
        hidden: Tensor,
        tokens: Tensor,
        update: Tensor,
        temperature: Tensor,
        uniform: Tensor,
        return_prob: Tensor | None = None,
        logit_bias: Tensor | None = None,
        *,
        keys: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw those tokens of (B, N) that `update` (B, N) says at temperatures (B,), from numbers (B, N) in [0, 1).

        By inverse CDF. Returns all tokens (B, N) and, if `return_prob` (B,) is true of any image, the probability
        (B, N) that each had at temperature 1, which is 1 where none was drawn. `logit_bias` (B, N, V), or (B, N, 1)
        where it is none, is added to the logits, and `keys` are what `keys` gave.
        """
        drawn, probability = tokens.clone(), torch.ones_like(uniform)
        asked = return_prob is not None and bool(return_prob.any())
        for region, own in enumerate(self.keys() if keys is None else keys):  # (V, W)
            for at in (update & (self.regions == region)).nonzero().split(ROWS):
                image, _ = rows = at.unbind(1)
                logits = score(hidden[rows].float(), own, self.bias[region], tokens[rows])  # (M, V)
                if logit_bias is not None:
                    logits += logit_bias[rows]
                plain = logits.softmax(1) if asked else None
                chosen = pick(logits.div_(temperature[image, None]).softmax(1), uniform[rows])  # (M,)
                drawn[rows] = chosen
                if plain is not None:
                    probability[rows] = plain.gather(1, chosen[:, None])[:, 0]
        return drawn, probability


def score(hidden: Tensor, keys: Tensor, bias: Tensor, tokens: Tensor) -> Tensor:
    """Logits (M, V) float of a region's hidden (M, W + 1), keys (V, W), biases (V,) and tokens (M,)."""
    logits = (hidden[:, :-1].to(keys.dtype) @ keys.T).float().add_(bias)
    return logits.scatter_add_(1, tokens[:, None], hidden[:, -1:])


def pick(p: Tensor, uniform: Tensor) -> Tensor:
    """Draw from each distribution (M, V) by inverse CDF of a number in [0, 1): (M,).

    First a block of tokens, then one of its tokens: no cumulative sum is as long as the vocabulary.
    """
    size = math.gcd(p.shape[1], BLOCK)
    p = p.unflatten(1, (-1, size))  # (M, blocks, size)
    cumulative = p.sum(2).cumsum(1)  # (M, blocks)
    u = uniform[:, None] * cumulative[:, -1:]
    block = torch.searchsorted(cumulative, u, right=True).clamp_(max=p.shape[1] - 1)  # (M, 1)
    u = u - F.pad(cumulative, (1, 0)).gather(1, block)
    within = p.take_along_dim(block[:, :, None], dim=1)[:, 0].cumsum(1)  # (M, size)
    return (block * size + torch.searchsorted(within, u, right=True).clamp_(max=size - 1))[:, 0]
