"""The diffusion process of the paper, eq. 1-2: levels, forward samples and the posterior."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.recipe import config


def at(table: Tensor, t: Tensor) -> Tensor:
    """Entries t (B,) of a table over t = 0..T, shaped to multiply images: (B, 1, 1, 1)."""
    return table[t][:, None, None, None]


class Schedule(nn.Module):
    """T noise levels by their alpha_bar; tables over t = 0..T of what q(x_t | x_0) and q(x_{t-1} | x_t, x_0) need."""

    alpha_bar: Tensor
    log_snr: Tensor
    signal: Tensor
    noise: Tensor
    alpha: Tensor
    c_0: Tensor
    c_t: Tensor
    sigma: Tensor

    def __init__(self, alpha_bar: Sequence[float]) -> None:
        """Take alpha_bar for t = 0..T, falling from exactly 1.

        Raises:
            ValueError: the levels do not start at 1 and fall.
        """
        super().__init__()
        levels = torch.tensor(alpha_bar, dtype=torch.float64)
        if len(levels) < 2 or levels[0] != 1 or (levels.diff() >= 0).any() or levels[-1] <= 0:
            raise ValueError(f"alpha_bar must start at 1 and fall within (0, 1]: {list(alpha_bar)}")
        self.steps = len(levels) - 1
        previous = torch.cat([levels[:1], levels[:-1]])  # alpha_bar_{t-1}; unused at t = 0
        alpha = levels / previous
        noise, noise_previous = 1 - levels, 1 - previous
        table = {
            "alpha_bar": levels,
            "log_snr": torch.logit(levels.clamp(max=1 - 1e-6)),
            "signal": levels.sqrt(),
            "noise": noise.sqrt(),
            "alpha": alpha,
            # q(x_{t-1} | x_t, x_0) = N(c_0 x_0 + c_t x_t, sigma^2 I); at t = 1 it is x_0 itself.
            "c_0": previous.sqrt() * (1 - alpha) / noise.clamp(min=1e-12),
            "c_t": alpha.sqrt() * noise_previous / noise.clamp(min=1e-12),
            "sigma": (noise_previous / noise.clamp(min=1e-12) * (1 - alpha)).sqrt(),
        }
        for name, values in table.items():
            self.register_buffer(name, values.float(), persistent=False)

    def q_sample(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t ~ q(x_t | x_0) (eq. 2)."""
        return at(self.signal, t) * x_0 + at(self.noise, t) * noise

    def q_step(self, x_previous: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t ~ q(x_t | x_{t-1}) (eq. 1)."""
        alpha = at(self.alpha, t)
        return alpha.sqrt() * x_previous + (1 - alpha).sqrt() * noise

    def posterior_sample(self, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_{t-1} ~ q(x_{t-1} | x_t, x_0)."""
        return at(self.c_0, t) * x_0 + at(self.c_t, t) * x_t + at(self.sigma, t) * noise


class ReverseStep(nn.Module):
    """One whole reverse step (eq. 10): predict x_0, then draw x_{t-1} from the posterior. This is what gets exported.

    x_0 is clipped to [-1, 1]. Most of a garment's background is exactly -1, which no plain output layer would reach,
    and a discriminator would see that before anything else.
    """

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(
        self, x_t: Tensor, t: Tensor, z: Tensor | None, noise: Tensor, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Step x_t (B, C, H, W) at t (B,) in 1..T with latent z (B, L) to x_{t-1} and x_0, both (B, C, H, W).

        `label` (B,) is for a network that can be told a class.
        """
        x_0 = self.network(x_t, self.schedule.log_snr[t], z, label).clamp(-1, 1)
        return self.schedule.posterior_sample(x_0, x_t, t, noise), x_0


@config
class ScheduleConfig:
    """How many levels, and where: the paper's VP schedule, or levels that a recipe lists by their log-SNR."""

    steps: int = 4
    log_snr: tuple[float, ...] = ()  # for t = 1..T, falling; empty: VP
    beta_min: float = 0.1
    beta_max: float = 20.0

    def build(self) -> Schedule:
        """Build the schedule.

        Raises:
            ValueError: the number of log-SNR levels is not `steps`.
        """
        if not self.log_snr:
            return Schedule(vp_alpha_bar(self.steps, self.beta_min, self.beta_max))
        if len(self.log_snr) != self.steps:
            raise ValueError(f"{self.steps} steps need as many log_snr levels, not {len(self.log_snr)}")
        return Schedule([1.0, *torch.tensor(self.log_snr, dtype=torch.float64).sigmoid().tolist()])


def vp_alpha_bar(steps: int, beta_min: float = 0.1, beta_max: float = 20.0) -> list[float]:
    """alpha_bar at t = 0..T of the variance-preserving SDE, as Denoising Diffusion GANs samples it (appendix A)."""
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return torch.exp(-0.5 * time**2 * (beta_max - beta_min) - time * beta_min).tolist()
