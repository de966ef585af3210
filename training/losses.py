"""Adversarial losses in terms of the discriminator's raw output V, and the gradient penalty that keeps it smooth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from training.divergences import DIVERGENCES

Loss = Literal["non-saturating", "hellinger", "reverse-kl", "total-variation", "forward-kl", "pearson", "relativistic"]


@dataclass(frozen=True)
class AdversarialLoss:
    """Two losses to minimise, each of (V on real, V on fake), both (B,), of pairs that share their x_t."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]


def minimax(name: str) -> AdversarialLoss:
    """The two players of eq. 18, F = E_q[g_f(V)] - E_p[f*(g_f(V))]: one raises it, the other lowers it."""
    row = DIVERGENCES[name]

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return row.composed(row.bounded(fake)).mean() - row.activation(row.bounded(real)).mean()

    return AdversarialLoss(discriminator, lambda real, fake: -row.composed(row.bounded(fake)).mean())


LOSSES: dict[Loss, AdversarialLoss] = {
    # Eq. 8 and 9, with D = sigmoid(V). The discriminator's is eq. 18 for Jensen-Shannon, but for log 4; the generator
    # raises E_p[g_f(V)], whose gradient does not vanish where the discriminator is sure.
    "non-saturating": AdversarialLoss(
        discriminator=lambda real, fake: (F.softplus(-real) + F.softplus(fake)).mean(),
        generator=lambda real, fake: F.softplus(-fake).mean(),
    ),
    "hellinger": minimax("hellinger"),  # eq. 21
    "reverse-kl": minimax("reverse-kl"),  # eq. 24
    "total-variation": minimax("total-variation"),  # eq. 27
    "forward-kl": minimax("forward-kl"),
    "pearson": minimax("pearson"),
    # Not an f-divergence: which of the two of a pair is real (Jolicoeur-Martineau 2018; Huang et al. 2024, eq. 2).
    # What V says of x_t itself cancels, so that only the step from it is judged.
    "relativistic": AdversarialLoss(
        discriminator=lambda real, fake: F.softplus(fake - real).mean(),
        generator=lambda real, fake: F.softplus(real - fake).mean(),
    ),
}


def gradient_penalty(score: Callable[[Tensor], Tensor], candidate: Tensor) -> Tensor:
    """Mean squared norm of the score's gradient at the candidates (B, C, H, W): R1 on real, R2 on fake ones.

    Mescheder et al. 2018, eq. 9, without its factor gamma / 2.
    """
    candidate = candidate.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(candidate).sum(), candidate, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
