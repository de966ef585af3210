"""The reverse process of a denoising diffusion GAN (Xiao et al. 2022, section 3), and of a DDPM."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from genfast.noise import Purpose, normal

Floats = npt.NDArray[np.float32]


class Step(Protocol):
    """One reverse step for a batch of B images.

    x_t [B, C, H, W] f32; t [B] i64, T .. 1; z [B, L] f32, None for a DDPM; noise [B, C, H, W] f32
    -> x_{t-1} and the x_0 that was predicted, both [B, C, H, W] f32. At t = 1 the two are equal.
    """

    def __call__(
        self, x_t: Floats, t: npt.NDArray[np.int64], z: Floats | None, noise: Floats, /
    ) -> tuple[Floats, Floats]: ...


def sample(
    step: Step, *, steps: int, latent: int | None, shape: tuple[int, int, int], seed: int, indices: Sequence[int]
) -> npt.NDArray[np.uint8]:
    """Draw x_T ~ N(0, I), then x_{t-1} ~ p(x_{t-1} | x_t) for t = T .. 1 (Xiao et al. 2022, equation 4).

    `steps` is T, `latent` the length of z, `shape` (C, H, W), `indices` the images of `seed` to draw.
    Returns uint8 [B, H, W, C].
    """
    # Addressed as step 0, so that networks of different T start from the same x_T and can be compared by image.
    x = normal(seed, indices, 0, Purpose.PRIOR, shape)  # [B, C, H, W]
    return denoise(step, x, steps=steps, latent=latent, seed=seed, indices=indices)


def denoise(
    step: Step, x: Floats, *, steps: int, latent: int | None, seed: int, indices: Sequence[int]
) -> npt.NDArray[np.uint8]:
    """Run the last `steps` steps of the reverse process from x = x_steps [B, C, H, W]; otherwise as `sample`."""
    for t in range(steps, 0, -1):
        z = None if latent is None else normal(seed, indices, t, Purpose.LATENT, (latent,))  # [B, L]
        # q(x_0 | x_1, x_0) has no variance.
        noise = normal(seed, indices, t, Purpose.POSTERIOR, x.shape[1:]) if t > 1 else np.zeros_like(x)
        x, _ = step(x, np.full(len(x), t, np.int64), z, noise)
    return to_pixels(x)


def to_pixels(x: Floats) -> npt.NDArray[np.uint8]:
    """f32 [B, C, H, W] in [-1, 1] -> uint8 [B, H, W, C]; values beyond are clipped."""
    levels: Floats = np.rint((x.transpose(0, 2, 3, 1) + 1) * 127.5)
    return levels.clip(0, 255).astype(np.uint8)
