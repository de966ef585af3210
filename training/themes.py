"""What the tokens of a picture have in common: learned before a prior is, along with it, and kept to draw with."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.data import Images
from training.marginals import flat
from training.nets.hourglass import THEMES, Hourglass
from training.noise import holes
from training.threads import every_core

ROUNDS = 1500
RATE, RATE_OF_BIAS = 2e-3, 1e-2  # of Adam
BATCH = 24  # pictures a round
PLACES = 64  # of the tokens of a region, a round
NOISE = 0.1  # in a theme, whose numbers lie in -1 .. 1: near ones are to mean nearly the same


def recognised(
    network: Hourglass, tokens: Tensor, known: Tensor, labels: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Themes (B, K), with noise, of those tokens (B, N) that are known (B, N); the loss in telling labels (B,)."""
    theme, said = network.recognise(tokens, known)
    noise = torch.randn(theme.shape, generator=rng, device=theme.device)
    return theme + NOISE * noise, F.cross_entropy(said, labels)


def start(network: Hourglass, grids: Images, labels: np.ndarray, kept: Tensor, rng: torch.Generator) -> None:
    """Learn themes, and what they say of tokens wherever these lie, beside what label and place say, on every core.

    A target is taken with the chance `kept` (R * R, V).
    """
    tokens = flat(grids).to(rng.device)
    classes = torch.from_numpy(labels).to(rng.device)
    places = network.by_region(torch.arange(tokens.shape[1], device=rng.device)[None])  # (R * R, n)
    learned = [*network.tint.parameters(), *network.recognition.parameters()]
    # A network that has learned before corrects its biases; themes are not to.
    bias = network.bias.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([{"params": learned}, {"params": [bias]}], betas=(0.9, 0.98))
    rates = RATE, RATE_OF_BIAS
    with every_core(), torch.enable_grad():
        for i in range(ROUNDS):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1, 2 * (1 - i / ROUNDS))
            rows = torch.randint(len(tokens), (BATCH,), generator=rng, device=rng.device)
            region = int(torch.randint(len(places), (), generator=rng, device=rng.device))
            some = places[region, torch.randperm(places.shape[1], generator=rng, device=rng.device)[:PLACES]]
            targets, label = tokens[rows][:, some], classes[rows]
            known = ~holes(BATCH, network.config.tokens, rng)
            theme, loss = recognised(network, tokens[rows], known, label, rng)
            hidden = torch.cat([theme[:, None].expand(-1, len(some), -1), network.place[label][:, some]], dim=2)
            keys = torch.cat([network.tint(network.codes[region]), network.context[region]], dim=1)
            taken = torch.rand(targets.shape, generator=rng, device=rng.device) < kept[region, targets]
            logits = hidden[taken] @ keys.T + (bias[region] + kept[region].log())
            loss = loss + F.cross_entropy(logits, targets[taken], reduction="sum") / taken.sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def keep(network: Hourglass, grids: Images, labels: np.ndarray) -> None:
    """Keep the themes of the first pictures of each class in `network.themes`; of too few, all, again and again."""
    device = network.themes.device
    for label, row in enumerate(network.themes):
        which = np.resize(np.flatnonzero(labels == label), THEMES)
        tokens = flat(grids[i] for i in which).to(device)
        for part, some in zip(row.split(64), tokens.split(64), strict=True):
            part.copy_(network.recognise(some, torch.ones_like(some, dtype=torch.bool))[0])
