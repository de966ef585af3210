"""The reverse process of a denoising diffusion GAN (Xiao et al. 2022, section 3), and of a DDPM."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from genfast.samplers.noise import Purpose, normal
from genfast.types import Floats, Pixels

GUIDED = -1.0, 3.0  # log-SNRs that guidance is between


class Step(Protocol):
    """One reverse step for a batch of B images.

    x_t [B, C, H, W] f32; t [B] i64, T .. 1; z [B, L] f32, None for a DDPM; noise [B, C, H, W] f32
    -> x_{t-1} and the x_0 that was predicted, both [B, C, H, W] f32. At t = 1 the two are equal.

    What it gives may stay on a device, and need not outlive the call after the next: np.asarray brings it here.
    """

    def __call__(
        self, x_t: npt.ArrayLike, t: npt.NDArray[np.int64], z: Floats | None, noise: Floats, /
    ) -> tuple[npt.ArrayLike, npt.ArrayLike]: ...


def sample(
    step: Step,
    *,
    steps: int,
    latent: int | None,
    shape: tuple[int, int, int],
    seed: int,
    indices: Sequence[int],
    callback: Callable[[Pixels], None] | None = None,
) -> Pixels:
    """Draw x_T ~ N(0, I), then x_{t-1} ~ p(x_{t-1} | x_t) for t = T .. 1 (Xiao et al. 2022, equation 4).

    `steps` is T, `latent` the length of z, `shape` (C, H, W), `indices` the images of `seed` to draw.
    Returns uint8 [B, H, W, C]. `callback` is given x_T and the x_0 that each step predicts, as pixels likewise.
    """
    # Addressed as step 0, so that networks of different T start from the same x_T and can be compared by image.
    x = normal(seed, indices, 0, Purpose.PRIOR, shape)  # [B, C, H, W]
    if callback:
        callback(to_pixels(x))
    return denoise(step, x, steps=steps, latent=latent, seed=seed, indices=indices, callback=callback)


def denoise(
    step: Step,
    x: Floats,
    *,
    steps: int,
    latent: int | None,
    seed: int,
    indices: Sequence[int],
    callback: Callable[[Pixels], None] | None = None,
) -> Pixels:
    """Run the last `steps` steps of the reverse process from x = x_steps [B, C, H, W]; otherwise as `sample`."""
    x_t: npt.ArrayLike = x
    for t in range(steps, 0, -1):
        z = None if latent is None else normal(seed, indices, t, Purpose.LATENT, (latent,))  # [B, L]
        # q(x_0 | x_1, x_0) has no variance.
        noise = normal(seed, indices, t, Purpose.POSTERIOR, x.shape[1:]) if t > 1 else np.zeros_like(x)
        x_t, x_0 = step(x_t, np.full(len(x), t, np.int64), z, noise)
        if callback:
            callback(to_pixels(x_0))
    return to_pixels(x_t)


def is_guided(alpha_bar: float) -> bool:
    """Whether to guide at this level of noise (Kynkäänniemi et al. 2024).

    At high noise guidance reduces variety, and at low noise it has no effect.
    """
    low, high = GUIDED
    return low < math.log(alpha_bar / (1 - alpha_bar)) < high


def guide(
    x_s: Floats, x_0: Floats, untold: Floats, guidance: float, here: float, there: float
) -> tuple[Floats, Floats]:
    """Move a step towards its class: classifier-free guidance (Ho and Salimans 2022, equation 6, where it is w + 1).

    From x_s and the x_0 that were predicted with the class told, and the x_0 without, all [B, C, H, W]; `here` and
    `there` are alpha_bar of the levels that the step leads from and to. Returns x_s and x_0, which stays in [-1, 1].
    """
    moved = (untold + guidance * (x_0 - untold)).clip(-1, 1)
    c_0 = there**0.5 * (1 - here / there) / (1 - here)  # of the posterior's mean
    return x_s + np.float32(c_0) * (moved - x_0), moved


def from_pixels(images: Pixels) -> Floats:
    """The inverse of `to_pixels`: uint8 [B, H, W, C] -> f32 [B, C, H, W] in [-1, 1]."""
    return images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1


def to_pixels(x: npt.ArrayLike) -> Pixels:
    """f32 [B, C, H, W] in [-1, 1] -> uint8 [B, H, W, C]; values beyond are clipped."""
    levels: Floats = np.rint((np.asarray(x, np.float32).transpose(0, 2, 3, 1) + 1) * 127.5)
    return levels.clip(0, 255).astype(np.uint8)
