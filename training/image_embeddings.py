"""Image embeddings: learned before a prior is, along with it, and kept to draw with."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.corruption import holes
from training.data.images import Images, Labels
from training.init.unigram_logits import flat
from training.nets.hourglass import IMAGE_EMBEDDINGS, Hourglass
from training.threads import every_core

ROUNDS = 1500
RATE, RATE_OF_BIAS = 2e-3, 1e-2  # of Adam
BATCH = 24  # pictures a round
PLACES = 64  # of the tokens of a region, a round
NOISE = 0.1  # in an embedding, whose numbers lie in -1 .. 1: near ones are to mean nearly the same


def embed_noisily(
    network: Hourglass, tokens: Tensor, known: Tensor, labels: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Embeddings (B, K), with noise, of those tokens (B, N) that are known (B, N); the loss in telling labels (B,)."""
    embedding, logits = network.embed_image(tokens, known)
    noise = torch.randn(embedding.shape, generator=rng, device=embedding.device)
    return embedding + NOISE * noise, F.cross_entropy(logits, labels)


def init_image_embedder(
    network: Hourglass, grids: Images, labels: Labels, target_ratio: Tensor, rng: torch.Generator
) -> None:
    """Learn embeddings, and what they say of tokens wherever these lie, beside what label and place say.

    On every core. A target is taken with the chance `target_ratio` (R * R, V).
    """
    head = network.token_head
    tokens = flat(grids, range(len(grids))).to(rng.device)  # (M, N)
    classes = torch.from_numpy(labels).to(rng.device)
    places = head.by_region(torch.arange(tokens.shape[1], device=rng.device)[None])  # (R * R, n)
    learned: list[Tensor] = [*head.image_key.parameters(), *network.image_embedder.parameters()]
    # A network that has learned before corrects its biases; embeddings are not to.
    bias = head.bias.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([{"params": learned}, {"params": [bias]}], betas=(0.9, 0.98))
    rates = RATE, RATE_OF_BIAS
    with every_core(), torch.enable_grad():
        for i in range(ROUNDS):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1, 2 * (1 - i / ROUNDS))
            rows = torch.randint(len(tokens), (BATCH,), generator=rng, device=rng.device)
            region = int(torch.randint(len(places), (), generator=rng, device=rng.device))
            some = places[region, torch.randperm(places.shape[1], generator=rng, device=rng.device)[:PLACES]]
            targets, label = tokens[rows][:, some], classes[rows]  # (B, PLACES), (B,)
            known = ~holes(BATCH, network.config.tokens, rng)
            embedding, loss = embed_noisily(network, tokens[rows], known, label, rng)
            everywhere = embedding[:, None].expand(-1, len(some), -1)
            hidden = torch.cat([everywhere, network.unigram_queries[label][:, some]], dim=2)  # (B, PLACES, K + rank)
            keys = torch.cat([head.image_key(head.codes[region]), head.unigram_keys[region]], dim=1)  # (V, K + rank)
            taken = torch.rand(targets.shape, generator=rng, device=rng.device) < target_ratio[region, targets]
            logits = hidden[taken] @ keys.T + (bias[region] + target_ratio[region].log())
            loss = loss + F.cross_entropy(logits, targets[taken], reduction="sum") / taken.sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def keep_image_embeddings(network: Hourglass, grids: Images, labels: Labels) -> None:
    """Keep those of the first pictures of each class in `network.image_embeddings`; of too few, all, over and over."""
    device = network.image_embeddings.device
    for label, row in enumerate(network.image_embeddings):  # (IMAGE_EMBEDDINGS, K)
        which = np.resize(np.flatnonzero(labels == label), IMAGE_EMBEDDINGS)
        tokens = flat(grids, which.tolist()).to(device)
        for part, some in zip(row.split(64), tokens.split(64), strict=True):
            part.copy_(network.embed_image(some, torch.ones_like(some, dtype=torch.bool))[0])
