"""Levels, forward samples and the posterior, against the arithmetic of Gaussians."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from training.diffusion import ReverseStep, Schedule, ScheduleConfig, joined, noised, vp_alpha_bar

SCHEDULES = {
    "vp": ScheduleConfig(steps=4).build(),
    "even": ScheduleConfig(log_snr={4: (2.5, 0.0, -2.5, -6.0)}).build(),
    "one": ScheduleConfig(steps=1).build(),
    "many": ScheduleConfig(steps=1000).build(),
}
LEVELS = [pytest.param(SCHEDULES[name], t, id=f"{name}-{t}") for name in SCHEDULES for t in (1, 2, 4, 1000)]
LEVELS = [level for level in LEVELS if level.values[1] < len(level.values[0].alpha_bar)]
STEPS = [pytest.param(*level.values, s, id=f"{level.id}-{s}") for level in LEVELS for s in {level.values[1] - 1, 0}]

N = 200_000
X_0 = 0.7


def batch(values: float | Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32).expand(N).reshape(N, 1, 1, 1)


def everywhere(t: int) -> Tensor:
    return torch.full((N,), t)


def test_vp_levels_of_four_steps() -> None:
    assert SCHEDULES["vp"].alpha_bar.tolist() == pytest.approx([1, 0.524, 0.0791, 0.00344, 4.32e-5], rel=2e-3)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_vp_is_the_integral_of_beta(steps: int) -> None:
    integrals = [quad(lambda s: 0.1 + s * (20 - 0.1), 0, t / steps)[0] for t in range(steps + 1)]
    levels = [vp_alpha_bar(t / steps) for t in range(steps + 1)]
    assert levels == pytest.approx(np.exp(-np.array(integrals)), rel=1e-12)


def test_levels_by_their_log_snr() -> None:
    schedule = SCHEDULES["even"]
    torch.testing.assert_close(schedule.log_snr[1:], torch.tensor([2.5, 0.0, -2.5, -6.0]))
    torch.testing.assert_close(schedule.alpha_bar, torch.tensor([1, *(1 / (1 + np.exp([-2.5, 0, 2.5, 6])))]).double())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_levels_are_consistent(schedule: Schedule) -> None:
    assert schedule.alpha_bar[0] == 1
    torch.testing.assert_close(schedule.log_snr[1:].double().sigmoid(), schedule.alpha_bar[1:], rtol=1e-5, atol=0)
    assert schedule.paths == {len(schedule.alpha_bar) - 1: list(range(len(schedule.alpha_bar)))}
    assert not schedule.state_dict()  # it comes from the recipe, not from a checkpoint


@pytest.mark.parametrize(("schedule", "t"), LEVELS)
def test_q_sample_has_the_moments_of_equation_2(schedule: Schedule, t: int) -> None:
    alpha_bar = schedule.alpha_bar[t].item()
    x_t = schedule.q_sample(batch(X_0), everywhere(t), batch(torch.randn(N)))
    assert x_t.mean().item() == pytest.approx(alpha_bar**0.5 * X_0, abs=4 / N**0.5)
    assert x_t.var().item() == pytest.approx(1 - alpha_bar, rel=0.015)


@pytest.mark.parametrize(("schedule", "t", "s"), STEPS)
def test_q_step_has_the_moments_of_equation_1(schedule: Schedule, t: int, s: int) -> None:
    beta = 1 - (schedule.alpha_bar[t] / schedule.alpha_bar[s]).item()
    x_t = schedule.q_step(batch(X_0), everywhere(t), everywhere(s), batch(torch.randn(N)))
    assert x_t.mean().item() == pytest.approx((1 - beta) ** 0.5 * X_0, abs=4 / N**0.5)
    assert x_t.var().item() == pytest.approx(beta, rel=0.015)


@pytest.mark.parametrize(("schedule", "t", "s"), STEPS)
def test_a_step_on_is_as_good_as_a_sample(schedule: Schedule, t: int, s: int) -> None:
    """q(x_t | x_0) directly, and through x_s: in two moments, which tell Gaussians apart."""
    x_s = schedule.q_sample(batch(X_0), everywhere(s), batch(torch.randn(N)))
    through = schedule.q_step(x_s, everywhere(t), everywhere(s), batch(torch.randn(N)))
    direct = schedule.q_sample(batch(X_0), everywhere(t), batch(torch.randn(N)))
    assert through.mean().item() == pytest.approx(direct.mean().item(), abs=6 / N**0.5)
    assert through.var().item() == pytest.approx(direct.var().item(), rel=0.02)


@pytest.mark.parametrize(("schedule", "t", "s"), STEPS)
def test_posterior_is_the_joint_gaussian_conditioned(schedule: Schedule, t: int, s: int) -> None:
    """(x_s, x_t) given x_0 is a Gaussian of two variables; conditioning it on x_t needs none of the formulas."""
    alpha_bar = schedule.alpha_bar.numpy()
    alpha = alpha_bar[t] / alpha_bar[s]
    variance = 1 - alpha_bar[s]
    covariance = np.array([[variance, alpha**0.5 * variance], [alpha**0.5 * variance, alpha * variance + 1 - alpha]])

    def condition(x_0: float, x_t: float) -> tuple[float, float]:
        mean = alpha_bar[[s, t]] ** 0.5 * x_0
        gain = covariance[0, 1] / covariance[1, 1]
        return mean[0] + gain * (x_t - mean[1]), max(0, covariance[0, 0] - gain * covariance[0, 1]) ** 0.5

    cases = [(0.7, -1.3), (-1.0, 0.2), (0.0, 2.0)]
    x_0, x_t = (torch.tensor(column).reshape(3, 1, 1, 1) for column in zip(*cases, strict=True))
    at = torch.full((3,), t), torch.full((3,), s)
    mean = schedule.posterior_sample(x_0, x_t, *at, torch.zeros(3, 1, 1, 1))
    deviation = schedule.posterior_sample(x_0, x_t, *at, torch.ones(3, 1, 1, 1)) - mean
    wanted = np.array([condition(*case) for case in cases])
    np.testing.assert_allclose(mean.flatten(), wanted[:, 0], rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(deviation.flatten(), wanted[:, 1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_posterior_of_a_step_to_the_image_is_x_0_itself(schedule: Schedule) -> None:
    x_0, x_t, noise = torch.randn(3, 64, 1, 4, 4)
    for t in (1, len(schedule.alpha_bar) - 1):
        at, clean = torch.full((64,), t), torch.zeros(64, dtype=torch.long)
        assert torch.equal(schedule.posterior_sample(x_0, x_t, at, clean, noise), x_0)


def test_several_numbers_of_steps_go_through_levels_of_their_own() -> None:
    """In VP as one schedule of each number alone would; elsewhere as they are told."""
    counts = (4, 1, 3)
    schedule = ScheduleConfig(steps=counts).build()
    assert tuple(schedule.paths) == counts and len(schedule.alpha_bar) == 7  # 0, 1/4, 1/3, 1/2, 2/3, 3/4, 1
    for steps, path in schedule.paths.items():
        torch.testing.assert_close(schedule.alpha_bar[path], ScheduleConfig(steps=steps).build().alpha_bar)
    told = {4: (2.5, 0.0, -2.5, -6.0), 1: (-6.0,), 3: (2.5, -1.0, -6.0)}
    schedule = ScheduleConfig(log_snr=told).build()
    assert schedule.paths == {4: [0, 1, 2, 4, 5], 1: [0, 5], 3: [0, 1, 3, 5]}
    for steps, path in schedule.paths.items():
        assert schedule.log_snr[path][1:].tolist() == pytest.approx(told[steps], abs=1e-6)


class Amplifier(nn.Module):
    """Predicts 3 x_t + z, and remembers the levels and the label that it was told."""

    def forward(self, x_t: Tensor, log_snr: Tensor, target: Tensor, z: Tensor, label: Tensor) -> Tensor:
        self.log_snr, self.target, self.label = log_snr, target, label
        return 3 * x_t + z[:, :, None, None]


def test_reverse_step_clips_then_draws_from_the_posterior() -> None:
    schedule, network = SCHEDULES["even"], Amplifier()
    t, s = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 1, 0, 2])
    x_t, noise, z = torch.randn(4, 1, 5, 5), torch.randn(4, 1, 5, 5), torch.randn(4, 1)
    x_s, x_0 = ReverseStep(network, schedule)(x_t, t, s, noise, z, label := torch.tensor([3, 1, 4, 1]))
    assert torch.equal(network.log_snr, schedule.log_snr[t]) and network.label is label
    assert torch.equal(network.target, schedule.log_snr[s])
    assert torch.equal(x_0, (3 * x_t + z[:, :, None, None]).clamp(-1, 1)) and x_0.abs().max() == 1
    assert torch.equal(x_s, schedule.posterior_sample(x_0, x_t, t, s, noise))
    assert torch.equal(x_s[0], x_0[0]) and torch.equal(x_s[2], x_0[2])


@pytest.mark.parametrize(
    "alpha_bar", [[1.0], [0.9, 0.5], [1.0, 0.5, 0.5], [1.0, 0.4, 0.5], [1.0, 0.5, 0.0], [1.0, 0.5, -0.1]]
)
def test_levels_that_do_not_fall_from_one_are_refused(alpha_bar: list[float]) -> None:
    with pytest.raises(ValueError, match="alpha_bar must start at 1 and fall"):
        Schedule(alpha_bar)


@pytest.mark.parametrize("log_snr", [{4: (1.0, 0.0, -1.0)}, {2: (-1.0, 1.0)}, {1: (0.0,), 2: (1.0, 1.0)}])
def test_recipes_with_levels_that_do_not_fit_are_refused(log_snr: dict[int, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=f"{max(log_snr)} steps need as many levels, of a log-SNR that falls"):
        ScheduleConfig(log_snr=log_snr).build()


def test_two_pictures_tell_together_what_one_of_less_noise_does() -> None:
    """Precisions add up, and what is left is white noise, which the difference of the two says nothing of."""
    rng = torch.Generator().manual_seed(0)
    x_0 = torch.rand(2000, 1, 8, 8, generator=rng) * 2 - 1
    here, there = torch.linspace(-4, 4, 2000), torch.linspace(3, -5, 2000)
    x, other = (noised(x_0, log_snr, rng) for log_snr in (here, there))
    y, both = joined(x, here, other, there)
    torch.testing.assert_close(both.exp(), here.exp() + there.exp())
    signal = both.sigmoid()[:, None, None, None]
    noise = (y - signal.sqrt() * x_0) / (1 - signal).sqrt()
    assert noise.std().item() == pytest.approx(1, abs=0.01) and abs(noise.mean().item()) < 0.01
    apart = [each / level.sigmoid().sqrt()[:, None, None, None] for each, level in ((x, here), (other, there))]
    difference = (apart[0] - apart[1]) / (apart[0] - apart[1]).std((1, 2, 3), keepdim=True)
    assert abs((noise * difference).mean().item()) < 0.01
    alone, level = joined(x, here, torch.zeros_like(x), torch.full_like(there, -torch.inf))
    torch.testing.assert_close(alone, x)
    torch.testing.assert_close(level, here)
