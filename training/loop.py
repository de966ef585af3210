"""One loop for every family: devices, data order, learning rates, EMA, checkpoints, resuming, logs.

Randomness is a function of (seed, step, process): nothing of it needs saving, and a run that was killed goes on from
its last checkpoint exactly as if it had never been interrupted.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.checkpoint import Checkpoints
from training.data.images import Images, Labels
from training.family import Training
from training.log import Log
from training.recipe import LoopConfig, Recipe

R = TypeVar("R", bound=Recipe)


@lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(_mix(seed, epoch)))


def _mix(*parts: int) -> int:
    """One well-mixed 63-bit seed from several integers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def batch_indices(size: int, batch: int, seed: int, step: int) -> Tensor:
    """Which of `size` images step number `step` takes: (batch,), each epoch a permutation of its own."""
    positions = torch.arange(step * batch, (step + 1) * batch)
    epochs = positions // size
    return torch.cat([_permutation(size, seed, e)[positions[epochs == e] % size] for e in epochs.unique().tolist()])


def learning_rate_factor(loop: LoopConfig, step: int, delay: int = 0) -> float:
    """Share of the full learning rate at a step: zero for `delay` steps, linear warm-up, plateau, cosine to zero."""
    rise = min(1.0, max(0, step + 1 - delay) / max(loop.warmup, 1))
    left = min(1.0, (loop.steps - step) / max(loop.decay, 1))
    return rise * 0.5 * (1 - math.cos(math.pi * left))


def ema(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential moving average for AveragedModel, whose memory is short at first: else it would keep the start."""

    def update(averages: list[Tensor], values: list[Tensor], updates: Tensor) -> None:
        n = int(updates)
        if not averages[0].is_floating_point():  # indices; a call's tensors are of one type
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
            return
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, values, n)

    return update


def batch(data: Images, indices: Tensor) -> Tensor:
    """What `indices` (B,) names: images (B, C, H, W) uint8, in memory channels last, or tokens (B, h, w)."""
    rows = torch.from_numpy(np.stack([data[index] for index in indices.tolist()]))
    return rows.permute(0, 3, 1, 2) if rows.ndim == 4 else rows.long()


def run(
    make: Callable[[R, Fabric], Training[Any]],
    recipe: R,
    images: Images,
    labels: Labels,
    folder: Path,
    fabric: Fabric,
) -> None:
    """Train to the recipe's last step in `folder`, going on from the newest checkpoint there.

    Args:
        make: makes the training of a recipe: `FAMILIES[recipe.family].training`.
        recipe: what to train.
        images: the whole data set.
        labels: [N] int64.
        folder: receives checkpoints, figures.csv, TensorBoard events and grids.
        fabric: launched; its processes share each batch.

    Raises:
        ValueError: the processes cannot share a batch evenly.
    """
    loop = recipe.loop
    if loop.batch % fabric.world_size:
        raise ValueError(f"a batch of {loop.batch} cannot be shared by {fabric.world_size} processes")
    torch.manual_seed(loop.seed)  # equal initial weights in every process
    training = make(recipe, fabric)
    average = AveragedModel(training.networks[training.averaged], multi_avg_fn=ema(loop.ema), use_buffers=True)
    checkpoints = Checkpoints(folder, recipe, fabric, training, average)
    # Taken before a checkpoint is restored, whose optimisers bring their own: the recipe's rates hold.
    rates = {
        name: [(group["lr"], group.get("delay", 0)) for group in optimizer.param_groups]
        for name, optimizer in training.optimizers.items()
    }
    start, hours = checkpoints.restore()
    log = Log(folder, start) if fabric.is_global_zero else None
    targets = torch.from_numpy(labels).to(fabric.device)

    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=fabric.device))
    counts: Counter[str] = Counter()  # of the steps that gave a figure: not all have every one
    began = mark = time.perf_counter()
    logged = start
    for step in range(start, loop.steps):
        for name, optimizer in training.optimizers.items():
            for group, (rate, delay) in zip(optimizer.param_groups, rates[name], strict=True):
                group["lr"] = rate * learning_rate_factor(loop, step, delay)
        torch.manual_seed(_mix(loop.seed, step, fabric.global_rank, 1))  # for layers that draw by themselves: dropout
        rng = torch.Generator(fabric.device).manual_seed(_mix(loop.seed, step, fabric.global_rank))
        mine = batch_indices(len(images), loop.batch, loop.seed, step).chunk(fabric.world_size)[fabric.global_rank]
        for name, value in training.step(batch(images, mine).to(fabric.device), targets[mine], rng, step).items():
            sums[name] += value.detach()
            counts[name] += 1
        average.update_parameters(training.networks[training.averaged])

        done = step + 1
        if done % loop.log_every == 0:
            figures = {name: value.item() / counts[name] for name, value in sums.items()}
            figures["images_per_second"] = (done - logged) * loop.batch / (time.perf_counter() - mark)
            if log:
                log.figures(done, figures)
            sums.clear()
            counts.clear()
            logged, mark = done, time.perf_counter()
        if done % loop.evaluate_every == 0 or done == loop.steps:
            paused = time.perf_counter()
            average.eval()
            figures, pictures = training.evaluate(average.module, images)
            average.train()
            if log:
                log.figures(done, figures)
                log.grid(done, pictures)
            mark += time.perf_counter() - paused
        if done % loop.checkpoint_every == 0 or done == loop.steps:
            checkpoints.save(done, hours + (time.perf_counter() - began) / 3600)
