"""The 2D-aware hourglass transformer of McKinney and Willcocks (section 3.2): what each token of a grid should be.

Not causal. Tokens are resampled by the square root of `shorten` along each axis, and attention knows where in the plane
they lie (rotary embeddings of both axes). Faces are aligned, so that absolute positions are learned beside it.

What enters for a token and what its logit is are functions of its code: see token_head.py. What the attributes of a
picture say of each place is its draft: see init/drafts.py.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from training.nets.token_head import TokenHead
from training.nets.transformer import Shifts, Trunk, perceptron
from training.recipe import config

READ = 64  # numbers that a draft is read as, a token


@config
class HourglassConfig:
    """Widths, heads and layers by level; the outer level has layers before and after the inner one."""

    tokens: int = 32  # along a side of the grid
    vocabulary: int = 8192
    classes: int = 5
    widths: tuple[int, int] = (192, 384)  # outer, inner
    heads: tuple[int, int] = (3, 6)
    depths: tuple[int, int, int] = (1, 6, 1)
    head: int = 64  # channels
    shorten: int = 4  # tokens of the outer level that one of the inner level stands for
    features: int = 128  # of a token, which its key is multiplied by
    regions: int = 1  # of the codebook, along a side: see VQGANConfig
    codes: int | None = None  # length of the VQ-GAN's codes; learned without
    unigram_rank: int = 0  # of the logits to start from: how often a token is met by label and place
    draft: int = 0  # numbers a token of a draft; 0: the network knows of no attributes

    def __post_init__(self) -> None:
        side = math.isqrt(self.shorten)
        if side**2 != self.shorten or self.tokens % side or self.tokens % self.regions:
            raise ValueError(f"a side of {self.tokens} tokens does not suit shorten = {self.shorten} and its regions")


class DraftReader(nn.Module):
    """Drafts (B, N, D) as what is added to tokens (B, N, C), and to what leaves each norm. Zeros add nothing."""

    def __init__(self, config: HourglassConfig) -> None:
        super().__init__()
        outer, inner = config.widths
        before, within, after = config.depths
        self.read = nn.Sequential(nn.Linear(config.draft, 128, bias=False), nn.GELU(), nn.Linear(128, READ, bias=False))
        self.enter = _silent(config.draft, outer)
        self.outer = _silent(READ + config.draft, (2 * (before + after) + 1) * outer)
        self.inner = _silent(READ * config.shorten, 2 * within * inner)
        self.shapes = (outer, inner, 2 * before)

    def forward(self, draft: Tensor, shorten: Callable[[Tensor], Tensor]) -> tuple[Tensor, Shifts]:
        outer, inner, before = self.shapes
        read = self.read(draft)  # (B, N, READ)
        all_outer = self.outer(torch.cat([read, draft.to(read.dtype)], dim=2)).split(outer, dim=2)
        added: Tensor = self.enter(draft)
        return added, (all_outer[:before], self.inner(shorten(read)).split(inner, dim=2), all_outer[before:])


def _silent(width_in: int, width_out: int) -> nn.Linear:
    layer = nn.Linear(width_in, width_out, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


H = TypeVar("H", bound=TokenHead)


def token_head(kind: type[H], config: HourglassConfig) -> H:
    """The output layer of an Hourglass."""
    return kind(
        side=config.tokens,
        regions=config.regions,
        vocabulary=config.vocabulary,
        codes=config.codes,
        features=config.features,
        unigram_rank=config.unigram_rank,
    )


class Hourglass(Trunk):
    """Tokens (B, N), known (B, N) in part, labels (B,) and drafts (B, N, D) to logits (B, N, V).

    In two parts: `predict` gives what logits are linear in, `token_head` the logits. A draft of zeros is none.
    """

    components: Tensor
    unigram_queries: Tensor  # (classes + 1, N, unigram_rank): see training/init/unigram_logits.py

    def __init__(self, config: HourglassConfig) -> None:
        super().__init__(config.tokens, config.widths, config.heads, config.depths, config.head, config.shorten)
        self.config = config
        outer = config.widths[0]
        self.token_head = token_head(TokenHead, config)
        codes = self.token_head.codes.shape[2]
        self.register_buffer("unigram_queries", torch.zeros(config.classes + 1, config.tokens**2, config.unigram_rank))
        self.token = perceptron(codes, outer)
        self.draft = DraftReader(config) if config.draft else None
        # What the numbers of a draft are: principal components (D + 1, draft) of codes, the last row being their mean.
        self.register_buffer("components", torch.zeros(codes + 1, config.draft))
        self.label = nn.Embedding(config.classes + 1, outer)  # the last: no class
        self.position = nn.Parameter(0.02 * torch.randn(config.tokens**2, outer))
        self.hidden = nn.Parameter(torch.zeros(outer))  # in place of a token that is not known

        self.out = nn.Linear(outer, config.features + 1)
        # At first, biases alone speak.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def predict(
        self, tokens: Tensor, labels: Tensor, draft: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """`hidden` (B, N, W + 1) of TokenHead, for tokens (B, N) of labels (B,), `classes` standing for none.

        Features, then what is constant by label and place, then a bonus for leaving a token as it is. A draft
        (B, N, D) says what attributes tell of each place. Tokens that are not `known` (B, N) are not looked at;
        without it, all are.
        """
        if known is None:
            known = torch.ones_like(tokens, dtype=torch.bool)
        x = self.token(self.token_head.codes_of(tokens))  # (B, N, C)
        x = torch.where(known[..., None], x, self.hidden.to(x.dtype))
        x = x + self.position + self.label(labels)[:, None]
        shifts = None
        if self.draft is not None and draft is not None:
            added, shifts = self.draft(draft, self.shorten)
            x = x + added
        features, bonus = self.out(self.run(x, shifts)).split([self.config.features, 1], dim=2)
        bonus = bonus * known[..., None]
        return torch.cat([features, self.unigram_queries[labels].to(x.dtype), bonus], dim=2)

    def forward(
        self, tokens: Tensor, labels: Tensor, draft: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        return self.token_head.logits(self.predict(tokens, labels, draft, known), tokens)
