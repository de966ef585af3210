"""Samples while training, through the very samplers that users run."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from genfast.attributes import Rows
from genfast.models.drafts import Drafts
from genfast.samplers import ddgan
from genfast.samplers.token_step import TokenBatch, TokenNetwork
from genfast.types import Floats, Mask, Pixels, Tokens
from training.diffusion import ReverseStep, Schedule
from training.distributed import gather_rows
from training.nets.hourglass import Hourglass
from training.nets.unet import UNet

BATCH = 100


@torch.no_grad()
def sample(
    network: UNet, schedule: Schedule, n: int, fabric: Fabric, steps: int | None = None, seed: int = 0
) -> Pixels:
    """Draw images 0..n-1 of a seed, shared out over the processes: [n, H, W, C] uint8 in every process.

    Classes take turns. `steps` is a number of steps of the schedule, by default the first.
    """
    reverse, config = ReverseStep(network, schedule), network.config
    labels: Tokens | None = None
    steps = steps or next(iter(schedule.paths))
    path = np.array(schedule.paths[steps])

    def step(
        x_t: npt.ArrayLike, t: Tokens, z: Floats | None, noise: Floats
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        arrays = x_t, path[t], path[t - 1], noise, z, labels
        x_s, x_0 = reverse(*(None if array is None else _tensor(array, fabric) for array in arrays))
        return x_s.cpu().numpy(), x_0.cpu().numpy()

    parts = []
    share = -(-n // fabric.world_size)
    mine = range(fabric.global_rank * share, (fabric.global_rank + 1) * share)
    shape = (config.channels, config.size, config.size)
    for indices in (mine[i : i + BATCH] for i in range(0, share, BATCH)):
        labels = np.array(indices) % config.classes if config.classes else None
        latent = config.latent or None
        parts.append(ddgan.sample(step, steps=steps, latent=latent, shape=shape, seed=seed, indices=indices))
    pictures: Pixels = gather_rows(fabric, torch.from_numpy(np.concatenate(parts)))[:n].cpu().numpy()
    return pictures


def token_batch(
    network: Hourglass, drafts: Drafts | None, indices: list[int], labels: Tokens, rows: Rows | None = None
) -> TokenBatch:
    """Images `indices` of seed 0, of labels [B], with attributes where drafts are given.

    These are `rows` [B, A], by default drawn as training data have them.
    """
    side = network.config.tokens
    draft = np.zeros((len(indices), side**2, 0), np.float32)
    if drafts is not None:
        rows = drafts.table.choose(labels, seed=0, indices=indices) if rows is None else rows
        draft = drafts.of(labels, rows)
    return TokenBatch(0, indices, (side, side), labels, draft)


def token_network(network: Hourglass, keys: Tensor, fabric: Fabric) -> TokenNetwork:
    """A prior as samplers want it; `keys` (R * R, V, W) are those of its head."""

    def predict(tokens: Tokens, label: Tokens, draft: Floats, known: Mask) -> Floats:
        inputs = (_tensor(array, fabric) for array in (tokens, label, draft, known))
        with torch.no_grad(), fabric.autocast():
            hidden = network.predict(*inputs)
        return hidden.float().cpu().numpy()

    def draw(
        hidden: npt.ArrayLike,
        tokens: Tokens,
        update: Mask,
        temperature: Floats,
        uniform: Floats,
        return_prob: Mask,
        logit_bias: npt.ArrayLike,
    ) -> tuple[Tokens, Floats]:
        arrays = hidden, tokens, update, temperature, uniform, return_prob, logit_bias
        with fabric.autocast():
            drawn, probability = network.token_head.draw(*(_tensor(array, fabric) for array in arrays), keys=keys)
        return drawn.cpu().numpy(), probability.cpu().numpy()

    return TokenNetwork(predict, draw, network.config.vocabulary, unlabelled=network.config.classes)


def _tensor(array: npt.ArrayLike, fabric: Fabric) -> Tensor:
    return torch.from_numpy(np.asarray(array)).to(fabric.device)
