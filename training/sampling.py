"""Samples while training, through the very loop that users run."""

import numpy as np
import torch
from lightning_fabric import Fabric

from genfast import ddgan
from genfast.noise import Purpose, normal
from training.data import Images, signed
from training.diffusion import ReverseStep, Schedule
from training.loop import gather
from training.nets.unet import UNet

BATCH = 100


@torch.no_grad()
def sample(
    network: UNet, schedule: Schedule, n: int, fabric: Fabric, begin: tuple[Images, int] | None = None
) -> np.ndarray:
    """Draw images 0..n-1 of seed 0, shared out over the processes: [n, H, W, C] uint8 in every process.

    Classes take turns. With `begin` = (images, k) the last k steps alone are run, from x_k of the first n of these, and
    none is told.
    """
    reverse, config = ReverseStep(network, schedule), network.config

    def step(x_t, t, z, noise):
        arrays = (x_t, t, z, noise, labels)
        inputs = (None if array is None else torch.from_numpy(array).to(fabric.device) for array in arrays)
        return tuple(output.cpu().numpy() for output in reverse(*inputs))

    parts = []
    share = -(-n // fabric.world_size)
    mine = range(fabric.global_rank * share, (fabric.global_rank + 1) * share)
    for indices in (mine[i : i + BATCH] for i in range(0, share, BATCH)):
        labels = np.array(indices) % config.classes if config.classes else None
        draw = {"latent": config.latent or None, "seed": 0, "indices": indices}
        if begin is None:
            shape = (config.channels, config.size, config.size)
            parts.append(ddgan.sample(step, steps=schedule.steps, shape=shape, **draw))
        else:
            images, k = begin
            labels = None if labels is None else np.full_like(labels, config.classes)
            pixels = torch.from_numpy(np.stack([images[i] for i in indices])).to(fabric.device)  # (B, H, W, C)
            x_0 = signed(pixels.permute(0, 3, 1, 2))
            noise = torch.from_numpy(normal(0, indices, k, Purpose.PRIOR, x_0.shape[1:])).to(fabric.device)
            x_k = schedule.q_sample(x_0, torch.full((len(x_0),), k, device=x_0.device), noise)
            parts.append(ddgan.denoise(step, x_k.cpu().numpy(), steps=k, **draw))
    return gather(fabric, torch.from_numpy(np.concatenate(parts)))[:n].cpu().numpy()
