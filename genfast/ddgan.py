"""The reverse process of a denoising diffusion GAN (Xiao et al. 2022, section 3), and of a DDPM."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from genfast.noise import Purpose, normal

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


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
    watch: Callable[[Pixels], None] | None = None,
) -> Pixels:
    """Draw x_T ~ N(0, I), then x_{t-1} ~ p(x_{t-1} | x_t) for t = T .. 1 (Xiao et al. 2022, equation 4).

    `steps` is T, `latent` the length of z, `shape` (C, H, W), `indices` the images of `seed` to draw.
    Returns uint8 [B, H, W, C]. `watch` is given x_T and the x_0 that each step predicts, as pixels likewise.
    """
    # Addressed as step 0, so that networks of different T start from the same x_T and can be compared by image.
    x = normal(seed, indices, 0, Purpose.PRIOR, shape)  # [B, C, H, W]
    if watch:
        watch(to_pixels(x))
    return denoise(step, x, steps=steps, latent=latent, seed=seed, indices=indices, watch=watch)


def denoise(
    step: Step,
    x: Floats,
    *,
    steps: int,
    latent: int | None,
    seed: int,
    indices: Sequence[int],
    watch: Callable[[Pixels], None] | None = None,
) -> Pixels:
    """Run the last `steps` steps of the reverse process from x = x_steps [B, C, H, W]; otherwise as `sample`."""
    x_t: npt.ArrayLike = x
    for t in range(steps, 0, -1):
        z = None if latent is None else normal(seed, indices, t, Purpose.LATENT, (latent,))  # [B, L]
        # q(x_0 | x_1, x_0) has no variance.
        noise = normal(seed, indices, t, Purpose.POSTERIOR, x.shape[1:]) if t > 1 else np.zeros_like(x)
        x_t, x_0 = step(x_t, np.full(len(x), t, np.int64), z, noise)
        if watch:
            watch(to_pixels(x_0))
    return to_pixels(x_t)


def inpaint(
    step: Step,
    x_0: Floats,
    hole: npt.NDArray[np.bool_],
    *,
    alpha_bar: Sequence[float],
    latent: int | None,
    seed: int,
    indices: Sequence[int],
    resample: int = 1,
    watch: Callable[[Pixels], None] | None = None,
) -> Pixels:
    """Draw what the hole [H, W] of x_0 [B, C, H, W] could hold, given the rest (Lugmayr et al. 2022, RePaint).

    Before each step, the known pixels are put back as they are at its level of noise. Each step is taken `resample`
    times, with q(x_t | x_{t-1}) in between, so that what is drawn and what is known can grow together.
    `alpha_bar` is that of t = 0 .. T. Returns whole pictures as `sample` does: what is known of them is predicted too.
    """
    steps = len(alpha_bar) - 1
    x = normal(seed, indices, 0, Purpose.PRIOR, x_0.shape[1:])  # [B, C, H, W]
    if watch:
        watch(to_pixels(np.where(hole, x, x_0)))
    for t in range(steps, 0, -1):
        for turn in range(resample):
            address = seed, indices, t + steps * turn
            signal = np.float32(alpha_bar[t])
            noise = normal(*address, Purpose.KNOWN, x.shape[1:])
            x_t = np.where(hole, x, np.sqrt(signal) * x_0 + np.sqrt(1 - signal) * noise)
            z = None if latent is None else normal(*address, Purpose.LATENT, (latent,))  # [B, L]
            noise = normal(*address, Purpose.POSTERIOR, x.shape[1:]) if t > 1 else np.zeros_like(x)
            x_s, predicted = step(x_t, np.full(len(x), t, np.int64), z, noise)
            x = np.asarray(x_s, np.float32)  # the state comes here, where known pixels are put back into it
            if turn + 1 < resample:
                left = np.float32(alpha_bar[t] / alpha_bar[t - 1])
                x = np.sqrt(left) * x + np.sqrt(1 - left) * normal(*address, Purpose.RENEWAL, x.shape[1:])
        if watch:
            watch(to_pixels(predicted))
    return to_pixels(x)


def to_pixels(x: npt.ArrayLike) -> Pixels:
    """f32 [B, C, H, W] in [-1, 1] -> uint8 [B, H, W, C]; values beyond are clipped."""
    levels: Floats = np.rint((np.asarray(x, np.float32).transpose(0, 2, 3, 1) + 1) * 127.5)
    return levels.clip(0, 255).astype(np.uint8)
