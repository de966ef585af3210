"""The table of f-divergences, against the definitions: numerically, and in closed form where there is one."""

import math

import pytest
import torch
from torch import Tensor

from training.divergences import DIVERGENCES, Divergence
from training.losses import LOSSES, Loss

rows = pytest.mark.parametrize("name", DIVERGENCES)
U = torch.logspace(-6, 6, 20001, dtype=torch.float64)
V = torch.linspace(-4, 4, 161, dtype=torch.float64)


def slope(f, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def reached(row: Divergence) -> Tensor:
    """Values of T that the activation gives, where the supremum over u lies well within U."""
    t = row.activation(V)
    return t[(t > row.activation(torch.tensor(-3.5))) & (t < row.activation(torch.tensor(3.5)))]


@rows
def test_f_is_zero_at_one_and_convex(name: str) -> None:
    f = DIVERGENCES[name].f
    assert f(torch.ones((), dtype=torch.float64)).item() == pytest.approx(0, abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    a, b = U[torch.randint(len(U), (2, 5000), generator=generator)]
    weight = torch.rand(5000, generator=generator, dtype=torch.float64)
    between, chord = f(weight * a + (1 - weight) * b), weight * f(a) + (1 - weight) * f(b)
    assert (between <= chord + 1e-9 * (1 + chord.abs())).all()


@rows
def test_the_conjugate_is_the_supremum(name: str) -> None:
    """Eq. 12, on a grid."""
    row = DIVERGENCES[name]
    t = reached(row)
    numerical = (t[:, None] * U - row.f(U)).amax(1)
    torch.testing.assert_close(row.conjugate(t), numerical, rtol=1e-5, atol=1e-5)


@rows
def test_the_conjugate_of_the_conjugate_is_f(name: str) -> None:
    """Eq. 13; the grid of T is what the activation gives, and so is all of the domain that is needed."""
    row = DIVERGENCES[name]
    t = row.activation(torch.linspace(-12, 12, 40001, dtype=torch.float64))
    if name == "total-variation":
        t = torch.linspace(-0.5, 0.5, 40001, dtype=torch.float64)
    u = torch.logspace(-2, 2, 101, dtype=torch.float64)
    numerical = (t * u[:, None] - row.conjugate(t)).amax(1)
    torch.testing.assert_close(row.f(u), numerical, rtol=1e-5, atol=1e-5)


@rows
def test_the_activation_rises_within_the_domain(name: str) -> None:
    row = DIVERGENCES[name]
    v = torch.linspace(-row.limit, row.limit, 1001) if math.isfinite(row.limit) else torch.linspace(-80, 80, 1001)
    t = row.activation(v)
    assert (t <= row.supremum).all() and (t.diff() >= 0).all() and slope(row.activation, V).min() > 0
    assert row.conjugate(row.activation(V)).isfinite().all()


@rows
def test_the_domain_ends_where_it_is_said_to(name: str) -> None:
    """Beyond, the supremum grows with u for ever; just below, it does not."""
    row = DIVERGENCES[name]
    if math.isfinite(row.supremum):
        outside, inside = row.supremum + 0.01, row.supremum - 0.01
        wide = torch.logspace(0, 9, 1001, dtype=torch.float64)
        assert (outside * wide - row.f(wide)).argmax() == len(wide) - 1
        assert (inside * wide - row.f(wide)).argmax() < len(wide) - 1


@rows
def test_the_composition_is_one(name: str) -> None:
    row = DIVERGENCES[name]
    torch.testing.assert_close(row.composed(V), row.conjugate(row.activation(V)), rtol=1e-9, atol=1e-9)


def gaussian(x: Tensor, mean: float, deviation: float) -> Tensor:
    return torch.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))


X = torch.linspace(-12, 12, 200001, dtype=torch.float64)
Q, P = gaussian(X, 0.4, 0.8), gaussian(X, 0.0, 1.0)
# The divergences of these two Gaussians, from their means and deviations.
KNOWN = {
    "hellinger": 2 - 2 * math.sqrt(2 * 0.8 / (0.8**2 + 1)) * math.exp(-0.25 * 0.4**2 / (0.8**2 + 1)),
    "reverse-kl": math.log(0.8) + (1 + 0.4**2) / (2 * 0.8**2) - 0.5,
    "forward-kl": -math.log(0.8) + (0.8**2 + 0.4**2) / 2 - 0.5,
    "pearson": math.exp(0.4**2 / (2 - 0.8**2)) / (0.8 * math.sqrt(2 - 0.8**2)) - 1,
}


def integral(y: Tensor) -> float:
    return torch.trapezoid(y, X).item()


@rows
def test_the_optimal_critic_attains_the_divergence(name: str) -> None:
    """Eq. 17, for two Gaussians; any other critic stays below (eq. 16)."""
    row = DIVERGENCES[name]
    divergence = integral(P * row.f(Q / P))
    best = slope(row.f, Q / P)
    bound = integral(Q * best - P * row.conjugate(best))
    assert bound == pytest.approx(divergence, rel=1e-6)
    if name in KNOWN:
        assert divergence == pytest.approx(KNOWN[name], rel=1e-6)
    for other in (0.9 * best - 0.01, best - 0.05):
        assert integral(Q * other - P * row.conjugate(other)) < bound


def test_total_variation_is_the_largest_difference_of_a_probability() -> None:
    """Eq. 25: of the set where Q is the denser; and Jensen and Shannon's divergence, counted twice."""
    row = DIVERGENCES["total-variation"]
    assert integral(P * row.f(Q / P)) == pytest.approx(integral((Q - P).clamp(min=0)), rel=1e-9)
    middle = (P + Q) / 2
    twice = integral(P * (P / middle).log() + Q * (Q / middle).log())
    assert integral(P * DIVERGENCES["jensen-shannon"].f(Q / P)) == pytest.approx(twice, rel=1e-9)


@rows
def test_the_best_score_is_the_logarithm_of_the_ratio(name: str) -> None:
    row = DIVERGENCES[name]
    if name != "total-variation":
        half = 0.5 if name == "hellinger" else 1.0
        torch.testing.assert_close(row.activation(half * V), slope(row.f, V.exp()), rtol=1e-9, atol=1e-9)


def test_the_equations_of_the_paper() -> None:
    """21, 24 and 27, whose V has the other sign for two of them."""
    real, fake = torch.rand(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    r, f = -real, -fake
    equations: dict[Loss, Tensor] = {
        "hellinger": (1 - r.exp()).mean() - (-f).exp().mean() + 1,  # f* has the constant that (21) leaves away
        "reverse-kl": (-r.exp()).mean() + (1 + f).mean(),
        "total-variation": (real.tanh() / 2).mean() - (fake.tanh() / 2).mean(),
    }
    for name, value in equations.items():
        assert -LOSSES[name].discriminator(real, fake).item() == pytest.approx(value.item())


@pytest.mark.parametrize("name", [name for name, row in DIVERGENCES.items() if math.isfinite(row.limit)])
def test_beyond_the_limit_the_gradient_goes_on(name: str) -> None:
    row = DIVERGENCES[name]
    far = torch.tensor([-1e6, -2 * row.limit, 2 * row.limit, 1e6])
    at = torch.tensor([-row.limit, -row.limit, row.limit, row.limit])
    for part in (row.activation, row.composed):
        torch.testing.assert_close(part(row.bounded(far)), part(at))
        torch.testing.assert_close(slope(lambda v, part=part: part(row.bounded(v)), far), slope(part, at))
    within = torch.linspace(-row.limit, row.limit, 11)
    torch.testing.assert_close(row.bounded(within), within)
    assert slope(row.activation, at).min() > 1e-3
