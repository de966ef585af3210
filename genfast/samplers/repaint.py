"""Inpainting by a diffusion model that was trained to draw whole images (Lugmayr et al. 2022, RePaint)."""

from collections.abc import Callable, Sequence

import numpy as np

from genfast.samplers.ddgan import Step, to_pixels
from genfast.samplers.noise import Purpose, normal
from genfast.samplers.options import RePaintOptions
from genfast.types import Floats, Mask, Pixels


def repaint(
    step: Step,
    x_0: Floats,
    hole: Mask,
    options: RePaintOptions,
    *,
    alpha_bar: Sequence[float],
    latent: int | None,
    seed: int,
    indices: Sequence[int],
    callback: Callable[[Pixels], None] | None = None,
) -> Pixels:
    """Draw what the hole [H, W] of x_0 [B, C, H, W] could hold, given the rest (Lugmayr et al. 2022, algorithm 1).

    Before each step, the known pixels are put back as they are at its level of noise (equation 8). Each step is taken
    `resample` times, with q(x_t | x_{t-1}) in between, so that what is drawn and what is known can grow together.
    `alpha_bar` is that of t = 0 .. T. Returns whole pictures as `sample` does: what is known of them is predicted too.
    """
    steps = len(alpha_bar) - 1
    x = normal(seed, indices, 0, Purpose.PRIOR, x_0.shape[1:])  # [B, C, H, W]
    if callback:
        callback(to_pixels(np.where(hole, x, x_0)))
    for t in range(steps, 0, -1):
        for turn in range(options.resample):
            address = seed, indices, t + steps * turn
            signal = np.float32(alpha_bar[t])
            noise = normal(*address, Purpose.KNOWN, x.shape[1:])
            x_t = np.where(hole, x, np.sqrt(signal) * x_0 + np.sqrt(1 - signal) * noise)
            z = None if latent is None else normal(*address, Purpose.LATENT, (latent,))  # [B, L]
            noise = normal(*address, Purpose.POSTERIOR, x.shape[1:]) if t > 1 else np.zeros_like(x)
            x_s, predicted = step(x_t, np.full(len(x), t, np.int64), z, noise)
            x = np.asarray(x_s, np.float32)  # the state comes here, where known pixels are put back into it
            if turn + 1 < options.resample:
                left = np.float32(alpha_bar[t] / alpha_bar[t - 1])
                x = np.sqrt(left) * x + np.sqrt(1 - left) * normal(*address, Purpose.RENEWAL, x.shape[1:])
        if callback:
            callback(to_pixels(predicted))
    return to_pixels(x)
