"""The f-divergences between data Q and generator P, and what a critic needs to estimate them (eq. 11-27).

    D_f(Q || P) = E_p f(q/p) = sup_T E_q[T] - E_p[f*(T)],    attained at T* = f'(q/p)    (eq. 11, 16, 17)

The critic's network gives any real number V, and T = g_f(V) lies where f* is finite. Every g_f here rises, so that V is
large where data is likelier. For Hellinger and reverse KL the paper writes exp(V) where exp(-V) stands here: its V has
the other sign, after which equations 21 and 24 are these. But for Hellinger, where V* is half of it, and total
variation, whose T* jumps, the best V is the logarithm of q/p.

f and f* take float64 as well and are what tests hold against the definitions; training needs g_f and f*(g_f(V)) alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Function = Callable[[Tensor], Tensor]  # elementwise


@dataclass(frozen=True)
class Divergence:
    """One row of the table.

    `limit` is how far out V counts: beyond it, losses see V = +-limit, but its gradient as it is there. It keeps exp
    from overflowing, and the gradient of tanh, which would stop both networks wherever the critic is sure, from
    vanishing.
    """

    f: Function  # of u = q/p > 0; convex, f(1) = 0
    conjugate: Function  # f*(t) = sup_u (u t - f(u)) (eq. 12)
    activation: Function  # g_f: V to T
    composed: Function  # f*(g_f(V)), in a form that neither overflows nor cancels
    supremum: float  # of the domain of f*: all t below it
    limit: float = math.inf

    def bounded(self, v: Tensor) -> Tensor:
        """V within +-limit, with the gradient of V itself."""
        return v + (v.clamp(-self.limit, self.limit) - v).detach()


DIVERGENCES = {
    # Twice the divergence of Jensen and Shannon: with D = sigmoid(V), eq. 16 is eq. 8 but for its sign and log 4.
    "jensen-shannon": Divergence(
        f=lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
        conjugate=lambda t: -torch.log(2 - t.exp()),
        activation=lambda v: math.log(2) - F.softplus(-v),
        composed=lambda v: F.softplus(v) - math.log(2),
        supremum=math.log(2),
    ),
    # Eq. 20, whose f is twice the squared distance of eq. 19.
    "hellinger": Divergence(
        f=lambda u: (u.sqrt() - 1).square(),
        conjugate=lambda t: t / (1 - t),
        activation=lambda v: -torch.expm1(-v),
        composed=torch.expm1,
        supremum=1.0,
        limit=5.0,
    ),
    # Eq. 23: KL(P || Q).
    "reverse-kl": Divergence(
        f=lambda u: -u.log(),
        conjugate=lambda t: -1 - torch.log(-t),
        activation=lambda v: -torch.exp(-v),
        composed=lambda v: v - 1,
        supremum=0.0,
        limit=5.0,
    ),
    # Eq. 26; f* is t on the range of g_f, and constant below. At the limit, tanh still has 7 % of its slope.
    "total-variation": Divergence(
        f=lambda u: (u - 1).abs() / 2,
        conjugate=lambda t: t.clamp(min=-0.5),
        activation=lambda v: v.tanh() / 2,
        composed=lambda v: v.tanh() / 2,
        supremum=0.5,
        limit=2.0,
    ),
    # Beyond the paper: KL(Q || P).
    "forward-kl": Divergence(
        f=lambda u: u * u.log(),
        conjugate=lambda t: torch.exp(t - 1),
        activation=lambda v: v + 1,
        composed=torch.exp,
        supremum=math.inf,
        limit=5.0,
    ),
    # Beyond the paper. Below -2, which g_f never reaches, f* is constant.
    "pearson": Divergence(
        f=lambda u: (u - 1).square(),
        conjugate=lambda t: (t.clamp(min=-2) / 2 + 1).square() - 1,
        activation=lambda v: 2 * torch.expm1(v),
        composed=lambda v: torch.expm1(2 * v),
        supremum=math.inf,
        limit=1.5,
    ),
}
