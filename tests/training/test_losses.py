"""The adversarial losses and the gradient penalty, against closed forms."""

import numpy as np
import pytest
import torch
from torch import Tensor

from training.losses import LOSSES, gradient_penalty

REAL, FAKE = torch.tensor([1.0, -2.0, 0.0, 30.0]), torch.tensor([0.5, 3.0, 0.0, -30.0])


def d(v: Tensor) -> np.ndarray:
    """The probability of being real."""
    return 1 / (1 + np.exp(-v.double().numpy()))


def test_non_saturating_is_equations_8_and_9() -> None:
    loss = LOSSES["non-saturating"]
    discriminator = (-np.log(d(REAL)) - np.log(1 - d(FAKE))).mean()
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, rel=1e-6)
    assert loss.generator(REAL, FAKE).item() == pytest.approx(-np.log(d(FAKE)).mean(), rel=1e-6)


def test_relativistic_asks_which_of_a_pair_is_real() -> None:
    loss = LOSSES["relativistic"]
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(-np.log(d(REAL - FAKE)).mean(), rel=1e-6)
    assert loss.generator(REAL, FAKE).item() == pytest.approx(-np.log(d(FAKE - REAL)).mean(), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_scores_stay_finite(name: str) -> None:
    high, low = torch.tensor([1e4]), torch.tensor([-1e4])
    for loss in (LOSSES[name].discriminator, LOSSES[name].generator):
        assert loss(high, low).isfinite() and loss(low, high).isfinite()


@pytest.mark.parametrize(("name", "flat"), [("non-saturating", np.log(4)), ("relativistic", np.log(2))])
def test_a_discriminator_that_sees_nothing(name: str, flat: float) -> None:
    assert LOSSES[name].discriminator(torch.zeros(5), torch.zeros(5)).item() == pytest.approx(flat)


def test_non_saturating_optimum_is_log_4_less_twice_the_divergence() -> None:
    """Goodfellow et al. 2014, theorem 1: over V = log p / q, with the Jensen-Shannon divergence of p and q."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.4, 0.5])
    middle = (p + q) / 2
    divergence = (p * np.log(p / middle) + q * np.log(q / middle)).sum() / 2
    best = torch.tensor(np.log(p / q))
    real, fake = (best.repeat_interleave(torch.tensor(10 * weights).round().long()) for weights in (p, q))
    loss = LOSSES["non-saturating"].discriminator
    optimum = loss(real, fake).item()
    assert optimum == pytest.approx(np.log(4) - 2 * divergence)
    for scale in (0.9, 1.1):
        assert loss(scale * real, scale * fake).item() > optimum


def test_relativistic_ignores_what_both_share() -> None:
    loss = LOSSES["relativistic"]
    shift = torch.tensor([5.0, -7.0, 0.25, 1.0])  # a discriminator's opinion of each x_t
    for part in (loss.discriminator, loss.generator):
        torch.testing.assert_close(part(REAL + shift, FAKE + shift), part(REAL, FAKE))


@pytest.mark.parametrize("name", LOSSES)
def test_the_two_pull_fake_scores_apart(name: str) -> None:
    fake = FAKE.clone().requires_grad_()
    (down,) = torch.autograd.grad(LOSSES[name].discriminator(REAL, fake), fake)
    (up,) = torch.autograd.grad(LOSSES[name].generator(REAL, fake), fake)
    assert (down >= 0).all() and (up <= 0).all() and (down - up > 0).all()


def test_penalty_of_a_linear_score_is_its_squared_slope() -> None:
    weight, x = torch.randn(2, 3, 3), torch.randn(5, 2, 3, 3)
    penalty = gradient_penalty(lambda x: (weight * x).sum((1, 2, 3)) + 4, x)
    torch.testing.assert_close(penalty, weight.square().sum())


def test_penalty_of_a_quadratic_score_and_its_derivative() -> None:
    """V = sum(a x^2) / 2 has the gradient a x, so the penalty is the mean of |a x|^2, of derivative 2 a x^2 in a."""
    a, x = torch.randn(2, 3, 3, requires_grad=True), torch.randn(5, 2, 3, 3)
    penalty = gradient_penalty(lambda x: (a * x.square()).sum((1, 2, 3)) / 2, x)
    torch.testing.assert_close(penalty, (a * x).square().sum((1, 2, 3)).mean())
    (derivative,) = torch.autograd.grad(penalty, a)
    torch.testing.assert_close(derivative, (2 * a * x.square()).mean(0))


def test_penalty_reaches_the_score_alone() -> None:
    """The derivative must not flow on into what made the candidates."""
    maker, a = torch.randn(5, 1, 2, 2, requires_grad=True), torch.ones((), requires_grad=True)
    gradient_penalty(lambda x: a * x.square().sum((1, 2, 3)), 2 * maker).backward()
    assert maker.grad is None and a.grad is not None
