"""Where a prior starts: how often each token is met, by label and by place, as logits of low rank.

Alone, a network takes hours to learn them, and nothing else while they dominate the loss.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.data.images import Images, Labels
from training.nets.hourglass import Hourglass
from training.threads import every_core

ROUNDS = 120  # of Adam on all counts at once
RATE = 0.06


def init_unigram_logits(network: Hourglass, grids: Images, labels: Labels, seed: int) -> None:
    """Fit softmax(queries keys + bias) to the tokens of `grids` by label and place, on every core of the CPU.

    The last label, no class, stands for all grids together.
    """
    rng = torch.Generator().manual_seed(seed)
    head = network.token_head
    with every_core():
        tokens = head.by_region(flat(grids, range(len(grids))))  # (R * R, M * n)
        places = head.by_region(torch.arange(network.config.tokens**2)[None])  # (R * R, n)
        for region, (part, place) in enumerate(zip(tokens, places, strict=True)):
            counts = _count(part.view(len(grids), -1), labels, network)  # (L, n, V)
            keys, queries, bias = _factors(counts.flatten(0, 1), network.config.unigram_rank, rng)
            with torch.no_grad():
                head.unigram_keys[region], head.bias[region] = keys, bias
                queries = queries.view(len(counts), len(place), -1)  # (L, n, rank)
                network.unigram_queries[:, place] = queries.to(network.unigram_queries.device)


def flat(grids: Images, which: Iterable[int]) -> Tensor:
    """Some of the grids as tokens (B, N)."""
    return torch.from_numpy(np.stack([grids[i].ravel() for i in which]).astype(np.int64))


def _count(tokens: Tensor, labels: Labels, network: Hourglass) -> Tensor:
    """How often each token of tokens (M, n) is met by label and place (classes + 1, n, V)."""
    classes, vocabulary = network.config.classes, network.config.vocabulary
    n = tokens.shape[1]
    counts = torch.zeros(classes + 1, n, vocabulary)
    for label, row in enumerate(counts):
        which = torch.from_numpy(labels == label) if label < classes else slice(None)
        met = tokens[which] + vocabulary * torch.arange(n)
        row.copy_(torch.bincount(met.flatten(), minlength=n * vocabulary).view(n, vocabulary))
    return counts


@torch.enable_grad()
def _factors(counts: Tensor, rank: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Factors a (V, K), b (S, K) and c (V,), so that softmax(b a^T + c) is nearest to the shares of counts (S, V)."""
    states, vocabulary = counts.shape
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    frequency = counts.sum(0) + 0.5
    a, b = (0.1 * torch.randn(n, rank, generator=rng) for n in (vocabulary, states))
    c = (frequency / frequency.sum()).log()
    optimizer = torch.optim.Adam([x.requires_grad_() for x in (a, b, c)], betas=(0.9, 0.98))
    for i in range(ROUNDS):
        optimizer.param_groups[0]["lr"] = RATE * min(1, 2 * (1 - i / ROUNDS))
        loss = F.cross_entropy(b @ a.T + c, shares)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return a.detach(), b.detach(), c.detach()
