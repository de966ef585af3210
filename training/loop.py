"""One loop for every family: devices, data order, learning rates, EMA, checkpoints, resuming, logs.

Randomness is a function of (seed, step, process): nothing of it needs saving, and a run that was killed goes on from
its last checkpoint exactly as if it had never been interrupted.
"""

import csv
import dataclasses
import json
import math
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genfast import images as files
from genfast.files import atomic
from training.data import Images
from training.recipe import LoopConfig, Recipe


class Training(Protocol):
    """A family's networks and its training step."""

    networks: nn.ModuleDict
    averaged: str  # the network whose EMA users get
    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        """Update every network on images (B, C, H, W) uint8, or tokens (B, h, w), for the step after `step` of them.

        Returns scalars to log.
        """

    def watch(self, network: nn.Module, images: Images) -> tuple[dict[str, float], np.ndarray | None]:
        """Judge the averaged network, given the data set's images.

        Returns figures, those of process 0 being logged, and pictures [N, H, W, C] uint8 for the grid.
        """


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


def ema(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """An exponential moving average for AveragedModel, whose memory is short at first: else it would keep the start."""

    def update(averages: list[Tensor], values: list[Tensor], updates: Tensor) -> None:
        n = int(updates)
        if not averages[0].is_floating_point():  # indices; a call's tensors are of one type
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
            return
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, values, n)

    return update


def average_gradients(fabric: Fabric, network: nn.Module) -> None:
    """Replace gradients by their mean over all processes, in one collective.

    By hand rather than by DistributedDataParallel, which wants one backward pass for each forward pass: a GAN step has
    several, gradient penalties among them.
    """
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    mean = fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def gather(fabric: Fabric, x: Tensor) -> Tensor:
    """The rows of x (N, ...) of every process, in their order: (processes * N, ...)."""
    rows = torch.zeros(fabric.world_size, *x.shape, dtype=x.dtype, device=fabric.device)
    rows[fabric.global_rank] = x
    return fabric.all_reduce(rows, reduce_op="sum").flatten(0, 1)


def batch(data: Images, indices: Tensor) -> Tensor:
    """What `indices` (B,) names: images (B, C, H, W) uint8, in memory channels last, or tokens (B, h, w)."""
    rows = torch.from_numpy(np.stack([data[index] for index in indices.tolist()]))
    return rows.permute(0, 3, 1, 2) if rows.ndim == 4 else rows.long()


def run(recipe: Recipe, images: Images, labels: np.ndarray, folder: Path, fabric: Fabric) -> None:
    """Train to the recipe's last step in `folder`, going on from the newest checkpoint there.

    Args:
        recipe: what to train.
        images: the whole data set.
        labels: [N] int64.
        folder: receives checkpoints, figures.csv, TensorBoard events and grids.
        fabric: launched; its processes share each batch.

    Raises:
        ValueError: the processes cannot share a batch evenly.
    """
    from training.families import FAMILIES

    loop = recipe.loop
    if loop.batch % fabric.world_size:
        raise ValueError(f"a batch of {loop.batch} cannot be shared by {fabric.world_size} processes")
    torch.manual_seed(loop.seed)  # equal initial weights in every process
    training: Training = FAMILIES[recipe.family](recipe, fabric)
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
        if done % loop.watch_every == 0 or done == loop.steps:
            paused = time.perf_counter()
            average.eval()
            figures, pictures = training.watch(average.module, images)
            average.train()
            if log:
                log.figures(done, figures)
                log.grid(done, pictures)
            mark += time.perf_counter() - paused
        if done % loop.checkpoint_every == 0 or done == loop.steps:
            checkpoints.save(done, hours + (time.perf_counter() - began) / 3600)


class Checkpoints:
    """Folders checkpoint-STEP: recipe.json, model.safetensors (averaged network), state.ckpt (what resuming needs)."""

    def __init__(
        self, folder: Path, recipe: Recipe, fabric: Fabric, training: Training, average: AveragedModel
    ) -> None:
        self.folder, self.recipe, self.fabric, self.average = folder, recipe, fabric, average
        self.state = {"networks": training.networks, "average": average, **training.optimizers}

    def save(self, step: int, hours: float) -> None:
        """Write a checkpoint under a temporary name, rename it, and drop all but the newest two."""
        partial = self.folder / "checkpoint.partial"
        if self.fabric.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.fabric.barrier()
        self.fabric.save(partial / "state.ckpt", {**self.state, "step": step, "hours": hours})
        if self.fabric.is_global_zero:
            weights = {name: value.contiguous() for name, value in self.average.module.state_dict().items()}
            save_file(weights, partial / "model.safetensors")
            summary = {"step": step, "images": step * self.recipe.loop.batch, "hours": hours}
            recipe = {"recipe": dataclasses.asdict(self.recipe), **summary}
            (partial / "recipe.json").write_text(json.dumps(recipe, indent=2, default=str))  # paths are no JSON
            partial.replace(self.folder / f"checkpoint-{step:08d}")
            for old in sorted(self.folder.glob("checkpoint-*"))[:-2]:
                shutil.rmtree(old)
        self.fabric.barrier()

    def restore(self) -> tuple[int, float]:
        """Load the newest checkpoint if there is one; return its step and the hours spent so far.

        Raises:
            ValueError: this process finds another than the first.
        """
        found = sorted(self.folder.glob("checkpoint-*"))
        newest = found[-1].name if found else None
        if self.fabric.broadcast(newest) != newest:
            raise ValueError(f"{self.folder} is not the same on all machines: share it, or copy it to each")
        if not found:
            return 0, 0.0
        rest = self.fabric.load(found[-1] / "state.ckpt", self.state)
        return rest["step"], rest["hours"]


def load_average(checkpoint: Path, network: nn.Module) -> nn.Module:
    """Load a checkpoint's averaged weights into a network. Raises ValueError where it is of another shape."""
    try:
        network.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=True)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} holds a network of another shape") from error
    return network


def newest_checkpoint(run: Path) -> Path:
    """The last whole checkpoint of a run's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(run.glob("checkpoint-*"))
    if not found:
        raise FileNotFoundError(f"{run} has no checkpoint; train it first")
    return found[-1]


class Log:
    """figures.csv (step, name, value), TensorBoard events and grids; a resumed run drops what it will redo."""

    def __init__(self, folder: Path, start: int) -> None:
        self.folder, self.csv = folder, folder / "figures.csv"
        folder.mkdir(parents=True, exist_ok=True)
        kept = []
        if self.csv.exists():
            with self.csv.open() as file:
                kept = [row for row in csv.reader(file) if len(row) == 3 and row[0].isdigit() and int(row[0]) <= start]
        with atomic(self.csv) as file:
            file.write("".join(",".join(row) + "\n" for row in [("step", "name", "value"), *kept]).encode())
        self.board = TensorBoardLogger(folder, name="", version="tensorboard", purge_step=start + 1)

    def figures(self, step: int, values: dict[str, float]) -> None:
        with self.csv.open("a") as file:
            file.writelines(f"{step},{name},{value:.6g}\n" for name, value in values.items())
        self.board.log_metrics(values, step)
        if values:
            print(f"{step}: " + "  ".join(f"{name} {value:.4g}" for name, value in values.items()), flush=True)

    def grid(self, step: int, pictures: np.ndarray | None) -> None:
        """Save the first hundred pictures [N, H, W, C] as one sheet."""
        if pictures is not None:
            files.write(self.folder / f"grid-{step:08d}.png", files.contact_sheet(pictures[:100]))
