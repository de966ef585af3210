"""Levels, forward samples and the posterior, against the arithmetic of Gaussians."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from training.diffusion import ReverseStep, Schedule, ScheduleConfig, vp_alpha_bar

SCHEDULES = {
    "vp": ScheduleConfig(steps=4).build(),
    "even": ScheduleConfig(steps=4, log_snr=(2.5, 0.0, -2.5, -6.0)).build(),
    "one": ScheduleConfig(steps=1).build(),
    "many": ScheduleConfig(steps=1000).build(),
}
LEVELS = [pytest.param(SCHEDULES[name], t, id=f"{name}-{t}") for name in SCHEDULES for t in (1, 2, 4, 1000)]
LEVELS = [level for level in LEVELS if level.values[1] <= level.values[0].steps]

N = 200_000
X_0 = 0.7


def batch(values: float | Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32).expand(N).reshape(N, 1, 1, 1)


def everywhere(t: int) -> Tensor:
    return torch.full((N,), t)


def test_vp_levels_of_four_steps() -> None:
    assert vp_alpha_bar(4) == pytest.approx([1, 0.524, 0.0791, 0.00344, 4.32e-5], rel=2e-3)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_vp_is_the_integral_of_beta(steps: int) -> None:
    integrals = [quad(lambda s: 0.1 + s * (20 - 0.1), 0, t / steps)[0] for t in range(steps + 1)]
    assert vp_alpha_bar(steps) == pytest.approx(np.exp(-np.array(integrals)), rel=1e-12)


def test_levels_by_their_log_snr() -> None:
    schedule = SCHEDULES["even"]
    torch.testing.assert_close(schedule.log_snr[1:], torch.tensor([2.5, 0.0, -2.5, -6.0]))
    torch.testing.assert_close(schedule.alpha_bar, torch.tensor([1, *(1 / (1 + np.exp([-2.5, 0, 2.5, 6])))]).float())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_levels_are_consistent(schedule: Schedule) -> None:
    assert schedule.alpha_bar[0] == 1 and len(schedule.alpha_bar) == schedule.steps + 1
    torch.testing.assert_close(schedule.signal**2 + schedule.noise**2, torch.ones(schedule.steps + 1))
    torch.testing.assert_close(schedule.log_snr[1:].sigmoid(), schedule.alpha_bar[1:])
    torch.testing.assert_close(schedule.alpha.cumprod(0), schedule.alpha_bar, rtol=1e-4, atol=0)
    assert not schedule.state_dict()  # it comes from the recipe, not from a checkpoint


@pytest.mark.parametrize(("schedule", "t"), LEVELS)
def test_q_sample_has_the_moments_of_equation_2(schedule: Schedule, t: int) -> None:
    alpha_bar = schedule.alpha_bar[t].item()
    x_t = schedule.q_sample(batch(X_0), everywhere(t), batch(torch.randn(N)))
    assert x_t.mean().item() == pytest.approx(alpha_bar**0.5 * X_0, abs=4 / N**0.5)
    assert x_t.var().item() == pytest.approx(1 - alpha_bar, rel=0.015)


@pytest.mark.parametrize(("schedule", "t"), LEVELS)
def test_q_step_has_the_moments_of_equation_1(schedule: Schedule, t: int) -> None:
    beta = 1 - (schedule.alpha_bar[t].double() / schedule.alpha_bar[t - 1].double()).item()
    x_t = schedule.q_step(batch(X_0), everywhere(t), batch(torch.randn(N)))
    assert x_t.mean().item() == pytest.approx((1 - beta) ** 0.5 * X_0, abs=4 / N**0.5)
    assert x_t.var().item() == pytest.approx(beta, rel=0.015)


@pytest.mark.parametrize(("schedule", "t"), LEVELS)
def test_a_step_on_is_as_good_as_a_sample(schedule: Schedule, t: int) -> None:
    """q(x_t | x_0) directly, and through x_{t-1}: in two moments, which tell Gaussians apart."""
    x_previous = schedule.q_sample(batch(X_0), everywhere(t - 1), batch(torch.randn(N)))
    through = schedule.q_step(x_previous, everywhere(t), batch(torch.randn(N)))
    direct = schedule.q_sample(batch(X_0), everywhere(t), batch(torch.randn(N)))
    assert through.mean().item() == pytest.approx(direct.mean().item(), abs=6 / N**0.5)
    assert through.var().item() == pytest.approx(direct.var().item(), rel=0.02)


@pytest.mark.parametrize(("schedule", "t"), LEVELS)
def test_posterior_is_the_joint_gaussian_conditioned(schedule: Schedule, t: int) -> None:
    """(x_{t-1}, x_t) given x_0 is a Gaussian of two variables; conditioning it on x_t needs none of the formulas."""
    alpha_bar = schedule.alpha_bar.double().numpy()
    alpha = alpha_bar[t] / alpha_bar[t - 1]
    variance = 1 - alpha_bar[t - 1]
    covariance = np.array([[variance, alpha**0.5 * variance], [alpha**0.5 * variance, alpha * variance + 1 - alpha]])

    def condition(x_0: float, x_t: float) -> tuple[float, float]:
        mean = alpha_bar[[t - 1, t]] ** 0.5 * x_0
        gain = covariance[0, 1] / covariance[1, 1]
        return mean[0] + gain * (x_t - mean[1]), (covariance[0, 0] - gain * covariance[0, 1]) ** 0.5

    cases = [(0.7, -1.3), (-1.0, 0.2), (0.0, 2.0)]
    x_0, x_t = (torch.tensor(column).reshape(3, 1, 1, 1) for column in zip(*cases, strict=True))
    at = torch.full((3,), t)
    mean = schedule.posterior_sample(x_0, x_t, at, torch.zeros(3, 1, 1, 1))
    deviation = schedule.posterior_sample(x_0, x_t, at, torch.ones(3, 1, 1, 1)) - mean
    wanted = np.array([condition(*case) for case in cases])
    np.testing.assert_allclose(mean.flatten(), wanted[:, 0], rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(deviation.flatten(), wanted[:, 1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_posterior_of_the_last_step_is_x_0_itself(schedule: Schedule) -> None:
    x_0, x_t, noise = torch.randn(3, 64, 1, 4, 4)
    assert torch.equal(schedule.posterior_sample(x_0, x_t, torch.ones(64, dtype=torch.long), noise), x_0)


class Amplifier(nn.Module):
    """Predicts 3 x_t + z, and remembers the level and the label that it was told."""

    def forward(self, x_t: Tensor, log_snr: Tensor, z: Tensor, label: Tensor) -> Tensor:
        self.log_snr, self.label = log_snr, label
        return 3 * x_t + z[:, :, None, None]


def test_reverse_step_clips_then_draws_from_the_posterior() -> None:
    schedule, network = SCHEDULES["even"], Amplifier()
    t = torch.tensor([1, 2, 3, 4])
    x_t, noise, z = torch.randn(4, 1, 5, 5), torch.randn(4, 1, 5, 5), torch.randn(4, 1)
    x_previous, x_0 = ReverseStep(network, schedule)(x_t, t, z, noise, label := torch.tensor([3, 1, 4, 1]))
    assert torch.equal(network.log_snr, schedule.log_snr[t]) and network.label is label
    assert torch.equal(x_0, (3 * x_t + z[:, :, None, None]).clamp(-1, 1)) and x_0.abs().max() == 1
    assert torch.equal(x_previous, schedule.posterior_sample(x_0, x_t, t, noise))
    assert torch.equal(x_previous[0], x_0[0])


@pytest.mark.parametrize(
    "alpha_bar", [[1.0], [0.9, 0.5], [1.0, 0.5, 0.5], [1.0, 0.4, 0.5], [1.0, 0.5, 0.0], [1.0, 0.5, -0.1]]
)
def test_levels_that_do_not_fall_from_one_are_refused(alpha_bar: list[float]) -> None:
    with pytest.raises(ValueError, match="alpha_bar must start at 1 and fall"):
        Schedule(alpha_bar)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ScheduleConfig(steps=4, log_snr=(1.0, 0.0, -1.0)), "4 steps need as many log_snr levels, not 3"),
        (ScheduleConfig(steps=2, log_snr=(-1.0, 1.0)), "alpha_bar must start at 1 and fall"),
        (ScheduleConfig(steps=0), "alpha_bar must start at 1 and fall"),
    ],
)
def test_recipes_with_levels_that_do_not_fit_are_refused(config: ScheduleConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.build()
