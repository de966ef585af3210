"""The diffusion process of the paper, eq. 1-2: levels of noise, forward samples and the posterior."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from training.recipe import config


class Schedule(nn.Module):
    """Levels of noise by their alpha_bar, and through which of them a number of steps goes.

    `paths` has T + 1 levels, rising from 0, for each T. Functions take levels (B,) and images (B, C, H, W); `s` is the
    level, below `t`, that a step leads to.
    """

    alpha_bar: Tensor  # (L + 1,) f64: near levels differ by little
    log_snr: Tensor  # (L + 1,)

    def __init__(self, alpha_bar: Sequence[float], paths: Mapping[int, Sequence[int]] | None = None) -> None:
        """Take alpha_bar of levels 0..L, falling from exactly 1; without `paths`, L steps go through all.

        Raises:
            ValueError: the levels do not start at 1 and fall.
        """
        super().__init__()
        levels = torch.tensor(alpha_bar, dtype=torch.float64)
        if len(levels) < 2 or levels[0] != 1 or (levels.diff() >= 0).any() or levels[-1] <= 0:
            raise ValueError(f"alpha_bar must start at 1 and fall within (0, 1]: {list(alpha_bar)}")
        self.paths = {len(levels) - 1: tuple(range(len(levels)))} if paths is None else paths
        self.register_buffer("alpha_bar", levels, persistent=False)
        self.register_buffer("log_snr", torch.logit(levels.clamp(max=1 - 1e-6)).float(), persistent=False)

    def _at(self, level: Tensor) -> Tensor:
        return self.alpha_bar[level][:, None, None, None]

    def q_sample(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t ~ q(x_t | x_0) (eq. 2)."""
        signal = self._at(t)
        return signal.sqrt().float() * x_0 + (1 - signal).sqrt().float() * noise

    def q_step(self, x_s: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t ~ q(x_t | x_s) (eq. 1)."""
        alpha = self._at(t) / self._at(s)
        return alpha.sqrt().float() * x_s + (1 - alpha).sqrt().float() * noise

    def posterior(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_0, c_t and sigma (B, 1, 1, 1) of q(x_s | x_t, x_0) = N(c_0 x_0 + c_t x_t, sigma^2 I)."""
        here, there = self._at(t), self._at(s)
        alpha, left = here / there, (1 - there) / (1 - here)
        scales = there.sqrt() * (1 - alpha) / (1 - here), alpha.sqrt() * left, ((1 - alpha) * left).sqrt()
        c_0, c_t, sigma = (scale.float() for scale in scales)
        return c_0, c_t, sigma

    def posterior_sample(self, x_0: Tensor, x_t: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """Draw x_s ~ q(x_s | x_t, x_0)."""
        c_0, c_t, sigma = self.posterior(t, s)
        return c_0 * x_0 + c_t * x_t + sigma * noise


def noised(x_0: Tensor, log_snr: Tensor, rng: torch.Generator) -> Tensor:
    """Draw x_t ~ q(x_t | x_0) (eq. 2) of pictures (B, C, H, W), at log-SNRs (B,)."""
    alpha_bar = log_snr.sigmoid()[:, None, None, None]
    noise = torch.randn(x_0.shape, generator=rng, device=x_0.device)
    return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise


def joined(x: Tensor, log_snr: Tensor, other: Tensor, log_snr_of_other: Tensor) -> tuple[Tensor, Tensor]:
    """What two pictures (B, C, H, W) of the same x_0 tell of it together: one of less noise, and its log-SNR (B,).

    Their noises, at log-SNRs (B,), are independent; at -inf, a picture tells nothing. Of Gaussian noise the mean,
    weighted by precision, is a sufficient statistic.
    """
    both = torch.logaddexp(log_snr, log_snr_of_other)

    def weight(each: Tensor) -> Tensor:
        """Precision over the signal's size."""
        return ((each / 2).exp() * (1 + each.exp()).sqrt())[:, None, None, None]

    return (weight(log_snr) * x + weight(log_snr_of_other) * other) / weight(both), both


class ReverseStep(nn.Module):
    """One whole reverse step (eq. 10): predict x_0, then draw x_s from the posterior. This is what gets exported.

    x_0 is clipped to [-1, 1]. Most of a garment's background is exactly -1, which no plain output layer would reach,
    and a discriminator would see that before anything else.
    """

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(
        self, x_t: Tensor, t: Tensor, s: Tensor, noise: Tensor, z: Tensor | None = None, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Step x_t (B, C, H, W) from level t (B,) with latent z (B, L) to x_s and x_0, both (B, C, H, W).

        `label` (B,) is for a network that can be told a class.
        """
        log_snr = self.schedule.log_snr
        x_0 = self.network(x_t, log_snr[t], log_snr[s], z, label).clamp(-1, 1)
        return self.schedule.posterior_sample(x_0, x_t, t, s, noise), x_0


@config
class ScheduleConfig:
    """Numbers of steps, and the levels of each: those of the paper's VP schedule at times 1/T, 2/T .. 1, or told."""

    steps: PositiveInt | tuple[PositiveInt, ...] = 4
    log_snr: dict[PositiveInt, tuple[float, ...]] = field(default_factory=dict)
    # by number of steps T, of the levels 1..T, falling: instead of VP's, and of `steps`
    beta_min: float = 0.1
    beta_max: float = 20.0

    def build(self) -> Schedule:
        """Build the schedule.

        Raises:
            ValueError: T steps are told another number of levels than T, or log-SNRs that do not fall.
        """
        if self.log_snr:
            ways = {T: [1 / (1 + math.exp(-told)) for told in way] for T, way in self.log_snr.items()}
        else:
            counts = (self.steps,) if isinstance(self.steps, int) else self.steps
            ways = {T: [vp_alpha_bar(t / T, self.beta_min, self.beta_max) for t in range(1, T + 1)] for T in counts}
        for steps, way in ways.items():
            if len(way) != steps or way != sorted(set(way), reverse=True):
                raise ValueError(f"{steps} steps need as many levels, of a log-SNR that falls")
        levels = [1.0, *sorted({alpha_bar for way in ways.values() for alpha_bar in way}, reverse=True)]
        return Schedule(levels, {T: [0, *(levels.index(alpha_bar) for alpha_bar in way)] for T, way in ways.items()})


def vp_alpha_bar(time: float, beta_min: float = 0.1, beta_max: float = 20.0) -> float:
    """alpha_bar of the variance-preserving SDE at a time in 0..1 (Denoising Diffusion GANs, appendix A)."""
    return math.exp(-0.5 * time**2 * (beta_max - beta_min) - time * beta_min)
