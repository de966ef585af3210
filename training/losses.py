"""Adversarial losses in terms of the discriminator's raw output V, and the gradient penalty that keeps it smooth."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class AdversarialLoss:
    """Two losses to minimise, each of (V on real, V on fake), both (B,), of pairs that share their x_t."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]


LOSSES = {
    # Eq. 8 and 9, with D = sigmoid(V).
    "non-saturating": AdversarialLoss(
        discriminator=lambda real, fake: (F.softplus(-real) + F.softplus(fake)).mean(),
        generator=lambda real, fake: F.softplus(-fake).mean(),
    ),
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
